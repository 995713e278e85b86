"""The C compiles with every set of flags that a plan can make. The test needs no root, BPF, BCC or kernel headers.

The flags come from :func:`plan` and :func:`compile_flags`, and so from facts: saved facts of real kernels, and random
ones. There are far too many sets of flags to compile all of them. These are compiled:

- *kernels*: the flags of the laboratory's kernels, with each option by itself;
- *events*: each event missing on its own, and each of its signatures on its own, raw and through perf;
- *pairs*: from thousands of random hosts, enough to cover each pair that any of them has. A pair is two macros in one
  set of flags, each undefined or with a value (all numbers count as one value).

Pairs suffice because a mistake involves two conditions: a name is used under one and declared under the other. Nested
conditions, or conditions joined by &&, can be more than two, so every branch of the C must be compiled at least once.

``bcc/`` replaces BCC with its table macros and helpers, with the same types. BCC makes a struct for each tracepoint
that is attached through perf; here it is made from the fields in the facts.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, product
from pathlib import Path

import numpy as np
import pytest
from clang.cindex import Diagnostic, Index

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

from make_facts import ALL_EVENTS, FACTS, KERNELS, facts_of, make_facts, without_btf

from mmwatch import abi
from mmwatch.abi import Member
from mmwatch.errors import MmwatchError
from mmwatch.kernel import source
from mmwatch.kernel.builder import check
from mmwatch.kernel.builder_process import Options, compile_flags
from mmwatch.kernel.events import FUNCTIONS, members
from mmwatch.kernel.facts import Facts
from mmwatch.kernel.plan import FENTRY, KPROBE, PERF, RAW, Filter, Plan, Probe, plan
from mmwatch.model.records import RECORD_DTYPE


@cache
def program() -> str:
    """The whole text as the compiler gets it. A test may change it."""
    return source.program().decode()


BRANCH = re.compile(r"^[ \t]*#[ \t]*(?:if|ifdef|ifndef|elif|else)\b.*\n", re.MULTILINE)
BCC = Path(__file__).parent / "bcc"
ISOLATE = "vmscan:mm_vmscan_lru_isolate"
UNKNOWN = ("int",) * 9  # a signature that matches no known one
NO_BTF = ("btf", "raw_arguments", "offsets", "sizes", "enumerators", "taskstats", "proactive_bit", "functions")
FILTERS = (
    Filter(),
    Filter(tgids=(7,)),
    Filter(tgids=(7,), children=True),
    Filter(cgroup_id=7),
    Filter(comm="dd"),
    Filter(tgids=(7,), children=True, cgroup_id=7, comm="dd"),
)
SAMPLE = 4000  # random hosts; three times as many have no further pair

# BCC parses for the machine it runs on; only the generated code is for BPF.
TARGETS = {"x86_64": "x86_64-unknown-linux-gnu", "aarch64": "aarch64-unknown-linux-gnu"}
COMPILER = (
    "-fsyntax-only",
    "-ferror-limit=0",
    "-Wall",
    "-Wextra",
    "-Wno-unused",  # which functions and arguments are used depends on the flags
    "-Wno-unused-parameter",
    "-Wno-sign-compare",
    "-Wno-pointer-sign",  # as BCC has it
    f"-I{abi.bpf_directory() / 'include/include'}",
    "-include",
    "linux/kconfig.h",
    "-include",
    str(BCC / "helpers.h"),
)


@dataclass(frozen=True)
class Compilation:
    """The compiler's input besides the program.

    :param records: the C structs that BCC makes from the tracefs formats.
    """

    flags: tuple[str, ...]
    target: str
    records: str


def compilations(
    facts: Facts,
    wanted: Filter | None = None,
    force: str | None = None,
    passes: str | None = None,
    detail: bool = False,
) -> Iterator[Compilation]:
    """What the builder would compile on a host: nothing if the plan is refused, several if it would try again."""
    made = plan(facts, wanted, force, passes)
    options = Options(wanted or Filter(), frozenset(abi.RECORD_KINDS if detail else ()))
    try:
        check(made, options)
    except MmwatchError:
        return
    for probes in attempts(made):
        flags = tuple(compile_flags(made, options, probes))
        yield Compilation(flags, TARGETS[facts.machine], records(facts, flags))


def attempts(made: Plan) -> Iterator[list[Probe]]:
    """The sets of function probes that may be compiled in together: one per function, each way in turn."""
    yield from map(list, product(*(probes for probes in made.probes.values() if probes)))


def records(facts: Facts, flags: tuple[str, ...]) -> str:
    """A struct for each tracepoint that a flag names. Facts have no types, but all fields read are integers."""
    structs = {f"tracepoint__{name.replace(':', '__')}": fields for name, fields in facts.fields.items()}
    named = sorted(set(re.findall(r"\btracepoint__\w+", "\n".join(flags))))
    return "".join(
        f"struct {name} {{\n\tu64 __do_not_use__;\n"
        + "".join(f"\tu64 {field};\n" for field in sorted(structs[name] or ()) if not field.startswith("common_"))
        + "};\n"
        for name in named
    )


# ---- the compilations ----


def of_kernels() -> Iterator[Compilation]:
    for facts in [FACTS, without_btf(), *map(facts_of, KERNELS)]:
        for machine in TARGETS:
            here = replace(facts, machine=machine)
            yield from compilations(here)
            yield from compilations(here, detail=True)
            for how in (FENTRY, KPROBE, "none"):
                yield from compilations(here, passes=how)
        for wanted in FILTERS:
            for nodes in ((0,), (0, 1)):
                yield from compilations(replace(facts, nodes=nodes), wanted)
        for force in (PERF, RAW):
            yield from compilations(facts, force=force)
        for cgroup in (None, 1, 2):
            for namespace in (0, 4026532000):
                yield from compilations(replace(facts, memory_cgroup=cgroup, pid_namespace=namespace))


def of_events() -> Iterator[Compilation]:
    children = Filter(tgids=(7,), children=True)
    for event in ALL_EVENTS:
        for there in [(), *((name,) for name in event.alternatives)]:
            absent = dict.fromkeys(event.tracepoints)
            fields = {**FACTS.fields, **absent, **{name: frozenset({"pfn"}) for name in there}}
            raw = {name: types for name, types in FACTS.raw_arguments.items() if name not in absent}
            for force in (None, PERF):
                yield from compilations(make_facts(fields=fields, raw_arguments=raw), children, force)
        for types in (*(known.types for known in event.raw), UNKNOWN):
            raw = {**FACTS.raw_arguments, **dict.fromkeys(event.tracepoints, types)}
            for preemptible in (False, True):
                yield from compilations(make_facts(raw_arguments=raw, preemptible_tracepoints=preemptible), children)


def of_pairs() -> Iterator[Compilation]:
    """A subset of the sample that covers every pair in it."""
    chance = random.Random(1)  # reproducible
    made_up = chain.from_iterable(at_random(chance) for _ in range(SAMPLE))
    sample = list(dict.fromkeys(chain(group("kernels"), group("events"), made_up)))
    yield from (sample[index] for index in covering([seen(made.flags) for made in sample]))


def at_random(chance: random.Random) -> Iterator[Compilation]:
    wanted = chance.choice(FILTERS)
    if wanted and chance.random() < 0.5:
        wanted = replace(wanted, comm=chance.choice((None, "dd")), cgroup_id=chance.choice((None, 7)))
    yield from compilations(
        any_host(chance),
        wanted,
        chance.choice((None, None, None, PERF, RAW)),
        chance.choice((None, None, None, FENTRY, KPROBE, "none")),
        chance.random() < 0.5,
    )


def any_host(chance: random.Random) -> Facts:
    """A host in which everything that affects a plan is chosen independently at random."""
    kept = chance.choice(_hosts())
    fields, raw = dict(kept.fields), dict(kept.raw_arguments)
    for event in ALL_EVENTS:
        names = chance.choice([event.tracepoints, event.tracepoints, (), *((name,) for name in event.alternatives)])
        types = chance.choice([None, *(known.types for known in event.raw), UNKNOWN])
        for name in (*event.tracepoints, *event.alternatives):
            if name not in names:
                fields[name] = None
                raw.pop(name, None)
            else:
                fields[name] = fields.get(name) or FACTS.fields.get(name) or frozenset({"pfn"})
                if types:
                    raw[name] = types
    mode = {"isolate_mode"} if chance.random() < 0.5 else set()
    fields[ISOLATE] = fields[ISOLATE] and fields[ISOLATE] - {"isolate_mode"} | mode
    lost = {struct for struct in members() if chance.random() < 0.05}
    often = ("folio", "page")  # of which kernels have one member or another
    offsets = {
        key: at
        for key, at in kept.offsets.items()
        if key[0] not in lost and chance.random() < (0.5 if key[0] in often else 0.98)
    }
    tracefs = chance.choice(("mounted",) * 6 + ("private", "missing"))
    facts = replace(
        kept,
        machine=chance.choice(sorted(TARGETS)),
        fields={} if tracefs == "missing" else fields,
        tracefs=tracefs,
        raw_arguments=raw,
        offsets=offsets,
        sizes={struct: size for struct, size in kept.sizes.items() if struct not in lost},
        enumerators={name: value for name, value in kept.enumerators.items() if chance.random() < 0.9},
        proactive_bit=chance.choice((None, 1)),
        functions=frozenset(one.name for one in FUNCTIONS if chance.random() < 0.8),
        kprobes=chance.random() < 0.8,
        preemptible_tracepoints=chance.random() < 0.3,
        vmemmap_base=chance.choice((None, 1 << 63)),
        preemptible=chance.choice((None, False, False, True)),
        nodes=chance.choice(((0,), (0, 1))),
        lru_gen=chance.choice((None, 0, 7)),
        pid_namespace=chance.choice((0, 4026532000)),
        memory_cgroup=chance.choice((None, 1, 2)),
    )
    if chance.random() < 0.1:
        none = without_btf()
        return replace(facts, **{name: getattr(none, name) for name in NO_BTF})
    return facts


@cache
def _hosts() -> list[Facts]:
    return [FACTS, *map(facts_of, KERNELS)]


def seen(flags: tuple[str, ...]) -> dict[str, str]:
    """Macros and their values, as far as the values matter to the compiler."""
    found = (flag[2:].partition("=") for flag in flags if flag.startswith("-D"))
    return {name: re.sub(r"^-?\d+\w*$", "number", value) for name, _, value in found}


def covering(tables: list[dict[str, str]]) -> list[int]:
    """Indices of the tables that add a pair of macro states that no earlier table has."""
    columns = []
    for name in sorted({name for table in tables for name in table}):
        numbers: dict[str | None, int] = {}
        columns.append([numbers.setdefault(table.get(name), len(numbers)) for table in tables])
    # Macros that are always defined together, with the same values, count as one.
    states = np.unique(np.array(columns), axis=0).T
    states += np.concatenate([[0], np.cumsum(states.max(0) + 1)[:-1]])
    one, other = np.triu_indices(states.shape[1])
    covered = np.zeros((states.max() + 1,) * 2, bool)
    chosen = []
    for index, row in enumerate(states):
        if not covered[row[one], row[other]].all():
            covered[row[one], row[other]] = True
            chosen.append(index)
    return chosen


GROUPS = {"kernels": of_kernels, "events": of_events, "pairs": of_pairs}


@cache
def group(name: str) -> list[Compilation]:
    """Each compilation once, without those of earlier groups."""
    names = list(GROUPS)
    before = {made for earlier in names[: names.index(name)] for made in group(earlier)}
    return [made for made in dict.fromkeys(GROUPS[name]()) if made not in before]


# ---- compiling ----


@dataclass(frozen=True)
class Outcome:
    """:param branches: which of the program's conditional branches were compiled, by their place among them."""

    problems: tuple[str, ...]
    branches: frozenset[int]


def compiled(text: str, made: Compilation) -> Outcome:
    files = {
        "/virtual/include/bcc/bpf.h": (BCC / "bpf.h").read_text(),  # the path of BCC's own file
        "/virtual/records.h": made.records,
        "program.c": text,
    }
    arguments = [*COMPILER, "-include", "/virtual/records.h", "-target", made.target, *made.flags]
    unit = Index.create().parse("program.c", arguments, unsaved_files=list(files.items()))
    branches, problems, lines = set(), [], text.splitlines()
    for told in unit.diagnostics:
        if told.option == "-W#warnings":
            branches.add(int(re.sub(r"\D", "", told.spelling)))
        elif told.severity >= Diagnostic.Warning:
            where = told.location
            line = lines[where.line - 1].strip() if where.file and where.file.name == "program.c" else where.file
            problems.append(f"{told.spelling} [{told.option or 'error'}]: {line}")
    return Outcome(tuple(problems), frozenset(branches))


def marked(text: str) -> str:
    """The text with a warning in each branch, to show which branches are compiled."""
    numbers = iter(range(len(text)))
    return BRANCH.sub(lambda found: f"{found[0]}#warning {next(numbers)}\n", text)


@cache
def outcome(made: Compilation) -> Outcome:
    """The outcome for the unchanged program."""
    return compiled(marked(program()), made)


def report(failed: Iterable[tuple[Compilation, Outcome]]) -> str:
    """Each problem once, with the smallest set of flags that shows it."""
    least: dict[str, Compilation] = {}
    for made, result in failed:
        for problem in result.problems:
            least[problem] = min(least.get(problem, made), made, key=lambda one: len(one.flags))
    return "\n\n".join(f"{problem}\n  {made.target} {' '.join(made.flags)}" for problem, made in least.items())


def test_only_handlers_take_a_context() -> None:
    """BCC defines the struct of a trace record right before the first function with it that is not static."""
    assert re.findall(r"static [^;{}]*struct CTX_\w+", program()) == []
    assert re.search(r"\nint \w+\(struct CTX_\w+", program())


@pytest.mark.parametrize("name", GROUPS)
def test_it_compiles(name: str) -> None:
    """There is no warning about a possible mistake either."""
    results = [(made, outcome(made)) for made in group(name)]
    assert results
    failed = [(made, result) for made, result in results if result.problems]
    if failed:
        pytest.fail(f"{len(failed)} of {len(results)} do not compile:\n{report(failed)}", pytrace=False)


def test_no_branch_is_left_out() -> None:
    """Each branch of each #if is compiled with some set of flags."""
    text = program()
    taken = {branch for name in GROUPS for made in group(name) for branch in outcome(made).branches}
    branches = {number: f"{found[0]}{text[found.end() :][:80]}" for number, found in enumerate(BRANCH.finditer(text))}
    assert {code for number, code in branches.items() if number not in taken} == set()


# ---- it can fail ----


def everything() -> list[Compilation]:
    """Raw, perf and kprobe handlers, with every option."""
    facts = make_facts(pid_namespace=4026532000, memory_cgroup=1, preemptible=True)
    return [
        made
        for force, passes in ((None, None), (PERF, KPROBE))
        for made in compilations(facts, FILTERS[-1], force, passes, detail=True)
    ]


@pytest.mark.parametrize(
    ("pattern", "replacement", "said"),
    [
        (r"ADD\(&at, kswapd_wakeups", "ADD(&at, kswapd_wakeup", "no member named 'kswapd_wakeup'"),
        (r".*\bkswapd_wakeups\b.*\n", "", "no member named 'kswapd_wakeups' in 'struct row'"),
        (r"\bctx->nr_dirty\b", "ctx->nr_dirt", "no member named 'nr_dirt' in 'struct tracepoint__"),
        (r"\bfollowed\.update\(&task", "followed.update(&taks", "undeclared identifier 'taks'"),
        (r"\bbegin\(PATH_MEMCG,", "begin(0, PATH_MEMCG,", "too many arguments to function call"),
        (r"\bbegin\(PATH_MEMCG,", "begin(", "too few arguments to function call"),
        (r"\bstall_bucket\(ns\)", "stall_buckets(ns)", "call to undeclared function 'stall_buckets'"),
        (r"\bwatched_tgids\.lookup\(&tgid\)", "watched_tgids.lookup(&task)", "incompatible pointer types"),
        (r"\bu64 \*(\w+ = followed\.lookup)", r"u32 *\1", "incompatible pointer types"),
        (r"\bslots\.update\(&task, &slot\)", "slots.update(&task)", "too few arguments to function call"),
        (r"\bfree_rows\.pop\(&", "free_rows.pop(", "incompatible integer to pointer conversion"),
        (r"\brecords\.ringbuf_submit\(to,", "records.ringbuf_submit(*to,", "passing 'struct record' to parameter"),
        (r"(bpf_get_current_comm)\(&comm, [^)]*\)\)", r"\1(&comm)", "too few arguments to function call"),
        (r"(= ctx->args\[1\])(, both;)", r"\1->pid\2", "member reference type"),
    ],
)
def test_a_mistake_is_seen(pattern: str, replacement: str, said: str) -> None:
    text, changed = re.subn(pattern, replacement, program(), count=1)
    assert changed, "the program has no such line any more: find another one for this mistake"
    found = [problem for made in everything() for problem in compiled(text, made).problems]
    assert any(said in problem for problem in found), found


def test_a_field_that_a_tracepoint_has_not_is_seen() -> None:
    fields = {name: there and there - {"nr_dirty"} for name, there in FACTS.fields.items()}
    (made,) = compilations(without_btf(fields=fields))
    assert "no member named 'nr_dirty'" in compiled(program(), made).problems[0]


# ---- what Python knows of the C ----


def agreed() -> Iterator[str]:
    """Conditions that Python relies on, as C expressions."""
    for prefix, names, last in (
        ("PATH", abi.PATHS, "PATHS"),
        ("ROW", abi.ROW_STATES, "ROW_STATES"),
        ("RECORD", abi.RECORD_KINDS, "RECORD_KINDS"),
        ("STAT", abi.STATS, "STATS"),
        ("THROTTLE", abi.THROTTLE_REASONS, "THROTTLE_REASONS"),
    ):
        for value, name in enumerate((*names, last)):
            yield f"{prefix}_{name.upper()} == {value}" if name != last else f"{last} == {value}"
    for name in (
        *("COMM_BYTES", "NODE_UNKNOWN", "PRIORITY_UNKNOWN", "PRIORITIES", "ORDERS"),
        *("STALL_SHIFT_MIN", "STALL_BUCKETS", "EPOCHS", "SHRINKERS"),
    ):
        yield f"{name} == {getattr(abi, name)}"
    structs = {"row": abi.ROW, "record": abi.RECORD, "control": abi.CONTROL, "shrinker_work": abi.SHRINKER_WORK}
    for struct, declared in structs.items():
        yield from _agreed_members(struct, declared)
    yield f"sizeof(struct record) == {RECORD_DTYPE.itemsize}"


def _agreed_members(struct: str, members: Sequence[Member]) -> Iterator[str]:
    """Each member directly follows the one before it and has the right type and number of elements."""
    offset = 0
    for one in members:
        member, dtype = f"((struct {struct} *)0)->{one.name}", np.dtype(one.format)
        size = dtype.itemsize * (one.slots if dtype.kind in "iu" and one.slots else 1)
        yield f"__builtin_offsetof(struct {struct}, {one.name}) == {offset} && sizeof({member}) == {size}"
        element = f"{member}[0]" if one.slots else member
        if dtype.kind in "iu":
            yield f"(__typeof__({element}))-1 {'<' if dtype.kind == 'i' else '>'} 0"
            yield f"sizeof({element}) == {dtype.itemsize}"
        offset += size
    yield f"sizeof(struct {struct}) == {offset}"


def disagreeing(conditions: Iterable[str], machine: str = "x86_64") -> tuple[str, ...]:
    asserted = "".join(f'_Static_assert({condition}, "");\n' for condition in conditions)
    made = next(compilations(make_facts(machine=machine), passes=FENTRY))
    return compiled(program() + asserted, made).problems


@pytest.mark.parametrize("machine", TARGETS)
def test_the_compiler_agrees_with_python(machine: str) -> None:
    assert disagreeing(agreed(), machine) == ()


def test_each_disagreement_is_seen() -> None:
    opposites = [f"!({condition})" for condition in agreed()]
    assert len(disagreeing(opposites)) == len(opposites) > 0
