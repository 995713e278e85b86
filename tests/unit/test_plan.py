"""Which probe serves which need: one fact changed at a time."""

from __future__ import annotations

from typing import Any

import pytest
from make_facts import FACTS, TRACEPOINTS, make_facts, ordinary_user, without_btf

from mmwatch.kernel.events import EVENTS, FUNCTIONS, NEEDS
from mmwatch.kernel.plan import (
    FENTRY,
    KPROBE,
    PACKAGES,
    PERF,
    RAW,
    Choice,
    Filter,
    Plan,
    Probe,
    bcc_command,
    measures_of,
    plan,
)

SHRINK_NODE = next(function for function in FUNCTIONS if function.name == "shrink_node")
SLEEP = "schedule_timeout_killable"
TOLD_BY_PASSES = measures_of(("passes", "targets"))
TOLD_ELSEWHERE = {"cpu_ns", "high_sleep_ns"}

BEGIN = "vmscan:mm_vmscan_direct_reclaim_begin"
ISOLATE = "vmscan:mm_vmscan_lru_isolate"
INACTIVE = "vmscan:mm_vmscan_lru_shrink_inactive"


def choice(made: Plan, need: str) -> Choice:
    return next(choice for choice in made.choices if choice.need == need)


def flag_names(made: Plan) -> set[str]:
    return {flag[2:].split("=")[0] for flag in made.flags}


def without(name: str, **fields: Any) -> Any:
    """No such tracepoint."""
    return make_facts(
        fields={**FACTS.fields, name: None},
        raw_arguments={key: value for key, value in FACTS.raw_arguments.items() if key != name},
        **fields,
    )


def test_with_everything_there_every_need_gets_a_raw_tracepoint() -> None:
    made = plan(FACTS)
    assert [choice.need for choice in made.choices] == [need.name for need in NEEDS]
    assert {choice.state for choice in made.choices} == {"attached"}
    assert {attachment.how for attachment in made.attachments} == {RAW}
    assert (made.blockers, made.problems, made.unknown) == ((), (), frozenset())


def test_every_event_serves_a_declared_need() -> None:
    without_tracepoint = {"passes", "cpu", "high", "targets"}
    assert {event.need for event in EVENTS} == {need.name for need in NEEDS} - without_tracepoint


@pytest.mark.parametrize(
    "tracepoint", sorted({name for event in EVENTS if event.required for name in event.tracepoints})
)
def test_without_a_tracepoint_its_need_alone_suffers(tracepoint: str) -> None:
    made = plan(without(tracepoint, tracefs="private"))
    event = next(event for event in EVENTS if tracepoint in event.tracepoints)
    if len(event.tracepoints) > 1:  # the other ends of reclaim are there
        assert {choice.state for choice in made.choices} == {"attached"}
        return
    missing = [choice for choice in made.choices if choice.state == "missing"]
    assert [choice.need for choice in missing] == [event.need]
    assert (missing[0].reason, missing[0].remedy) == (f"this kernel has no {tracepoint}", "")
    assert made.unknown == frozenset(next(need.measures for need in NEEDS if need.name == event.need))
    assert made.blockers == ()


MEMCG_BEGIN = "vmscan:mm_vmscan_memcg_reclaim_begin"
POINTER = ("gfp_t", "int", "mem_cgroup *")


def test_passes_tell_the_target() -> None:
    made = plan(FACTS)
    assert choice(made, "targets").probe == choice(made, "passes").probe == "fentry shrink_node"
    off = plan(FACTS, passes="none")
    assert choice(off, "targets").state == "off"
    assert "target_id" in off.unknown
    for member in (("scan_control", "target_mem_cgroup"), ("mem_cgroup", "css"), ("kernfs_node", "id")):
        made = plan(make_facts(offsets={key: at for key, at in FACTS.offsets.items() if key != member}))
        found = choice(made, "targets")
        reason = f"BTF does not say where {member[1]} is in struct {member[0]}"
        assert (found.state, found.reason) == ("missing", reason)
        assert choice(made, "passes").state == "attached"
        assert made.unknown == {"target_id"}


def test_the_begin_of_a_reclaim_tells_its_target_without_passes() -> None:
    made = plan(make_facts(raw_arguments={**FACTS.raw_arguments, MEMCG_BEGIN: POINTER}), passes="none")
    assert (choice(made, "targets").probe, choice(made, "targets").state) == (RAW, "attached")
    assert "target_id" not in made.unknown
    named = {**FACTS.fields, MEMCG_BEGIN: frozenset({"gfp_flags", "memcg_id", "order"})}
    made = plan(make_facts(fields=named), force=PERF, passes="none")
    assert (choice(made, "targets").probe, choice(made, "targets").state) == (PERF, "attached")
    assert choice(plan(FACTS, force=PERF, passes="none"), "targets").state == "off"


def test_without_an_optional_event_nothing_is_missing() -> None:
    assert plan(without("vmscan:mm_vmscan_balance_pgdat_end")).choices == plan(FACTS).choices


def test_an_older_name_is_taken_where_the_newer_is_missing() -> None:
    old = "vmscan:mm_vmscan_writepage"
    facts = without("vmscan:mm_vmscan_write_folio")
    facts = make_facts(fields={**facts.fields, old: frozenset({"pfn"})}, raw_arguments=facts.raw_arguments)
    made = plan(facts)
    assert choice(made, "writes").state == "degraded"
    assert [a.tracepoints for a in made.attachments if a.event.name == "write_folio"] == [(old,)]


def test_without_btf_probes_go_through_perf() -> None:
    made = plan(without_btf())
    states = {choice.need: choice.state for choice in made.choices}
    # sched_process_free has one signature in all releases, so it is raw all the same.
    assert states.pop("lifetimes") == "attached"
    assert {states.pop(need) for need in ("passes", "cpu", "high", "targets")} == {"missing"}
    assert set(states.values()) == {"degraded"}
    assert made.unknown == TOLD_BY_PASSES | TOLD_ELSEWHERE
    assert all("perf" in choice.reason for choice in made.choices if choice.state == "degraded")


def test_without_btf_tracefs_must_be_mounted() -> None:
    made = plan(without_btf(tracefs="private"))
    found = choice(made, "direct")
    assert (found.state, found.remedy) == ("missing", "mount -t tracefs nodev /sys/kernel/tracing")
    assert "tracefs must be mounted" in found.reason


def test_btf_alone_is_enough() -> None:
    made = plan(make_facts(fields={}, tracefs="missing", tracefs_reason="not mounted"))
    assert {choice.state for choice in made.choices} == {"attached"}


def test_an_unknown_signature_goes_through_perf() -> None:
    made = plan(make_facts(raw_arguments={**FACTS.raw_arguments, BEGIN: ("int", "int", "int", "int")}))
    assert choice(made, "direct").state == "degraded"
    assert choice(made, "memcg").state == "attached"


def test_fields_that_were_renamed_are_a_reason() -> None:
    made = plan(without_btf(fields={**FACTS.fields, BEGIN: frozenset({"order", "flags"})}))
    assert choice(made, "direct").reason == "the tracepoint lacks the fields gfp_flags"


def test_newer_signatures_are_known() -> None:
    made = plan(make_facts(raw_arguments={**FACTS.raw_arguments, BEGIN: ("gfp_t", "int", "mem_cgroup *")}))
    flags = next(a.flags for a in made.attachments if a.event.name == "direct_reclaim_begin")
    assert "-DARG_direct_reclaim_begin_order=ctx->args[1]" in flags


def test_a_struct_whose_members_are_unknown_is_not_read() -> None:
    offsets = {key: value for key, value in FACTS.offsets.items() if key != ("reclaim_stat", "nr_dirty")}
    assert choice(plan(make_facts(offsets=offsets)), "batches").state == "degraded"


def test_where_tracepoints_are_preempted_a_pair_sees_writes_unless_the_trace_record_leads_to_the_folio() -> None:
    """What goes through perf is not preempted, but only the raw arguments have the folio itself."""

    def how(**fields: Any) -> tuple[str, bool]:
        made = plan(make_facts(preemptible_tracepoints=True, **fields))
        assert choice(made, "writes").state == "attached"
        (found,) = (a for a in made.attachments if a.event.name == "write_folio")
        assert ("-DPAIR_write_folio" in found.flags) == found.pair
        return found.how, found.pair

    known: dict[str, Any] = {"vmemmap_base": 1 << 63, "sizes": {**FACTS.sizes, "page": 64}}
    assert how(**known) == (PERF, False)
    assert how(**known, tracefs="private") == (RAW, True)
    assert how(**known, enumerators={}) == (RAW, True)
    assert how(sizes=known["sizes"]) == (RAW, True)
    assert how(vmemmap_base=1 << 63) == (RAW, True)


def test_perf_can_be_forced() -> None:
    made = plan(FACTS, force=PERF)
    assert {a.how for a in made.attachments if a.event.name != "sched_process_free"} == {PERF}


# ---- the multi-generational LRU ----


@pytest.mark.parametrize(("lru_gen", "silent"), [(None, False), (0, False), (7, True), (1, True), (6, False)])
def test_batches_of_a_silent_lru_are_unknown(lru_gen: int | None, silent: bool) -> None:
    fields = {**FACTS.fields, ISOLATE: FACTS.fields[ISOLATE] | {"isolate_mode"}}
    made = plan(make_facts(fields=fields, lru_gen=lru_gen))
    assert (choice(made, "batches").state == "missing") is silent
    assert (choice(made, "scans").state == "missing") is silent
    assert ("reclaimed_file_pages" in made.unknown) is silent
    assert ("NODE_GUESS" in flag_names(made)) is silent
    assert bool(choice(made, "batches").remedy) is silent


def test_an_lru_that_tells_is_shown() -> None:
    assert choice(plan(make_facts(lru_gen=7)), "batches").state == "attached"


# ---- what stands in the way ----


@pytest.mark.parametrize("capabilities", [None, frozenset({"CAP_SYS_ADMIN"}), frozenset({"CAP_BPF", "CAP_PERFMON"})])
def test_enough_privilege_or_not_known_is_no_blocker(capabilities: frozenset[str] | None) -> None:
    assert plan(make_facts(root=False, capabilities=capabilities)).blockers == ()


@pytest.mark.parametrize("capabilities", [frozenset(), frozenset({"CAP_BPF"}), frozenset({"CAP_NET_ADMIN"})])
@pytest.mark.parametrize("root", [False, True])
def test_too_little_privilege_is_one(capabilities: frozenset[str], root: bool) -> None:
    (blocker,) = plan(make_facts(root=root, capabilities=capabilities)).blockers
    assert "CAP_PERFMON" in blocker[0]
    assert ("container" in blocker[1]) is root
    assert blocker[2]


def test_an_ordinary_user_lacks_permission_and_no_more_is_claimed() -> None:
    made = plan(ordinary_user())
    assert [permission for _, _, permission in made.blockers] == [True]
    assert {choice.remedy for choice in made.choices} <= {"run as root", ""}


@pytest.mark.parametrize(
    ("distribution", "command"),
    [
        (("debian",), "apt-get install python3-bpfcc"),
        (("linuxmint", "ubuntu", "debian"), "apt-get install python3-bpfcc"),
        (("fedora",), "dnf install python3-bcc"),
        (("rocky", "rhel", "centos", "fedora"), "dnf install python3-bcc"),
        (("opensuse-leap", "suse", "opensuse"), "zypper install python3-bcc"),
    ],
)
def test_without_bcc_the_distributions_command_is_named(distribution: tuple[str, ...], command: str) -> None:
    (blocker,) = plan(make_facts(bcc=False, distribution=distribution)).blockers
    assert blocker[1].startswith(command)
    assert not blocker[2]


@pytest.mark.parametrize("distribution", [(), ("plan9",)])
def test_an_unknown_distribution_gets_the_names_of_the_package(distribution: tuple[str, ...]) -> None:
    assert "python3-bpfcc or python3-bcc" in bcc_command(distribution)
    assert all(
        command.split()[-1] in ("python3-bpfcc", "python3-bcc", "python-bcc", "py3-bcc")
        for command in PACKAGES.values()
    )


def test_not_knowing_whether_there_is_bcc_is_no_blocker() -> None:
    assert plan(make_facts(bcc=None)).blockers == ()


@pytest.mark.parametrize(("lockdown", "blocked"), [(None, 0), ("none", 0), ("integrity", 0), ("confidentiality", 1)])
def test_lockdown(lockdown: str | None, blocked: int) -> None:
    assert len(plan(make_facts(lockdown=lockdown)).blockers) == blocked


def test_a_kernel_without_the_tracepoints() -> None:
    made = plan(make_facts(fields=dict.fromkeys(TRACEPOINTS), raw_arguments={}))
    (blocker,) = made.blockers
    assert blocker[0].startswith("no vmscan tracepoint was found")
    assert "reclaimed_file_pages" in made.unknown


# ---- nodes, cgroups, namespaces, filters ----


def test_one_node_needs_no_guess() -> None:
    assert "-DCPU_NODE=0" in plan(make_facts(nodes=(0,))).flags
    assert {"CPU_NODE", "NODE_GUESS"}.isdisjoint(flag_names(plan(FACTS)))


@pytest.mark.parametrize(("version", "flag"), [(None, None), (1, "MEMORY_CGRP_ID"), (2, "CGROUP_V2")])
def test_cgroup_versions(version: int | None, flag: str | None) -> None:
    found = flag_names(plan(make_facts(memory_cgroup=version))) & {"MEMORY_CGRP_ID", "CGROUP_V2"}
    assert found == ({flag} if flag else set())


def test_without_btf_the_cgroup_is_known_on_version_2_only() -> None:
    assert "MEMORY_CGRP_ID" not in flag_names(plan(without_btf(memory_cgroup=1)))
    assert "CGROUP_V2" in flag_names(plan(without_btf(memory_cgroup=2)))


def test_a_pid_namespace_is_translated_with_btf() -> None:
    assert "PIDNS_INUM" in flag_names(plan(make_facts(pid_namespace=4026532000)))
    made = plan(without_btf(pid_namespace=4026532000))
    assert "PIDNS_INUM" not in flag_names(made)
    assert "initial PID namespace" in made.problems[0]


def test_filters() -> None:
    assert "FILTER_TGID" in flag_names(plan(FACTS, Filter(tgids=(7,))))
    assert "FILTER_CGROUP" in flag_names(plan(FACTS, Filter(cgroup_id=7)))
    assert "-DFILTER_COMM_LOW=26984ULL" in plan(FACTS, Filter(comm="hi")).flags
    assert plan(without_btf(), Filter(tgids=(7,), comm="x")).problems == ()
    assert "cgroup filter" in plan(without_btf(), Filter(cgroup_id=7)).problems[0]


def test_a_long_comm_is_cut_as_the_kernel_does() -> None:
    assert plan(FACTS, Filter(comm="a" * 15)).flags == plan(FACTS, Filter(comm="a" * 40)).flags


def test_children_are_followed_where_btf_tells_how() -> None:
    wanted = Filter(tgids=(7,), children=True)
    made = plan(FACTS, wanted)
    assert "sched_process_fork" in [attachment.event.name for attachment in made.attachments]
    assert made.problems == ()
    made = plan(without_btf(), wanted)
    assert "sched_process_fork" not in [attachment.event.name for attachment in made.attachments]
    assert "children cannot be followed" in made.problems[0]


def test_a_plan_is_pure() -> None:
    assert plan(FACTS) == plan(FACTS)


def test_passes_are_tried_by_fentry_then_by_kprobe() -> None:
    made = plan(FACTS)
    probes = made.probes["shrink_node"]
    assert probes == (Probe(SHRINK_NODE, FENTRY, "shrink_node"), Probe(SHRINK_NODE, KPROBE, "shrink_node"))
    assert [probe.flags for probe in probes] == [("-DFENTRY_shrink_node",), ("-DKPROBE_shrink_node",)]
    assert choice(made, "passes").probe == "fentry shrink_node"


def test_a_cloned_function_is_tried_under_each_of_its_names() -> None:
    names = ("shrink_node.isra.0", "shrink_node.constprop.0")
    made = plan(make_facts(functions=frozenset(), symbols={"shrink_node": names}))
    assert made.probes["shrink_node"] == tuple(Probe(SHRINK_NODE, KPROBE, name) for name in names)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"functions": frozenset(), "kprobes": False}, "this kernel has no kprobes"),
        ({"functions": frozenset(), "symbols": {}}, "this kernel has no function shrink_node"),
        ({"ftrace_enabled": False}, "kernel.ftrace_enabled is 0: a probe on a function would never run"),
        (
            {"functions": frozenset(), "kprobes_fire": False},
            "kprobes are switched off: they would never run",
        ),
        ({"offsets": {}}, "BTF does not say where nr_to_reclaim is in struct scan_control"),
    ],
)
def test_without_a_way_to_see_passes_they_are_unknown(fields: dict[str, Any], reason: str) -> None:
    made = plan(make_facts(**fields))
    assert (choice(made, "passes").state, choice(made, "passes").reason) == ("missing", reason)
    assert (made.probes["shrink_node"], made.unknown - TOLD_ELSEWHERE) == ((), TOLD_BY_PASSES)


def test_not_knowing_of_kprobes_is_no_reason_not_to_try_one() -> None:
    assert Probe(SHRINK_NODE, KPROBE, "shrink_node") in plan(make_facts(kprobes=None)).probes["shrink_node"]


def test_what_would_never_run_is_not_attached() -> None:
    """It would count nothing, which is not the same as that there was nothing."""
    made = plan(make_facts(kprobes_fire=False, preemptible_tracepoints=True))
    assert made.probes["shrink_node"] == (Probe(SHRINK_NODE, FENTRY, "shrink_node", pair=True),)
    assert made.probes["shrink_node"][0].flags == ("-DFENTRY_shrink_node", "-DPAIR_shrink_node")
    assert (choice(made, "passes").state, choice(made, "passes").remedy) == (
        "attached",
        "echo 1 > /sys/kernel/debug/kprobes/enabled",
    )
    unknown = plan(make_facts(kprobes_fire=None, ftrace_enabled=None))
    assert unknown.probes == plan(FACTS).probes


def test_passes_can_be_forced_and_switched_off() -> None:
    assert {probe.how for probe in plan(FACTS, passes=KPROBE).probes["shrink_node"]} == {KPROBE}
    off = plan(FACTS, passes="none")
    assert (choice(off, "passes").state, off.probes["shrink_node"], off.unknown) == ("off", (), TOLD_BY_PASSES)


def test_sleep_above_memory_high_is_seen_where_it_ends_too() -> None:
    made = plan(make_facts(preemptible=True))
    assert [str(probe) for probe in made.probes[SLEEP]] == [f"fentry {SLEEP}", f"kprobe {SLEEP}"]
    assert choice(made, "high").state == "attached"
    assert "-DBIT_task_struct_in_memstall=1" in made.flags
    forced = plan(FACTS, passes=KPROBE)
    assert (choice(forced, "high").state, choice(forced, "high").probe) == ("degraded", f"kprobe {SLEEP}")
    assert choice(plan(FACTS, passes="none"), "high").state == "attached"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"psi": False}, "PSI is off, which tells that sleep from other sleep"),
        (
            {"offsets": {key: at for key, at in FACTS.offsets.items() if key[0] != "bpf_tramp_image"}},
            "BTF does not say where pcref is in struct bpf_tramp_image",
        ),
    ],
)
def test_sleep_above_memory_high_is_unknown_where_it_cannot_be_told(fields: dict[str, Any], reason: str) -> None:
    made = plan(make_facts(**fields))
    assert (choice(made, "high").state, choice(made, "high").reason) == ("missing", reason)
    assert made.unknown == {"high_sleep_ns"}
