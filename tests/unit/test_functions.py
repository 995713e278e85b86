"""To probe another function takes only an entry in the table and a handler: facts, plan, flags, choices and the result
of attaching follow from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from make_facts import make_facts

from mmwatch.kernel import builder_process, events, source
from mmwatch.kernel.builder import Attached
from mmwatch.kernel.builder_process import Options
from mmwatch.kernel.events import EVENTS, FOLLOW_CHILDREN, FUNCTIONS, NEEDS, Function, Need
from mmwatch.kernel.facts import gather
from mmwatch.kernel.plan import FENTRY, KPROBE, Choice, Plan, Probe, plan
from mmwatch.kernel.tracer import _what_came_of

CHARGE = Function(
    "try_charge", "charges", (("mem_cgroup", "id"), ("scan_control", "order")), (("mem_cgroup", "swappiness"),)
)
SHRINK_NODE = next(function for function in FUNCTIONS if function.name == "shrink_node")
KALLSYMS = """\
ffffffff81000000 T shrink_node
ffffffff81000010 t shrink_node.cold
ffffffff81000020 t try_charge.isra.0
ffffffff81000030 t try_charge.isra.0.cold
ffffffff81000040 t try_charge.constprop.0
ffffffff81000050 t retry_charge
ffffffff81000060 T try_charges
ffffffff81000070 d try_charge
"""


@pytest.fixture(autouse=True)
def two_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table with another entry."""
    monkeypatch.setattr(events, "FUNCTIONS", (SHRINK_NODE, CHARGE))
    monkeypatch.setattr(events, "NEEDS", (*NEEDS, Need("charges", "each charge of a page")))


def facts(**fields: Any) -> Any:
    """A host that has both."""
    names = ("shrink_node", "try_charge")
    offsets = {(struct, member): 8 for struct, members in events.members().items() for member in members}
    known = {"functions": frozenset(names), "symbols": {name: (name,) for name in names}, "offsets": offsets}
    return make_facts(**{**known, **fields})


def choice(choices: tuple[Choice, ...], need: str) -> Choice:
    return next(choice for choice in choices if choice.need == need)


def test_its_members_are_looked_up_in_btf() -> None:
    members = events.members()
    assert members["mem_cgroup"] == ("css", "id", "swappiness")
    own = ("nr_to_reclaim", "priority", "nr_reclaimed", "proactive", "target_mem_cgroup")
    assert members["scan_control"] == (*own, "order")


def test_its_names_are_looked_up_in_kallsyms(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/kallsyms").write_text(KALLSYMS)
    found = gather(tmp_path)
    assert found.functions == frozenset()
    assert found.symbols == {
        "shrink_node": ("shrink_node",),
        "try_charge": ("try_charge.isra.0", "try_charge.constprop.0"),
    }


def test_it_gets_probes_flags_and_a_choice() -> None:
    made = plan(facts(preemptible=True))
    assert made.probes["try_charge"] == (
        Probe(CHARGE, FENTRY, "try_charge", pair=True),
        Probe(CHARGE, KPROBE, "try_charge"),
    )
    assert [probe.flags for probe in made.probes["try_charge"]] == [
        ("-DFENTRY_try_charge", "-DPAIR_try_charge"),
        ("-DKPROBE_try_charge",),
    ]
    assert "-DOFF_mem_cgroup_swappiness=8" in made.flags
    assert choice(made.choices, "charges").probe == "fentry try_charge"
    assert choice(made.choices, "passes") == choice(plan(facts(preemptible=True)).choices, "passes")
    assert made.choices[-1].need == "charges"


def test_without_it_the_other_is_probed_all_the_same() -> None:
    made = plan(facts(functions=frozenset({"shrink_node"}), symbols={"shrink_node": ("shrink_node",)}))
    found = choice(made.choices, "charges")
    assert (found.state, found.reason) == ("missing", "this kernel has no function try_charge")
    assert choice(made.choices, "passes").state == "attached"
    made = plan(facts(), passes="none")
    assert choice(made.choices, "charges").state == "attached"
    assert choice(made.choices, "passes").state == "off"
    assert made.probes["shrink_node"] == ()


def test_a_member_it_cannot_do_without() -> None:
    offsets = {key: value for key, value in facts().offsets.items() if key != ("mem_cgroup", "id")}
    made = plan(facts(offsets=offsets))
    assert choice(made.choices, "charges").reason == "BTF does not say where id is in struct mem_cgroup"
    offsets = {key: value for key, value in facts().offsets.items() if key != ("mem_cgroup", "swappiness")}
    assert choice(plan(facts(offsets=offsets)).choices, "charges").state == "attached"


# ---- attaching ----


class Attempts:
    """A fake bcc that refuses some symbols. It records what was compiled and attached."""

    def __init__(self, refused: set[str]) -> None:
        self.refused = refused
        self.compiled: list[list[str]] = []
        self.attached: list[list[str]] = []

    def compile(self, _plan: Plan, _options: Options, probes: list[Probe], _bcc: object) -> Attempts:
        self.compiled.append([str(probe) for probe in probes])
        self.attached.append([])
        return self

    def attach(self, _bpf: Attempts, probe: Probe) -> list[tuple[int, int]]:
        if str(probe) in self.refused:
            raise Exception("no luck")
        self.attached[-1].append(str(probe))
        number = 10 * sum(map(len, self.attached))
        return [(number, number + 1)] + [(-1, -2)] * probe.pair

    def cleanup(self) -> None:
        pass


def attach(monkeypatch: pytest.MonkeyPatch, made: Plan, *refused: str) -> tuple[Attempts, Any]:
    bcc = Attempts(set(refused))
    monkeypatch.setattr(builder_process, "_compile", bcc.compile)
    monkeypatch.setattr(builder_process, "_attach_function", bcc.attach)
    monkeypatch.setattr(builder_process.os, "close", lambda _descriptor: None)
    return bcc, builder_process._attach_functions(made, Options(), None)[1]


def outcome(made: Plan, found: Any) -> tuple[tuple[Choice, ...], frozenset[str]]:
    return _what_came_of(made, Attached((), (), 0, {}, found.probes, found.refusals))


def test_each_function_gets_its_first_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(facts())
    bcc, found = attach(monkeypatch, made)
    assert bcc.compiled == [["fentry shrink_node", "fentry try_charge"]]
    assert (found.programs, found.links, found.paired) == ([10, 20], [11, 21], 0)
    assert outcome(made, found) == (made.choices, made.unknown)


def test_pairs_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    _, found = attach(monkeypatch, plan(facts(preemptible=True)), "fentry shrink_node")
    assert (found.programs, found.paired) == ([20, -1, 10], 2)


def test_what_the_kernel_refuses_is_tried_otherwise_with_all_attached_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(facts())
    bcc, found = attach(monkeypatch, made, "fentry try_charge")
    assert bcc.compiled == [["fentry shrink_node", "fentry try_charge"], ["fentry shrink_node", "kprobe try_charge"]]
    assert bcc.attached == [["fentry shrink_node"], ["fentry shrink_node", "kprobe try_charge"]]
    choices, unknown = outcome(made, found)
    assert choice(choices, "charges").probe == "kprobe try_charge"
    assert choice(choices, "charges").reason == "refused: fentry try_charge: no luck"
    assert choice(choices, "passes") == choice(made.choices, "passes")
    assert unknown == made.unknown


def test_other_names_need_no_other_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"shrink_node": ("shrink_node.isra.0", "shrink_node.isra.1"), "try_charge": ("try_charge",)}
    bcc, found = attach(monkeypatch, plan(facts(functions=frozenset(), symbols=names)), "kprobe shrink_node.isra.0")
    assert len(bcc.compiled) == 1
    assert bcc.attached == [["kprobe shrink_node.isra.1", "kprobe try_charge"]]
    assert set(found.probes) == {"passes", "charges"}


def test_what_is_refused_altogether_is_unknown_and_the_other_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(facts())
    _, found = attach(monkeypatch, made, "fentry shrink_node", "kprobe shrink_node")
    choices, unknown = outcome(made, found)
    passes = choice(choices, "passes")
    assert (passes.state, passes.probe) == ("missing", "")
    assert passes.reason == "refused: fentry shrink_node: no luck; kprobe shrink_node: no luck"
    assert unknown >= set(next(need.measures for need in NEEDS if need.name == "passes"))
    assert choice(choices, "charges").state == "attached"


def test_each_function_serves_a_need_of_its_own() -> None:
    """A need has one choice: two functions, or a function and tracepoints, would hide each other."""
    needs = [function.need for function in FUNCTIONS]
    assert len(set(needs)) == len(needs)
    assert set(needs).isdisjoint(event.need for event in (*EVENTS, FOLLOW_CHILDREN))
    assert set(needs) <= {need.name for need in NEEDS}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_each_function_has_its_handlers_in_the_program(function: Function) -> None:
    text = source.program().decode()
    name = function.name
    back = (f"KRETFUNC_PROBE({name}, ", f"on_{name}_return(", f"on_{name}_return_pair(") if function.returns else ()
    for handler in (f"KFUNC_PROBE({name}, ", f"on_{name}(", f"on_{name}_pair(", *back):
        assert handler in text, f"bpf/{function.name}.h should have it, and bpf/reclaim.bpf.c should include that"
