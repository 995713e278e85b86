"""What the rules judge: a series of intervals, and the figures that several of them need."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mmwatch.diagnosis.answers import Avoidable, Claim, Who
from mmwatch.diagnosis.thresholds import COST_MIN, HARM, LONG, SPARE
from mmwatch.model.accounting import Accounting, accounting
from mmwatch.model.interval import CgroupMemory, Elsewhere, Interval, Node, Process, Session
from mmwatch.model.measures import PATHS, THROTTLE_REASONS
from mmwatch.model.merge import THREAD_KEYS, Sums, merge_process
from mmwatch.model.nodes import elsewhere_of, merge_elsewhere
from mmwatch.model.rows import SUMS, Rows
from mmwatch.units import NS_PER_S, ancestors, clean, count_text, ns_text, number_list, pages_text, ratio_text

Mask = npt.NDArray[np.bool_]
ROWS_MAX = 1024
"""Rows of an interval that are kept apart: 1.5 KB each, and a few microseconds to fold."""
KSWAPD = PATHS.index("kswapd")


@dataclass(frozen=True)
class Observation:
    """Consecutive intervals of one session.

    :param intervals: at least one, in order.
    :param traced: probes were attached. Without them, all measures are unknown.
    :param summed: all intervals as one, if that is known already.
    :param nowhere_ns: time in reclaim that was left out because the cgroup of its tasks is not known, although one
        cgroup was asked about.
    """

    session: Session
    intervals: tuple[Interval, ...]
    traced: bool = True
    summed: Interval | None = None
    nowhere_ns: int = 0

    @cached_property
    def whole(self) -> Interval:
        """All of them as one."""
        if self.summed is not None:
            return self.summed
        sums = Sums(THREAD_KEYS, 16 * ROWS_MAX, 16 * ROWS_MAX * len(self.intervals))
        for interval in self.intervals:
            sums.add(interval)
        return sums.whole() or self.intervals[0]

    @property
    def rows(self) -> Rows:
        return self.whole.rows

    @property
    def duration_ns(self) -> int:
        return max(self.whole.duration_ns, 1)

    @property
    def duration_s(self) -> float:
        return self.duration_ns / NS_PER_S

    @property
    def last(self) -> Interval:
        return self.intervals[-1]

    @property
    def begin_s(self) -> float:
        """When the first interval began, in seconds since 1970."""
        return self.intervals[0].end_s - self.intervals[0].duration_ns / 1e9

    @cached_property
    def account(self) -> Accounting:
        return accounting(self.session, self.whole)

    def known(self, *measures: str) -> bool:
        """Whether all of these measures have a probe."""
        return self.session.unknown.isdisjoint(measures)

    # ---- rows ----

    @cached_property
    def stalls_ns(self) -> Claim:
        """Time in reclaim per row; a thread's time may move between its rows, so none is below 0."""
        return np.asarray(np.maximum(self.rows["stall_ns"], 0), np.int64)

    def on(self, *paths: str) -> Mask:
        """The rows on these paths. ``(len(rows),)``."""
        return np.isin(self.rows["path"], [PATHS.index(path) for path in paths])

    @cached_property
    def tasks(self) -> Mask:
        """The rows of all but kswapd: somebody waits for these."""
        return np.asarray(self.rows["path"] != KSWAPD)

    @cached_property
    def waiting(self) -> Mask:
        """The same without requested reclaim, and without kswapd at soft limits: nobody waits for that."""
        return self.tasks & ~self.on("proactive") & ~self.kswapd_threads

    @cached_property
    def kswapd_threads(self) -> Mask:
        """The rows of kswapd's threads on any path: soft limits are reclaimed by kswapd, too."""
        threads = np.unique(self.rows["tid"][~self.tasks])
        return np.isin(self.rows["tid"], threads)

    def lost_ns(self, rows: Mask) -> int:
        """Time in reclaim of these rows."""
        return int(self.stalls_ns[rows].sum())

    def claim(self, rows: Mask) -> Claim:
        """All time of these rows."""
        return np.where(rows, self.stalls_ns, 0)

    def sum(self, rows: Mask, *names: str) -> int:
        """The sum of these measures over rows."""
        return sum(int(self.rows[name][rows].sum()) for name in names)

    def reclaimed(self, rows: Mask) -> int:
        return self.sum(rows, *SUMS["reclaimed_pages"])

    def scanned(self, rows: Mask) -> int:
        return self.sum(rows, *SUMS["scanned_pages"])

    def freed(self, rows: Mask) -> int:
        """Pages that the reclaims of these rows freed. Where batches have no events, kswapd does not say: then its own
        counter does."""
        reported = self.sum(rows, "reported_pages")
        if self.known(*SUMS["reclaimed_pages"]):
            return max(reported, self.reclaimed(rows))
        return reported + (self.grown_like("pgsteal_kswapd") or 0 if (rows & ~self.tasks).any() else 0)

    def of_anon(self, rows: Mask) -> bool:
        """Whether more than half of what these rows freed was anonymous. Where batches have no events, what the host
        swapped out meanwhile tells."""
        if self.known("reclaimed_anon_pages"):
            return 2 * self.sum(rows, "reclaimed_anon_pages") > self.reclaimed(rows)
        return 2 * (self.grown("pswpout") or 0) > self.freed(rows)

    def efficiency(self, rows: Mask) -> float | None:
        """Pages reclaimed for each page scanned; None if unknown or nothing was scanned."""
        if not self.known(*SUMS["reclaimed_pages"], *SUMS["scanned_pages"]):
            return None
        scanned = self.scanned(rows)
        return self.reclaimed(rows) / scanned if scanned else None

    def throttled_ns(self, rows: Mask, *reasons: str) -> int:
        """Time asleep in reclaim for these reasons; 0 if unknown."""
        columns = [THROTTLE_REASONS.index(reason) for reason in reasons]
        return int(self.rows["throttled_ns"][rows][:, columns].sum())

    def priority(self, rows: Mask) -> int | None:
        """The lowest scan priority of these rows; None if unknown."""
        seen = (self.rows["priority_histogram"][rows] > 0).any(axis=0) | (self.rows["pass_histogram"][rows] > 0).any(
            axis=0
        )
        return int(seen.argmax()) if seen.any() else None

    def longest_ns(self, rows: Mask) -> int:
        """The longest single reclaim that ended."""
        return int(self.rows["stall_max_ns"][rows].max(initial=0))

    def share(self, ns: float) -> float:
        """Of the time observed. Several tasks add up."""
        return ns / self.duration_ns

    def harmful(self, rows: Mask) -> bool:
        """Whether somebody lost enough time in these rows to notice."""
        share = self.share(self.lost_ns(rows))
        return share >= HARM.value or (share >= COST_MIN.value and self.longest_ns(rows) >= LONG.value)

    def who(self, claim: Claim, most: int = 5) -> tuple[Who, ...]:
        """The tasks with the most of this time."""
        rows = self.rows
        found: dict[tuple[int, int], tuple[int, int]] = {}
        for index in np.flatnonzero(claim).tolist():
            key = (int(rows["tgid"][index]), int(rows["path"][index]))
            before = found.get(key, (0, index))
            found[key] = (before[0] + int(claim[index]), index)
        ranked = sorted(found.items(), key=lambda one: -one[1][0])[:most]
        return tuple(
            Who(
                tgid,
                self.comm(tgid, index),
                PATHS[path],
                self.whole.cgroups.get(int(rows["cgroup_id"][index])),
                ns,
                self.share(ns),
            )
            for (tgid, path), (ns, index) in ranked
        )

    def comm(self, tgid: int, index: int) -> str:
        """The name of a process, or else that of its thread in this row."""
        process = self.whole.processes.get(tgid)
        return (process.comm if process else "") or clean(self.rows["comm"][index].decode("utf-8", "replace")) or "?"

    def names(self, rows: Mask, most: int = 2) -> str:
        """The tasks of these rows with the most time: ``python3[123], dd[4] and 3 more``, ``9 processes named dd``."""
        who = self.who(self.claim(rows), len(self.rows))
        tgids = list(dict.fromkeys((one.tgid, one.comm) for one in who))
        comms = {comm for _, comm in tgids}
        if len(tgids) > most and len(comms) == 1:
            return f"{len(tgids)} processes named {comms.pop()}"
        shown = ", ".join(f"{comm}[{tgid}]" if tgid else comm for tgid, comm in tgids[:most])
        rest = len(tgids) - most
        return (f"{shown} and {rest} more" if rest > 0 else shown) or "nobody"

    # ---- the host ----

    def grown(self, *names: str) -> int | None:
        """Growth of these counters of /proc/vmstat; None if the kernel has none of them."""
        found = [self.whole.vmstat[name] for name in names if name in self.whole.vmstat]
        return sum(found) if found else None

    def grown_like(self, prefix: str) -> int | None:
        """The same of all counters that begin so: allocstall_normal and so on."""
        return self.grown(*(name for name in self.whole.vmstat if name.startswith(prefix)))

    def rate(self, count: float | None) -> float:
        """Per second; 0 if unknown."""
        return (count or 0) / self.duration_s

    def setting(self, name: str) -> Any:
        """A setting at the end; None if the kernel has none."""
        return {**self.session.settings, **self.last.settings}.get(name)

    @property
    def lru_gen(self) -> bool:
        """Whether the multi-generational LRU is on. It counts only what is read again before its generation is gone."""
        enabled = self.setting("lru_gen_enabled")
        return isinstance(enabled, int) and bool(enabled & 1)

    @cached_property
    def waited_ns(self) -> int:
        """Time in which some task waited for memory (PSI); 0 without PSI. What kswapd can have added is left out."""
        waited = int(self.whole.pressure.get("some_us", 0)) * 1000
        return max(0, min(waited, self.duration_ns) - self.lost_ns(~self.tasks))

    @property
    def pressure(self) -> float | None:
        """Percent of the time in which some task waited for memory, or kswapd worked; None without PSI."""
        waited = self.whole.pressure.get("some_us")
        return None if waited is None else min(100.0, 100 * self.share(1000 * waited))

    @property
    def pressure_text(self) -> str:
        """:attr:`pressure` in words."""
        kswapd = not self.traced or self.share(self.lost_ns(~self.tasks)) >= COST_MIN.value
        return f"tasks waited for memory{', or kswapd worked,' if kswapd else ''} {self.pressure or 0:.1f}% of the time"

    @property
    def io_pressure(self) -> float | None:
        """Percent of the time in which some task waited for I/O; None without PSI."""
        waited = self.whole.pressure.get("io_some_us")
        return None if waited is None else min(100.0, 100 * self.share(1000 * waited))

    def node(self, number: int) -> Node | None:
        """A node at the end."""
        return next((node for node in self.last.nodes if node.node == number), None)

    def nodes(self) -> Iterator[tuple[int, tuple[Node, ...]]]:
        """Each node through the intervals."""
        numbers = sorted({node.node for interval in self.intervals for node in interval.nodes})
        for number in numbers:
            yield number, tuple(node for one in self.intervals for node in one.nodes if node.node == number)

    def distance(self, node: int, other: int) -> int | None:
        place = self.session.topology.get(node)
        return place.distances.get(other) if place else None

    def elsewhere(self, *paths: str) -> dict[int, Elsewhere]:
        """What these paths took from each node while another had plenty above its high watermark."""
        found: dict[int, Elsewhere] = {}
        for interval in self.intervals:
            nodes = [node if _plenty(node) else replace(node, free_pages=None) for node in interval.nodes]
            rows = interval.rows[np.isin(interval.rows["path"], [PATHS.index(path) for path in paths])]
            here = elsewhere_of(rows, np.zeros(len(rows), np.int64), {0: nodes})
            found = merge_elsewhere(found, here)
        return found

    @cached_property
    def avoidable(self) -> Avoidable:
        """Reclaim that another node's free memory would have spared."""
        found = self.elsewhere("direct", "node").values()
        return Avoidable(
            sum(one.reclaimed_pages for one in found),
            sum(one.stall_ns for one in found),
            sum(one.futile for one in found),
        )

    def restricted(self, rows: Mask, node: int) -> str:
        """Why the tasks of these rows may not use a node: a sentence; empty if they may, ``?`` if that is unknown."""
        unknown = True
        for tgid in np.unique(self.rows["tgid"][rows]).tolist():
            process = self.whole.processes.get(tgid)
            if process is None or not (process.mems_allowed or process.mempolicy):
                continue
            unknown = False
            who = f"{process.comm}[{tgid}]"
            if process.mems_allowed and node not in number_list(process.mems_allowed):
                return f"the cpuset of {who} allows memory of node {process.mems_allowed} only"
            for policy in process.mempolicy.split(","):
                kind, _, nodes = policy.partition(":")
                if kind.startswith("bind") and node not in number_list(nodes):
                    return f"the memory policy of {who} is {policy}"
        return "?" if unknown else ""

    # ---- cgroups ----

    def below(self, path: str) -> Mask:
        """The rows of tasks in a cgroup or below it."""
        inside = [
            number
            for number, name in self.whole.cgroups.items()
            if path == "/" or name == path or name.startswith(f"{path}/")
        ]
        return np.isin(self.rows["cgroup_id"], np.array(inside, np.uint64))

    @cached_property
    def limited(self) -> dict[str, CgroupMemory]:
        """Limits, usage and growth of each cgroup that was read, by path."""
        paths = {number: path for interval in self.intervals for number, path in interval.cgroups.items()}
        found = ((paths.get(number), memory) for number, memory in self.whole.cgroup_memory.items())
        return {path: memory for path, memory in found if path}

    def process(self, tgid: int) -> Process | None:
        """A process, whether or not it reclaimed; None if it was not read."""
        found: Process | None = None
        for process in filter(None, (interval.processes.get(tgid) for interval in self.intervals)):
            found = process if found is None else merge_process(found, process)
        return found

    def bound(self, rows: Mask, *which: str) -> dict[str, Mask]:
        """Which of these rows each cgroup holds back, if its own counters ``which`` (``max``, ``high``) grew.

        The target of the reclaim tells, where it is known. Else it is inferred: the nearest cgroup to the task whose
        counters grew. One that is hit once in a while counts only if none above it is hit ten times as often: near a
        full parent, its children touch their own limits now and then.
        """
        found: dict[str, Mask] = {}
        for group, target in set(zip(self.rows["cgroup_id"][rows].tolist(), self.rows["target_id"][rows].tolist())):
            path = self.whole.cgroups.get(target or group)
            hits = {
                one: sum(self.limited[one].grown.get(name, 0) for name in which)
                for one in (() if path is None else (path,) if target else (path, *ancestors(path)))
                if one in self.limited
            }
            most = max(hits.values(), default=0)
            if most:
                nearest = next(one for one in hits if hits[one] * 10 >= most)
                mine = rows & (self.rows["cgroup_id"] == group) & (self.rows["target_id"] == target)
                found[nearest] = found[nearest] | mine if nearest in found else mine
        return found

    def control(self, path: str, file: str) -> str:
        """A control file of a cgroup, quoted for a shell."""
        mount = str(self.setting("cgroup_mount") or "/sys/fs/cgroup")
        return shlex.quote(f"{mount}{path.rstrip('/')}/{file}")

    # ---- text ----

    def quoted(self, path: str | None) -> str:
        return shlex.quote(path or "/")

    def bytes(self, value: float | None) -> str:
        return pages_text(value, 1)

    def part(self, ns: float, whole_ns: float) -> str:
        return f"{ratio_text(ns / whole_ns if whole_ns else 0.0)}%"

    def pages(self, pages: float | None) -> str:
        return pages_text(pages, self.session.page_size)


def percent(share: float) -> str:
    """``94.3%``."""
    return f"{ratio_text(share)}%"


def count(value: float) -> str:
    """A count in full up to nine digits."""
    return count_text(value, 9)


def time(ns: float) -> str:
    return ns_text(ns)


def _plenty(node: Node) -> bool:
    """Whether a node has so much free memory above its high watermark that others could use it."""
    if node.free_pages is None or node.high_pages is None or node.managed_pages is None:
        return False
    return node.free_pages - node.high_pages >= SPARE.value * node.managed_pages


def observe(session: Session, intervals: Sequence[Interval], traced: bool = True) -> Observation:
    """An observation of these intervals.

    :raises ValueError: there is none.
    """
    if not intervals:
        raise ValueError("no interval to judge")
    return Observation(session, tuple(intervals), traced)
