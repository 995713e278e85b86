"""The plan for the kernels of the laboratory, from facts that were gathered in them.

``python tests/vm/runner.py KERNEL founding --save-facts`` gathers them anew.
"""

from __future__ import annotations

import pytest
from make_facts import KERNELS, facts_of

from mmwatch.kernel.events import EVENTS, FUNCTIONS, NEEDS
from mmwatch.kernel.plan import FENTRY, KPROBE, PERF, RAW, Plan, plan

BATCHES = frozenset(measure for need in NEEDS if need.name in ("batches", "scans") for measure in need.measures)

pytestmark = pytest.mark.parametrize("kernel", KERNELS)


def missing(made: Plan) -> set[str]:
    return {choice.need for choice in made.choices if choice.state == "missing"}


def absent(kernel: str) -> set[str]:
    """Needs that the kernel's own tracepoints cannot serve."""
    return {"throttling"} if kernel == "5.10" else set()


def test_every_need_gets_the_best_probe_there_is(kernel: str) -> None:
    """Raw tracepoints; where these can be preempted, through perf."""
    facts = facts_of(kernel)
    assert facts.preemptible_tracepoints == (kernel == "newest")
    made = plan(facts)
    by_perf = {attachment.event.name for attachment in made.attachments if attachment.how == PERF}
    named = {event.name for event in EVENTS if event.fields_by_name}
    assert by_perf == (named if facts.preemptible_tracepoints else set())
    assert {choice.state for choice in made.choices if choice.need not in absent(kernel)} == {"attached"}
    assert missing(made) == absent(kernel)
    assert (made.blockers, made.problems) == ((), ())


def test_the_arguments_of_every_raw_tracepoint_are_known(kernel: str) -> None:
    """Also of those that are not used raw here; each index is one of its arguments."""
    facts = facts_of(kernel)
    made = plan(facts, force=RAW)
    assert {attachment.how for attachment in made.attachments} == {RAW}
    for attachment in made.attachments:
        types = facts.raw_arguments[attachment.tracepoints[0]]
        raw = next(raw for raw in attachment.event.raw if raw.types == types)
        assert all(index < len(types) for index in raw.arguments.values())
        assert set(raw.arguments) <= {*attachment.event.fields, "folio", "stat", "file", "memcg", "shr"}


def test_the_target_is_told(kernel: str) -> None:
    (targets,) = (choice for choice in plan(facts_of(kernel)).choices if choice.need == "targets")
    assert targets.probe == (PERF if kernel == "newest" else "fentry shrink_node")
    without_passes = plan(facts_of(kernel), passes="none")
    assert ("target_id" in without_passes.unknown) == (kernel != "newest")


def test_functions_are_seen_by_a_pair_where_fentry_can_be_preempted(kernel: str) -> None:
    made = plan(facts_of(kernel))
    pair = kernel in ("6.12", "newest")  # 6.12 is booted with preempt=full
    for function in FUNCTIONS:
        assert [(probe.how, probe.pair) for probe in made.probes[function.name]] == [(FENTRY, pair), (KPROBE, False)]
        (chosen,) = (choice for choice in made.choices if choice.need == function.need)
        assert bool(chosen.reason) == pair


def test_without_btf_everything_goes_through_perf_but_what_has_one_signature(kernel: str) -> None:
    made = plan(facts_of(kernel, btf=False, raw_arguments={}, offsets={}, sizes={}, enumerators={}, taskstats={}))
    hows = {attachment.event.name: attachment.how for attachment in made.attachments}
    assert hows.pop("sched_process_free") == RAW
    assert set(hows.values()) == {PERF}
    silent = {"passes", "cpu", "high"}  # their structs are in no header
    # The newest names the cgroup in the trace record.
    assert missing(made) == absent(kernel) | silent | (set() if kernel == "newest" else {"targets"})


def test_large_folios_can_be_measured(kernel: str) -> None:
    names = {flag.split("=")[0] for flag in plan(facts_of(kernel)).flags}
    assert names >= {"-DOFF_folio_nr_pages", "-DPG_HEAD"}


def test_with_mglru_on_it_is_known_whether_batches_are_told(kernel: str) -> None:
    facts = facts_of(kernel)
    if facts.lru_gen is None:
        return
    made = plan(facts_of(kernel, lru_gen=7))
    told = kernel != "6.1"
    assert (made.unknown & BATCHES == frozenset()) == told
    assert ({"batches", "scans"} & missing(made) == set()) == told


def test_the_events_cover_the_whole_of_reclaim(kernel: str) -> None:
    attached = {attachment.event.name for attachment in plan(facts_of(kernel)).attachments}
    required = {event.name for event in EVENTS if event.required and event.need not in absent(kernel)}
    assert attached >= required
