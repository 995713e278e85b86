"""An interval, grouped and summed: what a table, a screen or a JSON object says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mmwatch import units
from mmwatch.model.interval import ROW_DTYPE, Cost, Interval, Loss, Process, Rows, Session, fold_rows
from mmwatch.model.measures import MEASURES, NODE_UNKNOWN, PATHS, STALL_BUCKETS, STALL_SHIFT_MIN, Fold
from mmwatch.model.nodes import elsewhere, matrix, together

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

SUMS = {
    "scanned_pages": ("scanned_file_pages", "scanned_anon_pages"),
    "reclaimed_pages": ("reclaimed_file_pages", "reclaimed_anon_pages"),
}
"""What is shown of measures that are counted in two parts; not known unless both are."""

PRIORITY_TOLD_BY = ("priority_histogram", "pass_histogram")
"""Either is enough to know how low the scan priority went."""

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
    """The lowest scan priority of a batch or a pass, -1 where none told. ``(len(rows),)``."""
    seen = (rows["priority_histogram"] > 0) | (rows["pass_histogram"] > 0)
    return np.where(seen.any(axis=1), seen.argmax(axis=1), -1)


@dataclass(frozen=True)
class Accounting:
    """How closely what was counted equals what the kernel counted.

    :param reclaimed_pages: Σ over all rows, None without a probe for it; ``vmstat_reclaimed_pages`` is
        Δ(pgsteal_anon + pgsteal_file), or None.
    :param incomparable: why the two cannot be compared; empty when they can.
    """

    reclaimed_pages: int | None
    scanned_pages: int | None
    vmstat_reclaimed_pages: int | None
    vmstat_scanned_pages: int | None
    edge_begin_pages: int
    edge_end_pages: int
    incomparable: str
    loss: Loss
    vmstat: Mapping[str, int]

    @property
    def edge_pages(self) -> int:
        """By how many pages the two may differ only because they cannot be read at the same instant."""
        return self.edge_begin_pages + self.edge_end_pages

    @property
    def ratio(self) -> float | None:
        """Reclaimed pages seen ÷ stolen according to /proc/vmstat; None when unknown or nothing was reclaimed."""
        return self._share(self.reclaimed_pages, self.vmstat_reclaimed_pages)

    @property
    def scanned_ratio(self) -> float | None:
        """The same of scanned pages and pgscan."""
        return self._share(self.scanned_pages, self.vmstat_scanned_pages)

    def _share(self, seen: int | None, counted: int | None) -> float | None:
        return None if self.incomparable or seen is None or not counted else seen / counted

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

    def then(self, later: Accounting) -> Accounting:
        """The account of this stretch of time and the one right after it."""
        return Accounting(
            reclaimed_pages=_sum_both(self.reclaimed_pages, later.reclaimed_pages),
            scanned_pages=_sum_both(self.scanned_pages, later.scanned_pages),
            vmstat_reclaimed_pages=_sum_both(self.vmstat_reclaimed_pages, later.vmstat_reclaimed_pages),
            vmstat_scanned_pages=_sum_both(self.vmstat_scanned_pages, later.vmstat_scanned_pages),
            edge_begin_pages=self.edge_begin_pages,
            edge_end_pages=later.edge_end_pages,
            incomparable=self.incomparable or later.incomparable,
            loss=_sum_losses(self.loss, later.loss),
            vmstat=_sum_maps(self.vmstat, later.vmstat),
        )


@dataclass(frozen=True)
class Snapshot:
    """An interval folded by one of :data:`GROUPINGS`.

    :param rows: one row a group, in no order. Fields that are not keys of the grouping hold one member's value: ask
        :meth:`identities` instead.
    :param nodes_of: for each row, a tuple of the nodes its pages came from, in order.
    :param overshoot: pages freed ÷ pages asked for, over the paths that ask for a number; NaN where none does.
    :param asked_known: whether a path that asks for a number is among the row's.
    :param freed_known: whether somebody tells what its reclaims freed.
    :param same_comm: whether all that was folded into the row had this comm; ``same_cgroup`` likewise.
    :param totals: everything as one row; none when nothing was seen.
    """

    session: Session
    interval: Interval
    by: str
    rows: Rows
    nodes_of: npt.NDArray[np.object_]
    overshoot: Floats
    asked_known: npt.NDArray[np.bool_]
    freed_known: npt.NDArray[np.bool_]
    same_comm: npt.NDArray[np.bool_]
    same_cgroup: npt.NDArray[np.bool_]
    totals: Rows
    accounting: Accounting

    @property
    def duration_s(self) -> float:
        return self.interval.duration_ns / 1e9

    def select(self, indices: npt.NDArray[np.intp]) -> Snapshot:
        """Only these rows, in this order; totals and accounting stay those of the whole."""
        return replace(
            self,
            rows=self.rows[indices],
            nodes_of=self.nodes_of[indices],
            overshoot=self.overshoot[indices],
            asked_known=self.asked_known[indices],
            freed_known=self.freed_known[indices],
            same_comm=self.same_comm[indices],
            same_cgroup=self.same_cgroup[indices],
        )

    def identities(self) -> dict[str, list[Any]]:
        """Who the rows are, a list a field: ``tgid``, ``tid``, ``comm``, ``cmdline``, ``path``, ``node``, ``cgroup``.

        None where the grouping gives it no meaning or it is not known. All text is clean.
        """
        rows, keys = self.rows, GROUPINGS[self.by]
        none = [None] * len(rows)
        processes = self.processes()
        groups = [self.interval.cgroups.get(number) for number in rows["cgroup_id"].tolist()]
        return {
            "tgid": [number or None for number in rows["tgid"].tolist()] if "tgid" in keys else none,
            "tid": [number or None for number in rows["tid"].tolist()] if "tid" in keys else none,
            "comm": self._comms(processes) if "tgid" in keys else none,
            "cmdline": [process.cmdline or None if process else None for process in processes],
            "path": [PATHS[number] for number in rows["path"].tolist()] if "path" in keys else none,
            "node": [nodes[0] if len(nodes) == 1 and nodes[0] != NODE_UNKNOWN else None for nodes in self.nodes_of],
            "cgroup": [group if same else None for group, same in zip(groups, self.same_cgroup.tolist())],
        }

    def _comms(self, processes: list[Process | None]) -> list[str | None]:
        comms = [
            units.decode(comm) if same else process.comm or None if process else None
            for comm, same, process in zip(self.rows["comm"].tolist(), self.same_comm.tolist(), processes)
        ]
        for index in np.flatnonzero(self.rows["tgid"] == 0).tolist():
            comms[index] = comms[index] or UNATTRIBUTED
        return comms

    def identity(self, index: int) -> dict[str, Any]:
        """:meth:`identities` of one row."""
        return {key: values[0] for key, values in self.select(np.array([index])).identities().items()}

    def processes(self) -> list[Process | None]:
        """The process of each row, in the groupings by task and thread; None where it is not known."""
        if "tgid" not in GROUPINGS[self.by]:
            return [None] * len(self.rows)
        return [self.interval.processes.get(tgid) for tgid in self.rows["tgid"].tolist()]


def _asks(rows: Rows) -> npt.NDArray[np.bool_]:
    """Whether a row's path asks for a number of pages: kswapd aims at a watermark, no bracket asks for nothing."""
    return ~np.isin(rows["path"], (PATHS.index("kswapd"), PATHS.index("other")))


def _untold(session: Session, rows: Rows) -> npt.NDArray[np.bool_]:
    """Whether nobody tells what a row's reclaims freed: kswapd reports nothing, so only its batches do."""
    silent = not session.unknown.isdisjoint(SUMS["reclaimed_pages"])
    return np.asarray((rows["path"] == PATHS.index("kswapd")) & silent)


_FREED = ("reported_pages", "reclaims_futile", "pass_reclaimed_pages", "passes_futile")
"""Measures that say nothing where nobody tells what a reclaim freed."""


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
    return Snapshot(
        session=session,
        interval=interval,
        by=by,
        rows=folded,
        nodes_of=_nodes_of(groups, rows["node"], count),
        overshoot=overshoot,
        asked_known=np.bincount(groups[asks], minlength=count) > 0,
        freed_known=np.bincount(groups[_untold(session, rows)], minlength=count) == 0,
        same_comm=_all_equal(rows["comm"], folded["comm"], groups, count),
        same_cgroup=_all_equal(rows["cgroup_id"], folded["cgroup_id"], groups, count),
        totals=fold_rows(rows, [])[0],
        accounting=accounting(session, interval),
    )


def _nodes_of(groups: npt.NDArray[np.intp], node: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.object_]:
    """The nodes of each group. Nearly all have one, so tuples of one are made once and shared."""
    found = np.empty(count, object)
    if not count:
        return found
    lowest, highest = int(node.min()), int(node.max())
    pairs = np.unique(groups * (highest - lowest + 1) + (node - lowest))
    of_group, offset = np.divmod(pairs, highest - lowest + 1)
    single = np.empty(highest - lowest + 1, object)
    single[:] = [(number,) for number in range(lowest, highest + 1)]
    found[of_group] = single[offset]
    first = np.searchsorted(of_group, np.arange(count + 1))
    nodes = (offset + lowest).tolist()
    for group in np.flatnonzero(np.diff(first) > 1).tolist():
        found[group] = tuple(nodes[first[group] : first[group + 1]])
    return found


def _all_equal(
    values: npt.NDArray[Any], chosen: npt.NDArray[Any], groups: npt.NDArray[np.intp], count: int
) -> npt.NDArray[np.bool_]:
    differing = np.bincount(groups, values != chosen[groups], count)
    return np.asarray(differing == 0, bool)


def accounting(session: Session, interval: Interval) -> Accounting:
    """Hold the sum of all rows against /proc/vmstat."""

    def seen(*names: str) -> int | None:
        return None if session.unknown.intersection(names) else sum(int(interval.rows[name].sum()) for name in names)

    def counted(names: tuple[str, ...]) -> int | None:
        return sum(interval.vmstat[name] for name in names) if all(name in interval.vmstat for name in names) else None

    reclaimed, vmstat_reclaimed = seen(*SUMS["reclaimed_pages"]), counted(STEAL)
    incomparable = session.incomparable or ("a filter is on" if session.filter else "")
    if not incomparable and not interval.vmstat:
        incomparable = "no interval was kept"
    if not incomparable and reclaimed is None:
        incomparable = "no probe tells the pages reclaimed"
    if not incomparable and vmstat_reclaimed is None:
        incomparable = "/proc/vmstat has no pgsteal_anon and pgsteal_file"
    return Accounting(
        reclaimed_pages=reclaimed,
        scanned_pages=seen(*SUMS["scanned_pages"]),
        vmstat_reclaimed_pages=vmstat_reclaimed,
        vmstat_scanned_pages=counted(SCAN),
        edge_begin_pages=interval.edge_begin_pages,
        edge_end_pages=interval.edge_end_pages,
        incomparable=incomparable,
        loss=interval.loss,
        vmstat=interval.vmstat,
    )


def _sum_maps(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    return {key: a.get(key, 0) + b.get(key, 0) for key in [*a, *(key for key in b if key not in a)]}


def _sum_known(a: int | None, b: int | None) -> int | None:
    return None if a is None and b is None else (a or 0) + (b or 0)


def _sum_both(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b


def _sum_losses(a: Loss, b: Loss) -> Loss:
    return Loss(
        lost=_sum_maps(a.lost, b.lost),
        suppressed=_sum_maps(a.suppressed, b.suppressed),
        missed_runs=_sum_both(a.missed_runs, b.missed_runs),
        unmatched_begin=a.unmatched_begin + b.unmatched_begin,
        unmatched_end=a.unmatched_end + b.unmatched_end,
        table_full=a.table_full + b.table_full,
    )


def merge(first: Interval, second: Interval, keys: list[str] | None = None) -> Interval:
    """Two stretches of time, one after the other, as one.

    :param keys: fold rows with these equal; by default only those of the same thread, path and node.
    """
    rows, _, _ = fold_rows(
        np.concatenate([first.rows, second.rows]), keys or ["tgid", "tid", "start_ns", "path", "node", "cpu_node"]
    )
    processes = dict(first.processes)
    for tgid, process in second.processes.items():
        before = processes.get(tgid)
        if before is not None:
            process = Process(  # thousands of them an interval: replace() takes four times as long
                tgid,
                process.comm,
                process.cmdline or before.cmdline,
                process.ppid,
                _sum_known(before.system_time_us, process.system_time_us),
                _sum_known(before.freepages_delay_ns, process.freepages_delay_ns),
            )
        processes[tgid] = process
    return replace(
        second,
        duration_ns=first.duration_ns + second.duration_ns,
        rows=rows,
        vmstat=_sum_maps(first.vmstat, second.vmstat),
        edge_begin_pages=first.edge_begin_pages,
        edge_end_pages=second.edge_end_pages,
        pressure={
            **second.pressure,
            **{
                name: first.pressure.get(name, 0) + second.pressure[name]
                for name in ("some_us", "full_us")
                if name in second.pressure
            },
        },
        elsewhere=together(elsewhere(first), elsewhere(second)),
        cgroups={**first.cgroups, **second.cgroups},
        processes=processes,
        loss=_sum_losses(first.loss, second.loss),
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
    shown = snapshot if order is None else snapshot.select(order)
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
            "probes": [asdict(probe) for probe in session.probes],
        },
        "totals": _totals(snapshot),
        "rows": _rows(shown),
        "nodes": [{**asdict(node), "kswapd": interval.kswapd.get(node.node)} for node in interval.nodes],
        "matrix": [asdict(cell) for cell in matrix(interval.rows)],
        "elsewhere": {str(node): asdict(found) for node, found in elsewhere(interval).items()},
        "pressure": dict(interval.pressure) or None,
        "accounting": accounting_json(snapshot.accounting),
        "cost": asdict(interval.cost),
    }


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
        "comparable": not counts.incomparable,
        "incomparable_reason": counts.incomparable or None,
        "lost": dict(counts.loss.lost),
        "suppressed": dict(counts.loss.suppressed),
        "missed_runs": counts.loss.missed_runs,
        "table_full": counts.loss.table_full,
        "unmatched_begin": counts.loss.unmatched_begin,
        "unmatched_end": counts.loss.unmatched_end,
    }


def _measures(session: Session, rows: Rows) -> dict[str, list[Any]]:
    """A list a measure, with a value a row."""
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
    """All rows as one; where there is none nothing happened, and a zero means zero."""
    rows = snapshot.totals if len(snapshot.totals) else np.zeros(1, ROW_DTYPE)
    latest = {m.name for m in MEASURES if m.fold is Fold.LATEST}  # of one reclaim: says nothing of all
    untold = _FREED if not snapshot.freed_known.all() else ()
    values = _measures(snapshot.session, rows)
    return {name: None if name in untold else value[0] for name, value in values.items() if name not in latest}


def _where(values: list[Any], known: npt.NDArray[np.bool_]) -> list[Any]:
    return [value if told else None for value, told in zip(values, known.tolist())]


_Number = TypeVar("_Number", int, float)


def _known(values: Floats, known: bool, kind: type[_Number]) -> list[_Number | None]:
    return [kind(value) if known and value == value else None for value in values.tolist()]
