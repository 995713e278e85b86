"""The JSON of every command: its keys and their units, pinned here literally and documented in the manual.

Keys may be added but never renamed or removed, because programs read them. A new key gets a line here and in
man/mmwatch.8.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "unit"))

from make import make_interval, make_session, random_rows  # noqa: E402
from make_facts import FACTS  # noqa: E402
from make_observations import TROUBLES  # noqa: E402

from mmwatch.abi import RECORD_KINDS  # noqa: E402
from mmwatch.cli import doctor  # noqa: E402
from mmwatch.diagnosis.json import brief  # noqa: E402
from mmwatch.diagnosis.json import to_json as verdict_json  # noqa: E402
from mmwatch.diagnosis.judge import judge  # noqa: E402
from mmwatch.diagnosis.observation import observe  # noqa: E402
from mmwatch.diagnosis.subject import restrict, subject  # noqa: E402
from mmwatch.display.trace import Tracing, trace_json  # noqa: E402
from mmwatch.model.accounting import accounting  # noqa: E402
from mmwatch.model.course import Stretch  # noqa: E402
from mmwatch.model.groupings import GROUPINGS  # noqa: E402
from mmwatch.model.interval import CgroupMemory, Elsewhere, Inside, Loss, Node, Probe, Process, Shrinker  # noqa: E402
from mmwatch.model.json import to_json  # noqa: E402
from mmwatch.model.measures import MEASURES, PATHS  # noqa: E402
from mmwatch.model.records import RECORD_DTYPE  # noqa: E402
from mmwatch.model.snapshot import take  # noqa: E402

# ---- top, replay and report ----

HEAD = {
    "schema": "number",
    "session.start": "s",
    "session.end": "s",
    "session.duration_s": "s",
    "session.kernel": "text",
    "session.hostname": "text",
    "session.version": "text",
    "session.page_size": "bytes",
    "session.filter": "object",
    "session.by": "text",
    "session.unknown": "list",
    "session.settings": "object",
    "session.topology": "object",
    "session.uptime_s": "s",
    "session.probes[].need": "text",
    "session.probes[].probe": "text",
    "session.probes[].state": "text",
    "session.probes[].reason": "text",
    "nodes[].node": "number",
    "nodes[].free_pages": "pages",
    "nodes[].min_pages": "pages",
    "nodes[].low_pages": "pages",
    "nodes[].high_pages": "pages",
    "nodes[].managed_pages": "pages",
    "nodes[].file_pages": "pages",
    "nodes[].anon_pages": "pages",
    "nodes[].boost_pages": "pages",
    "nodes[].inactive_file_pages": "pages",
    "nodes[].mapped_pages": "pages",
    "nodes[].dirty_pages": "pages",
    "nodes[].writeback_pages": "pages",
    "nodes[].unevictable_pages": "pages",
    "nodes[].slab_reclaimable_pages": "pages",
    "nodes[].slab_unreclaimable_pages": "pages",
    "nodes[].free_movable_pages": "pages",
    "nodes[].free_cma_pages": "pages",
    "nodes[].free_reserved_pages": "pages",
    "nodes[].kswapd": "text",
    "cgroups[].cgroup": "text",
    "cgroups[].limit_bytes": "bytes",
    "cgroups[].high_bytes": "bytes",
    "cgroups[].usage_bytes": "bytes",
    "cgroups[].limit_hits": "count",
    "cgroups[].grown": "object",
    "cgroups[].levels": "object",
    "memory": "object",
    "inside[].tgid": "number",
    "inside[].tid": "number",
    "inside[].comm": "text",
    "inside[].path": "text",
    "inside[].node": "number",
    "inside[].age_ns": "ns",
    "shrinkers[].name": "text",
    "shrinkers[].calls": "count",
    "shrinkers[].objects": "count",
    "shrinkers[].shrinker_ns": "ns",
    "matrix[].cpu_node": "number",
    "matrix[].node": "number",
    "matrix[].reclaims": "count",
    "matrix[].scanned_pages": "pages",
    "matrix[].reclaimed_pages": "pages",
    "matrix[].stall_ns": "ns",
    "elsewhere.*.reclaimed_pages": "pages",
    "elsewhere.*.futile": "count",
    "elsewhere.*.stall_ns": "ns",
    "elsewhere.*.free_node": "number",
    "elsewhere.*.free_pages": "pages",
    "pressure.some_avg10": "percent",
    "pressure.full_avg10": "percent",
    "pressure.some_us": "us",
    "pressure.full_us": "us",
    "pressure.io_some_us": "us",
    "pressure.io_full_us": "us",
    "cost.cpu_ns": "ns",
    "cost.rss_bytes": "bytes",
    "cost.table_rows": "count",
    "cost.table_size": "count",
}
MEASURED = {
    "reclaims": "count",
    "reclaims_futile": "count",
    "asked_pages": "pages",
    "reported_pages": "pages",
    "scanned_file_pages": "pages",
    "scanned_anon_pages": "pages",
    "reclaimed_file_pages": "pages",
    "reclaimed_anon_pages": "pages",
    "stall_ns": "ns",
    "cpu_ns": "ns",
    "batches": "count",
    "dirty_pages": "pages",
    "writeback_pages": "pages",
    "immediate_pages": "pages",
    "activated_pages": "pages",
    "referenced_pages": "pages",
    "unmap_failed_pages": "pages",
    "active_batches": "count",
    "active_taken_pages": "pages",
    "deactivated_pages": "pages",
    "written_pages": "pages",
    "shrinker_calls": "count",
    "shrinker_ns": "ns",
    "high_sleep_ns": "ns",
    "shrinker_objects": "count",
    "kswapd_wakeups": "count",
    "passes": "count",
    "passes_futile": "count",
    "pass_ns": "ns",
    "pass_reclaimed_pages": "pages",
    "throttled": "list of count",
    "throttled_ns": "list of ns",
    "stall_max_ns": "ns",
    "reclaimed_max_pages": "pages",
    "priority_histogram": "list of count",
    "pass_histogram": "list of count",
    "order_histogram": "list of count",
}
SUMMED = {"scanned_pages": "pages", "reclaimed_pages": "pages"}
ROW = {
    "tgid": "number",
    "tid": "number",
    "comm": "text",
    "cmdline": "text",
    "path": "text",
    "node": "number",
    "nodes": "list",
    "cgroup": "text",
    "target": "text",
    **MEASURED,
    "gfp_flags": "flags",
    **SUMMED,
    "priority_min": "number",
    "stall_p50_ns": "ns",
    "stall_p99_ns": "ns",
    "overshoot": "ratio",
    "efficiency": "ratio",
    "system_time_us": "us",
    "freepages_delay_ns": "ns",
}
ACCOUNTING = {
    "vmstat_delta": "object",
    "accounted_ratio": "ratio",
    "scanned_ratio": "ratio",
    "reclaimed_pages": "pages",
    "vmstat_reclaimed_pages": "pages",
    "scanned_pages": "pages",
    "vmstat_scanned_pages": "pages",
    "edge_pages": "pages",
    "edge_scanned_pages": "pages",
    "comparable": "flag",
    "incomparable_reason": "text",
    "lost.reclaim": "count",
    "lost.batch": "count",
    "lost.pass": "count",
    "suppressed.reclaim": "count",
    "suppressed.batch": "count",
    "suppressed.pass": "count",
    "missed_runs": "count",
    "table_full": "count",
    "unmatched_begin": "count",
    "unmatched_end": "count",
    "under_way": "count",
}
COURSE = {
    "course[].begin_s": "s",
    "course[].duration_s": "s",
    "course[].reclaimed_pages": "pages",
    "course[].stall_ns": "ns",
}
SHARED = {
    **HEAD,
    **{f"totals.{key}": unit for key, unit in {**MEASURED, **SUMMED}.items()},
    **{f"rows[].{key}": unit for key, unit in ROW.items()},
    **{f"accounting.{key}": unit for key, unit in ACCOUNTING.items()},
}
VERDICT = {
    "status": "text",
    "summary": "text",
    "begin": "s",
    "end": "s",
    "findings[].id": "text",
    "findings[].title": "text",
    "findings[].severity": "text",
    "findings[].confidence": "text",
    "findings[].uncalibrated": "text",
    "findings[].summary": "text",
    "findings[].claims_ns": "ns",
    "findings[].kswapd_claims_ns": "ns",
    "findings[].cost_ns": "ns",
}
TOP = {
    **SHARED,
    **{f"accounting_so_far.{key}": unit for key, unit in ACCOUNTING.items()},
    **{f"verdict.{key}": unit for key, unit in VERDICT.items()},
}
REPORT = {**SHARED, **COURSE}

TRACE = {
    "kind": "text",
    "time_s": "s",
    "time_ns": "ns",
    "tgid": "number",
    "tid": "number",
    "comm": "text",
    "cgroup": "text",
    "cpu": "number",
    "path": "text",
    "node": "number",
    "scanned_pages": "pages",
    "reclaimed_pages": "pages",
    "priority": "number",
    "asked_pages": "pages",
    "order": "number",
    "gfp_flags": "flags",
    "gfp": "text",
    "file": "flag",
    "duration_ns": "ns",
}
DOCTOR = {
    "schema": "number",
    "version": "text",
    "usable": "flag",
    "trial": "text",
    "needs[].need": "text",
    "needs[].help": "text",
    "needs[].probe": "text",
    "needs[].state": "text",
    "needs[].reason": "text",
    "needs[].remedy": "text",
    "host.kernel": "text",
    "host.machine": "text",
    "host.distribution": "list",
    "host.python": "text",
    "host.checks.*.state": "text",
    "host.checks.*.value": "any",
    "host.checks.*.text": "text",
    "host.checks.*.remedy": "text",
    "blockers[].what": "text",
    "blockers[].remedy": "text",
    "blockers[].permission": "flag",
    "problems": "list",
}
EVIDENCE = {"label": "text", "text": "text", "observed": "any", "threshold": "any", "unit": "text", "source": "text"}
DIAGNOSE = {
    "schema": "number",
    **VERDICT,
    "traced": "flag",
    "duration_ns": "ns",
    "account.total_ns": "ns",
    "account.claimed_ns": "ns",
    "account.ordinary_ns": "ns",
    "account.unexplained_ns": "ns",
    "account.kswapd_ns": "ns",
    "account.kswapd_claimed_ns": "ns",
    "findings[].cost": "list",
    **{f"findings[].evidence[].{key}": unit for key, unit in EVIDENCE.items()},
    **{f"findings[].against[].{key}": unit for key, unit in EVIDENCE.items()},
    "findings[].who[].tgid": "number",
    "findings[].who[].comm": "text",
    "findings[].who[].path": "text",
    "findings[].who[].cgroup": "text",
    "findings[].who[].stall_ns": "ns",
    "findings[].who[].share": "ratio",
    "findings[].nodes": "list",
    "findings[].cgroups": "list",
    "findings[].cause": "text",
    "findings[].remedy.advice": "text",
    "findings[].remedy.commands": "list",
    "findings[].remedy.undo": "list",
    "findings[].remedy.persistent": "text",
    "findings[].remedy.risk": "text",
    "findings[].resolves.metric": "text",
    "findings[].resolves.op": "text",
    "findings[].resolves.value": "any",
    "findings[].resolves.unit": "text",
    "findings[].resolves.normaliser": "text",
    "findings[].next": "text",
    "rejected[].id": "text",
    "rejected[].state": "text",
    "rejected[].reason": "text",
    **{f"signs[].{key}": unit for key, unit in EVIDENCE.items()},
    "avoidable.reclaimed_pages": "pages",
    "avoidable.stall_ns": "ns",
    "avoidable.futile": "count",
    "quality.lost_ratio": "ratio",
    "quality.caveats": "list",
    "quality.paths": "list",
    "quality.accounting": "object",
    "next": "text",
    "subject.name": "text",
    "subject.tasks": "number",
    **{
        f"subject.{name}_ns": "ns" for name in ("duration", "stall", "on_cpu", "throttled", "user", "system", "io_wait")
    },
    **{f"subject.{name}_ns": "ns" for name in ("io_wait", "refault_wait", "swap_wait", "memory_wait")},
    "subject.major_faults": "count",
    "subject.refaults": "count",
    **{f"inside[].{name}": "number" for name in ("tgid", "tid", "node")},
    "inside[].comm": "text",
    "inside[].path": "text",
    "inside[].age_ns": "ns",
    **{key: unit for key, unit in HEAD.items() if key.startswith("shrinkers")},
    "counters.since_boot": "object",
    "counters.grown": "object",
    "pressure": "object",
    "memory": "object",
    "nodes": "list",
    "cgroups": "list",
    "host.topology": "object",
    "host.uptime_s": "s",
    "host.hostname": "text",
    "host.kernel": "text",
    "host.version": "text",
    "host.filter": "object",
    "host.settings": "object",
}
CHECKS = {
    *("privileges", "bcc", "numpy", "pyroute2", "textual", "btf", "tracefs", "lockdown", "lru", "filters"),
    *("pid_namespace", "memory_cgroup", "numa_nodes", "zone_reclaim_mode", "swap", "pressure", "process_events"),
    *("taskstats", "task_delayacct"),
}

FREE = ("object", "list", "any")
"""Units of values whose own keys depend on the host, or that are lists of plain values."""
ANY_KEY = ("elsewhere", "host.checks")
"""Objects whose keys are nodes or checks."""
SUFFIXES = {"_pages": "pages", "_ns": "ns", "_us": "us", "_bytes": "bytes", "_s": "s", "_ratio": "ratio"}
TYPES: dict[str, Any] = {
    "text": str,
    "flag": bool,
    "object": dict,
    "list": list,
    "count": int,
    "number": int,
    "pages": int,
    "ns": int,
    "us": int,
    "bytes": int,
    "flags": int,
    "s": (int, float),
    "ratio": (int, float),
    "percent": (int, float),
}


def leaves(value: Any, path: str, units: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """Path and value of each leaf: a value with a pinned unit, or one that is neither object nor list."""
    if units.get(path) in FREE or not isinstance(value, (dict, list)) or units.get(path, "").startswith("list of"):
        yield path, value
    elif isinstance(value, list):
        for one in value:
            yield from leaves(one, f"{path}[]", units)
    else:
        for key, one in value.items():
            yield from leaves(one, f"{path}.{'*' if path in ANY_KEY else key}".lstrip("."), units)


def check(made: dict[str, Any], units: dict[str, str]) -> None:
    """Check that the object has exactly the pinned keys, and that each value has its unit's type."""
    made = json.loads(json.dumps(made, allow_nan=False))
    found = list(leaves(made, "", units))
    assert {path for path, _ in found} == set(units)
    for path, value in found:
        unit = units[path]
        if unit.startswith("list of") and value is not None:
            assert all(isinstance(one, int) for one in value), path
        elif unit != "any" and value is not None:
            assert isinstance(value, TYPES[unit]), f"{path}: {value!r} is not {unit}"


def full(by: str) -> tuple[Any, Any]:
    """A session and an interval in which every part has a value."""
    kinds = {kind: number for number, kind in enumerate(RECORD_KINDS)}
    session = make_session(
        filter={"pid": [1]},
        settings={"zone_reclaim_mode": 1},
        probes=(Probe("batches", "tracepoint", "attached"),),
        unknown=frozenset({"written_pages"}),
    )
    interval = make_interval(
        random_rows(100, seed=1),
        nodes=(Node(0, 1, 2, 3, 4, 5, 6, 7),),
        cgroups={1: "/a"},
        cgroup_memory={1: CgroupMemory(1, 2, 3, 4)},
        elsewhere={0: Elsewhere(1, 2, 3, 1, 5)},
        pressure={"some_avg10": 1.5, "full_avg10": 0.0, "some_us": 5, "full_us": 6, "io_some_us": 7, "io_full_us": 8},
        kswapd={0: "running"},
        inside=(Inside(1, 2, "a", "direct", 0, 5),),
        shrinkers=(Shrinker("a", 1, 2, 3), Shrinker("", 4, 5, 6)),
        processes={1: Process(1, "a", "a b", 1, 5, 6)},
        loss=Loss(lost=kinds, suppressed=kinds, missed_runs=1),
    )
    return session, interval


@pytest.mark.parametrize("by", GROUPINGS)
def test_top_and_replay(by: str) -> None:
    session, interval = full(by)
    made = to_json(take(session, interval, by), so_far=accounting(session, interval))
    trouble = TROUBLES["node-bound"]()
    check({**made, "verdict": brief(judge(trouble), trouble)}, TOP)


@pytest.mark.parametrize("by", GROUPINGS)
def test_report(by: str) -> None:
    session, interval = full(by)
    check(to_json(take(session, interval, by), course=[Stretch(1.0, 2.0, 3, 4)]), REPORT)


def test_diagnose() -> None:
    observation = TROUBLES["node-bound"]()
    unsure = {100: Process(100, "task")}
    unsure_of = observe(
        observation.session, [replace(one, processes=unsure) for one in observation.intervals], traced=False
    )
    restricted = restrict(replace(unsure_of, traced=True), [100])
    verdict = judge(unsure_of)  # without its policy, something speaks against the finding
    last = replace(unsure_of.last, inside=(Inside(1, 2, "a", "direct", 0, 5),), shrinkers=(Shrinker("a", 1, 2, 3),))
    unsure_of = replace(unsure_of, intervals=(*unsure_of.intervals[:-1], last))
    made = verdict_json(verdict, unsure_of, subject(restricted, [100]))
    made["signs"] = made["signs"] or made["findings"][0]["against"]
    check(made, DIAGNOSE)


def test_trace() -> None:
    records = np.ones(len(RECORD_KINDS), RECORD_DTYPE)
    records["kind"] = range(len(RECORD_KINDS))
    found = [json.loads(line) for line in trace_json(records, Tracing(make_session(), lambda number: "/a"))]
    check({key: value for one in found for key, value in one.items()}, TRACE)
    assert len({*found[0], *found[1], *found[2]}) == len(TRACE)


def test_doctor() -> None:
    from dataclasses import replace

    from mmwatch.kernel.plan import plan
    from mmwatch.session.checkup import Blocker, Surroundings, judge

    found = judge(FACTS, plan(FACTS), Surroundings())
    made = doctor.to_json(replace(found, blockers=(Blocker("what", "remedy", True),)))
    check(made, DOCTOR)
    assert set(made["host"]["checks"]) == CHECKS


def test_measures_are_pinned_with_their_units() -> None:
    assert {measure.name for measure in MEASURES if measure.json} == {*MEASURED, "gfp_flags"}


@pytest.mark.parametrize("units", [TOP, REPORT, DOCTOR], ids=["top", "report", "doctor"])
def test_a_name_says_its_unit(units: dict[str, str]) -> None:
    for path, unit in units.items():
        for suffix, meant in SUFFIXES.items():
            if path.endswith(suffix):
                assert unit.replace("list of ", "") == meant, path


def test_a_key_that_is_renamed_is_noticed() -> None:
    session, interval = full("task")
    made = to_json(take(session, interval), course=[Stretch(1.0, 2.0, 3, 4)])
    made["rows"][0]["stalled_ns"] = made["rows"][0].pop("stall_ns")
    with pytest.raises(AssertionError):
        check(made, REPORT)


# ---- the manual ----


def manual(page: str, section: str) -> set[str]:
    """The words of a section of a manual page."""
    text = (ROOT / "man" / page).read_text().replace("\\-", "-").replace("\\&", "")
    found = re.search(rf"^\.SH {section}$(.*?)(?=^\.SH |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return set(re.findall(r"\w+", found[1]))


def test_the_manual_has_every_key() -> None:
    """mmwatch(8) has all keys except the measures: those are columns of a recording and documented there."""
    documented = manual("mmwatch.8", "JSON")
    recorded = manual("mmwatch-recording.5", "TABLES")
    pinned = {**TOP, **REPORT, **TRACE, **DOCTOR, **DIAGNOSE}
    keys = {part.rstrip("[]") for path in pinned for part in path.split(".")} | CHECKS
    assert sorted(keys - documented - set(MEASURED) - {"gfp_flags", "*", ""}) == []
    assert sorted({*MEASURED, "gfp_flags"} - recorded) == []
    assert set(PATHS) <= manual("mmwatch.8", "PATHS")
