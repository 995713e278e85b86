"""An interval, grouped and summed: what a table, a screen or a JSON object says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mmwatch.model.interval import Cost, Interval, Loss, Process, Rows, Session, fold_rows
from mmwatch.model.measures import MEASURES, NODE_UNKNOWN, PATHS, STALL_BUCKETS, STALL_SHIFT_MIN, Fold

GROUPINGS: Mapping[str, tuple[str, ...]] = {
    "task": ("tgid", "path"),
    "thread": ("tgid", "tid", "path"),
    "node": ("node",),
    "cgroup": ("cgroup_id",),
    "path": ("path",),
}
"""What a row of a table stands for: the identity fields that are equal in all that was folded into it."""

UNATTRIBUTED = "(unattributed)"
"""The name of what was counted without a row of its own."""

STEAL = ("pgsteal_anon", "pgsteal_file")
SCAN = ("pgscan_anon", "pgscan_file")
"""Counted for every reclaim, memory cgroups included, since 5.8; the by-reclaimer counters leave those out up to 7.0
(kernel: mm/vmscan.c, shrink_inactive_list and evict_folios)."""

Floats = npt.NDArray[np.float64]


def bucket_edges_ns() -> Floats:
    """Lower edges of the stall histogram's buckets, ``(STALL_BUCKETS + 1,)``: four to the octave from 256 ns on."""
    index = np.arange(STALL_BUCKETS) - 1
    edges = 2.0 ** (STALL_SHIFT_MIN + index // 4) * (1 + (index % 4) / 4)
    edges[0] = 0
    return np.append(edges, edges[-1] * 1.25)


_EDGES_NS = bucket_edges_ns()
_MIDDLES_NS = np.append([_EDGES_NS[1] / 2], np.sqrt(_EDGES_NS[1:-1] * _EDGES_NS[2:]))


def stall_quantile_ns(rows: Rows, quantile: float) -> Floats:
    """The time that ``quantile`` of the reclaims of each row stayed under; NaN where there was none. ``(len(rows),)``.

    The geometric middle of its bucket, so within 12 % (buckets are four to the octave), and never above the longest.
    """
    sums = np.cumsum(rows["stall_histogram"], axis=1)
    total = sums[:, -1] if len(rows) else np.zeros(0)
    rank = np.ceil(total * quantile)
    bucket = (sums < np.maximum(rank, 1)[:, None]).sum(axis=1)
    middle = _MIDDLES_NS[np.minimum(bucket, STALL_BUCKETS - 1)]
    return np.where(total > 0, np.minimum(middle, rows["stall_max_ns"]), np.nan)


def priority_min(rows: Rows) -> npt.NDArray[np.int64]:
    """The lowest scan priority a batch ran at, -1 where no batch told. ``(len(rows),)``."""
    seen = rows["priority_histogram"] > 0
    return np.where(seen.any(axis=1), seen.argmax(axis=1), -1)


@dataclass(frozen=True)
class Accounting:
    """How closely what was counted equals what the kernel counted.

    :param reclaimed_pages: Σ over all rows; ``vmstat_reclaimed_pages`` is Δ(pgsteal_anon + pgsteal_file), or None.
    :param incomparable: why the two cannot be compared; empty when they can.
    """

    reclaimed_pages: int
    scanned_pages: int
    vmstat_reclaimed_pages: int | None
    vmstat_scanned_pages: int | None
    edge_pages: int
    incomparable: str
    loss: Loss
    vmstat: Mapping[str, int]

    @property
    def ratio(self) -> float | None:
        """Reclaimed pages seen ÷ stolen according to /proc/vmstat; None when unknown or nothing was reclaimed."""
        return self._share(self.reclaimed_pages, self.vmstat_reclaimed_pages)

    @property
    def scanned_ratio(self) -> float | None:
        """The same of scanned pages and pgscan."""
        return self._share(self.scanned_pages, self.vmstat_scanned_pages)

    def _share(self, seen: int, counted: int | None) -> float | None:
        return None if self.incomparable or not counted else seen / counted

    @property
    def lost(self) -> int:
        """Everything that is known to be missing, of whatever kind."""
        loss = self.loss
        return (
            sum(loss.lost.values())
            + sum(loss.suppressed.values())
            + (loss.missed_runs or 0)
            + loss.unmatched_begin
            + loss.unmatched_end
            + loss.table_full
        )


@dataclass(frozen=True)
class Snapshot:
    """An interval folded by one of :data:`GROUPINGS`.

    :param rows: one row a group, in no order. Fields that are not keys of the grouping hold one member's value: ask
        :meth:`identity` instead.
    :param nodes_of: for each row, the nodes its pages came from, in order.
    :param overshoot: pages freed ÷ pages asked for, over the paths that ask for a number; NaN where none does.
    """

    session: Session
    interval: Interval
    by: str
    rows: Rows
    nodes_of: tuple[tuple[int, ...], ...]
    overshoot: Floats
    asked_known: npt.NDArray[np.bool_]
    same_comm: npt.NDArray[np.bool_]
    same_cgroup: npt.NDArray[np.bool_]
    totals: Rows
    accounting: Accounting

    @property
    def duration_s(self) -> float:
        return self.interval.duration_ns / 1e9

    def identity(self, index: int) -> dict[str, Any]:
        """Who row ``index`` is: ``tgid``, ``tid``, ``comm``, ``path``, ``node``, ``cgroup``, ``cmdline``; None where the
        grouping gives it no meaning or it is not known."""
        row = self.rows[index]
        keys = GROUPINGS[self.by]
        tgid = int(row["tgid"]) or None
        nodes = self.nodes_of[index]
        process = self.interval.processes.get(tgid) if tgid and "tgid" in keys else None
        comm = None
        if self.same_comm[index] and ("tgid" in keys):
            comm = row["comm"].decode("utf-8", "surrogateescape") or UNATTRIBUTED
        elif process is not None:
            comm = process.comm or None
        cgroup_id = int(row["cgroup_id"])
        return {
            "tgid": tgid if "tgid" in keys else None,
            "tid": (int(row["tid"]) or None) if "tid" in keys else None,
            "comm": comm,
            "cmdline": (process.cmdline or None) if process else None,
            "path": PATHS[int(row["path"])] if "path" in keys else None,
            "node": nodes[0] if len(nodes) == 1 and nodes[0] != NODE_UNKNOWN else None,
            "cgroup": self.interval.cgroups.get(cgroup_id) if self.same_cgroup[index] and cgroup_id else None,
        }

    def process(self, index: int) -> Process | None:
        """The process of row ``index``, in the groupings by task and thread."""
        return self.interval.processes.get(int(self.rows[index]["tgid"])) if "tgid" in GROUPINGS[self.by] else None


def _asks(rows: Rows) -> npt.NDArray[np.bool_]:
    """Whether a row's path asks for a number of pages: kswapd aims at a watermark, no bracket asks for nothing."""
    return (rows["path"] != PATHS.index("kswapd")) & (rows["path"] != PATHS.index("other"))


def take(session: Session, interval: Interval, by: str = "task") -> Snapshot:
    """Fold an interval by one of :data:`GROUPINGS`.

    :raises KeyError: no such grouping.
    """
    rows = interval.rows
    folded, _members, groups = fold_rows(rows, list(GROUPINGS[by]))
    count = len(folded)
    asks = _asks(rows)
    asked = np.bincount(groups[asks], rows["asked_pages"][asks], count)
    freed = np.bincount(groups[asks], rows["reported_pages"][asks], count)
    with np.errstate(divide="ignore", invalid="ignore"):
        overshoot = np.where(asked > 0, freed / asked, np.nan)
    pairs = np.unique(np.stack([groups, rows["node"].astype(np.intp)]), axis=1) if len(rows) else np.zeros((2, 0), int)
    nodes_of: list[list[int]] = [[] for _ in range(count)]
    for group, node in pairs.T.tolist():
        nodes_of[group].append(node)
    totals, _, _ = fold_rows(rows, [])
    return Snapshot(
        session=session,
        interval=interval,
        by=by,
        rows=folded,
        nodes_of=tuple(tuple(nodes) for nodes in nodes_of),
        overshoot=overshoot,
        asked_known=np.bincount(groups[asks], minlength=count) > 0,
        same_comm=_all_equal(rows["comm"], folded["comm"], groups, count),
        same_cgroup=_all_equal(rows["cgroup_id"], folded["cgroup_id"], groups, count),
        totals=totals,
        accounting=accounting(session, interval),
    )


def _all_equal(
    values: npt.NDArray[Any], chosen: npt.NDArray[Any], groups: npt.NDArray[np.intp], count: int
) -> npt.NDArray[np.bool_]:
    differing = np.bincount(groups, values != chosen[groups], count)
    return np.asarray(differing == 0, bool)


def accounting(session: Session, interval: Interval) -> Accounting:
    """Hold the sum of all rows against /proc/vmstat."""
    rows = interval.rows
    incomparable = session.incomparable
    if not incomparable and not all(name in interval.vmstat for name in STEAL + SCAN):
        incomparable = "this kernel's /proc/vmstat has no pgsteal_anon and pgsteal_file"

    def counted(names: tuple[str, ...]) -> int | None:
        return sum(interval.vmstat[name] for name in names) if all(name in interval.vmstat for name in names) else None

    return Accounting(
        reclaimed_pages=int(rows["reclaimed_file_pages"].sum() + rows["reclaimed_anon_pages"].sum()),
        scanned_pages=int(rows["scanned_file_pages"].sum() + rows["scanned_anon_pages"].sum()),
        vmstat_reclaimed_pages=counted(STEAL),
        vmstat_scanned_pages=counted(SCAN),
        edge_pages=interval.edge_pages,
        incomparable=incomparable,
        loss=interval.loss,
        vmstat=interval.vmstat,
    )


def _sum_maps(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    return {key: a.get(key, 0) + b.get(key, 0) for key in [*a, *(key for key in b if key not in a)]}


def _sum_known(a: int | None, b: int | None) -> int | None:
    return None if a is None and b is None else (a or 0) + (b or 0)


def merge(first: Interval, second: Interval, keys: list[str] | None = None) -> Interval:
    """Two stretches of time, one after the other, as one.

    :param keys: fold rows with these equal; by default only those of the same thread, path and node.
    """
    rows, _, _ = fold_rows(
        np.concatenate([first.rows, second.rows]), keys or ["tgid", "tid", "start_ns", "path", "node"]
    )
    processes = dict(first.processes)
    for tgid, process in second.processes.items():
        before = processes.get(tgid)
        if before is not None:
            process = replace(
                process,
                cmdline=process.cmdline or before.cmdline,
                system_time_us=_sum_known(before.system_time_us, process.system_time_us),
                freepages_delay_ns=_sum_known(before.freepages_delay_ns, process.freepages_delay_ns),
            )
        processes[tgid] = process
    return replace(
        second,
        duration_ns=first.duration_ns + second.duration_ns,
        rows=rows,
        vmstat=_sum_maps(first.vmstat, second.vmstat),
        # Only the two outer ends remain of four; which part of a sum belongs to which end was not kept.
        edge_pages=max(first.edge_pages, second.edge_pages),
        pressure={
            **second.pressure,
            **{
                name: first.pressure.get(name, 0) + second.pressure[name]
                for name in ("some_us", "full_us")
                if name in second.pressure
            },
        },
        cgroups={**first.cgroups, **second.cgroups},
        processes=processes,
        loss=Loss(
            lost=_sum_maps(first.loss.lost, second.loss.lost),
            suppressed=_sum_maps(first.loss.suppressed, second.loss.suppressed),
            missed_runs=_sum_known(first.loss.missed_runs, second.loss.missed_runs),
            unmatched_begin=first.loss.unmatched_begin + second.loss.unmatched_begin,
            unmatched_end=first.loss.unmatched_end + second.loss.unmatched_end,
            table_full=first.loss.table_full + second.loss.table_full,
        ),
        cost=Cost(
            cpu_ns=first.cost.cpu_ns + second.cost.cpu_ns,
            rss_bytes=max(first.cost.rss_bytes, second.cost.rss_bytes),
            table_rows=max(first.cost.table_rows, second.cost.table_rows),
            table_size=second.cost.table_size,
        ),
    )


# ---- JSON: the contract of `report --json` and `top --json` ----

SCHEMA = 1


def to_json(snapshot: Snapshot, order: npt.NDArray[np.intp] | None = None) -> dict[str, Any]:
    """The object ``--json`` prints. Numbers are integers in base units; what is not known is None, never 0.

    :param order: the rows to show, in that order; all by default.
    """
    session, interval = snapshot.session, snapshot.interval
    indices = range(len(snapshot.rows)) if order is None else order.tolist()
    p50, p99 = (stall_quantile_ns(snapshot.rows, quantile) for quantile in (0.5, 0.99))
    lowest = priority_min(snapshot.rows)
    rows = []
    for index in indices:
        row = snapshot.rows[index]
        values = _measures(session, row)
        if not snapshot.asked_known[index]:
            values["asked_pages"] = None
        process = snapshot.process(index)
        rows.append(
            {
                **snapshot.identity(index),
                "nodes": [node for node in snapshot.nodes_of[index] if node != NODE_UNKNOWN],
                **values,
                "priority_min": int(lowest[index]) if lowest[index] >= 0 else None,
                "stall_p50_ns": _whole(p50[index]),
                "stall_p99_ns": _whole(p99[index]),
                "overshoot": _real(snapshot.overshoot[index]),
                "efficiency": _ratio(values["reclaimed_pages"], values["scanned_pages"]),
                "system_time_us": process.system_time_us if process else None,
                "freepages_delay_ns": process.freepages_delay_ns if process else None,
            }
        )
    totals = _measures(session, snapshot.totals[0]) if len(snapshot.totals) else _no_measures(session)
    counts = snapshot.accounting
    return {
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
            "probes": [vars(probe) for probe in session.probes],
        },
        "totals": totals,
        "rows": rows,
        "nodes": [vars(node) for node in interval.nodes],
        "pressure": dict(interval.pressure) or None,
        "accounting": {
            "vmstat_delta": dict(counts.vmstat),
            "accounted_ratio": counts.ratio,
            "scanned_ratio": counts.scanned_ratio,
            "reclaimed_pages": counts.reclaimed_pages,
            "vmstat_reclaimed_pages": counts.vmstat_reclaimed_pages,
            "scanned_pages": counts.scanned_pages,
            "vmstat_scanned_pages": counts.vmstat_scanned_pages,
            "edge_pages": counts.edge_pages,
            "comparable": not counts.incomparable,
            "incomparable_reason": counts.incomparable or None,
            "lost": dict(counts.loss.lost),
            "suppressed": dict(counts.loss.suppressed),
            "missed_runs": counts.loss.missed_runs,
            "table_full": counts.loss.table_full,
            "unmatched_begin": counts.loss.unmatched_begin,
            "unmatched_end": counts.loss.unmatched_end,
        },
        "cost": vars(interval.cost),
    }


_SUMS = {
    "scanned_pages": ("scanned_file_pages", "scanned_anon_pages"),
    "reclaimed_pages": ("reclaimed_file_pages", "reclaimed_anon_pages"),
}


def _measures(session: Session, row: np.void) -> dict[str, Any]:
    values: dict[str, Any] = {m.name: row[m.name].tolist() for m in MEASURES if m.json}
    values["stall_ns"] = max(0, values["stall_ns"])
    for name, parts in _SUMS.items():
        values[name] = sum(values[part] for part in parts)
    return {name: None if name in session.unknown else value for name, value in values.items()}


def _no_measures(session: Session) -> dict[str, Any]:
    """Nothing happened: a zero that means zero."""
    names = [(m.name, [0] * m.length if m.length else 0) for m in MEASURES if m.json and m.fold is not Fold.LATEST]
    values = dict([*names, *((name, 0) for name in _SUMS)])
    return {name: None if name in session.unknown else value for name, value in values.items()}


def _whole(value: np.float64) -> int | None:
    return None if np.isnan(value) else int(value)


def _real(value: np.float64) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def _ratio(part: int | None, whole: int | None) -> float | None:
    return None if part is None or not whole else round(part / whole, 4)
