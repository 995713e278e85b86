"""The JSON of ``top --json``, ``report --json`` and ``replay --json``; tests/contract/test_json.py pins its keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mmwatch.model.accounting import Accounting
from mmwatch.model.course import Stretch
from mmwatch.model.interval import Session, Shrinker
from mmwatch.model.measures import MEASURES, NODE_UNKNOWN, Fold
from mmwatch.model.nodes import elsewhere, matrix
from mmwatch.model.rows import PRIORITY_TOLD_BY, ROW_DTYPE, SUMS, Floats, Rows, priority_min, stall_quantile_ns
from mmwatch.model.snapshot import Snapshot

SCHEMA = 1

_FREED = ("reported_pages", "reclaims_futile", "pass_reclaimed_pages", "passes_futile")
"""Measures that mean nothing where the pages freed are unknown."""


def to_json(
    snapshot: Snapshot,
    order: npt.NDArray[np.intp] | None = None,
    so_far: Accounting | None = None,
    course: Sequence[Stretch] | None = None,
) -> dict[str, Any]:
    """The object that ``--json`` prints. Numbers are integers in base units; unknown is None, never 0.

    :param order: rows to show, in this order; all by default.
    :param so_far: ``accounting_so_far`` (``top`` and ``replay``): the account up to the end of the interval.
    :param course: ``course`` (``report``): the recording over time.
    """
    session, interval = snapshot.session, snapshot.interval
    shown = snapshot if order is None else snapshot.select(order)
    found = {
        "schema": SCHEMA,
        "session": {
            "start": session.start_s,
            "end": interval.end_s,
            "duration_s": snapshot.duration_s,
            "kernel": session.kernel,
            "hostname": session.hostname,
            "version": session.version,
            "page_size": session.page_size,
            "filter": dict(session.filter),
            "by": snapshot.by,
            "unknown": sorted(session.unknown),
            "settings": {**session.settings, **interval.settings},
            "topology": {str(node): asdict(place) for node, place in session.topology.items()},
            "uptime_s": session.uptime_s,
            "probes": [asdict(probe) for probe in session.probes],
        },
        "totals": _totals(snapshot),
        "rows": _rows(shown),
        "nodes": [{**asdict(node), "kswapd": interval.kswapd.get(node.node)} for node in interval.nodes],
        "cgroups": [
            {"cgroup": interval.cgroups.get(number), **asdict(memory)}
            for number, memory in sorted(interval.cgroup_memory.items())
        ],
        "inside": [{**asdict(one), "tgid": one.tgid or None, "tid": one.tid or None} for one in interval.inside],
        "shrinkers": shrinkers_json(interval.shrinkers),
        "matrix": [asdict(cell) for cell in matrix(interval.rows)],
        "elsewhere": {str(node): asdict(found) for node, found in elsewhere(interval).items()},
        "memory": dict(interval.memory),
        "pressure": dict(interval.pressure) or None,
        "accounting": accounting_json(snapshot.accounting),
        "cost": asdict(interval.cost),
    }
    if so_far is not None:
        found["accounting_so_far"] = accounting_json(so_far)
    if course is not None:
        found["course"] = [stretch._asdict() for stretch in course]
    return found


def shrinkers_json(shrinkers: Sequence[Shrinker]) -> list[dict[str, Any]]:
    """``shrinkers`` of :func:`to_json`, those with the most time first."""
    ranked = sorted(shrinkers, key=lambda one: -one.shrinker_ns)
    return [{**asdict(one), "name": one.name or None} for one in ranked]


def accounting_json(counts: Accounting) -> dict[str, Any]:
    """``accounting`` of :func:`to_json`."""
    return {
        "vmstat_delta": dict(counts.vmstat),
        "accounted_ratio": counts.ratio,
        "scanned_ratio": counts.scanned_ratio,
        "reclaimed_pages": counts.reclaimed_pages,
        "vmstat_reclaimed_pages": counts.vmstat_reclaimed_pages,
        "scanned_pages": counts.scanned_pages,
        "vmstat_scanned_pages": counts.vmstat_scanned_pages,
        "edge_pages": counts.edge_pages,
        "edge_scanned_pages": counts.edge_scanned_pages,
        "comparable": not counts.incomparable,
        "incomparable_reason": counts.incomparable or None,
        "lost": dict(counts.loss.lost),
        "suppressed": dict(counts.loss.suppressed),
        "missed_runs": counts.loss.missed_runs,
        "table_full": counts.loss.table_full,
        "unmatched_begin": counts.loss.unmatched_begin,
        "unmatched_end": counts.loss.unmatched_end,
        "under_way": counts.loss.under_way,
    }


def _measures(session: Session, rows: Rows) -> dict[str, list[Any]]:
    """One list per measure, one value per row."""
    values = {m.name: rows[m.name] for m in MEASURES if m.json}
    values["stall_ns"] = np.maximum(values["stall_ns"], 0)
    for name, parts in SUMS.items():
        values[name] = np.asarray(sum(rows[part] for part in parts))
    none = [None] * len(rows)
    return {
        name: none if session.unknown.intersection((name, *SUMS.get(name, ()))) else value.tolist()
        for name, value in values.items()
    }


def _rows(snapshot: Snapshot) -> list[dict[str, Any]]:
    rows, unknown = snapshot.rows, snapshot.session.unknown
    values = _measures(snapshot.session, rows)
    processes = snapshot.processes()
    lowest = priority_min(rows).astype(float)
    overshoot_known = not unknown.intersection(("asked_pages", "reported_pages"))

    def quantile(of: float) -> list[int | None]:
        return _known(stall_quantile_ns(rows, of), "stall_histogram" not in unknown, int)

    table: dict[str, list[Any]] = {
        **snapshot.identities(),
        "nodes": [[node for node in nodes if node != NODE_UNKNOWN] for nodes in snapshot.nodes_of],
        **values,
        **{name: _where(values[name], snapshot.freed_known) for name in _FREED},
        "asked_pages": _where(values["asked_pages"], snapshot.asked_known),
        "priority_min": _known(np.where(lowest >= 0, lowest, np.nan), not unknown.issuperset(PRIORITY_TOLD_BY), int),
        "stall_p50_ns": quantile(0.5),
        "stall_p99_ns": quantile(0.99),
        "overshoot": _known(snapshot.overshoot.round(4), overshoot_known, float),
        "efficiency": [
            round(part / whole, 4) if part is not None and whole else None
            for part, whole in zip(values["reclaimed_pages"], values["scanned_pages"])
        ],
        "system_time_us": [process.system_time_us if process else None for process in processes],
        "freepages_delay_ns": [process.freepages_delay_ns if process else None for process in processes],
    }
    return [dict(zip(table, row)) for row in zip(*table.values())]


def _totals(snapshot: Snapshot) -> dict[str, Any]:
    """All rows as one. If there are no rows, nothing happened, so the zeros are real."""
    rows = snapshot.totals if len(snapshot.totals) else np.zeros(1, ROW_DTYPE)
    latest = {m.name for m in MEASURES if m.fold is Fold.LATEST}  # they describe one reclaim, not a sum
    untold = _FREED if not snapshot.freed_known.all() else ()
    values = _measures(snapshot.session, rows)
    return {name: None if name in untold else value[0] for name, value in values.items() if name not in latest}


def _where(values: list[Any], known: npt.NDArray[np.bool_]) -> list[Any]:
    return [value if told else None for value, told in zip(values, known.tolist())]


_Number = TypeVar("_Number", int, float)


def _known(values: Floats, known: bool, kind: type[_Number]) -> list[_Number | None]:
    return [kind(value) if known and value == value else None for value in values.tolist()]
