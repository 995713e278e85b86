"""Wires kernel, host and model together: attaches the probes, then reads one interval after the other."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import mmwatch
from mmwatch import units
from mmwatch.abi import RECORD_KINDS
from mmwatch.errors import UnavailableError
from mmwatch.kernel.builder import Builder
from mmwatch.kernel.builder_process import Options
from mmwatch.kernel.facts import Facts, gather
from mmwatch.kernel.plan import Choice, Plan, plan
from mmwatch.session.beat import Beat
from mmwatch.session.shortage import told_where_memory_is_short
from mmwatch.session.target import Target

if TYPE_CHECKING:  # slow imports run while the compiler works
    from mmwatch.host.zoneinfo import NodeState
    from mmwatch.kernel.tracer import Reading
    from mmwatch.model.interval import CgroupMemory, Interval, Node, Process
    from mmwatch.model.rows import Rows

TASKSTATS_TASKS_MAX = 256
"""In each interval, CPU time is read for at most this many processes, those with the most reclaim first. 10 us each."""
CGROUPS_MAX = 64
"""In each interval, limits and usage are read for at most this many cgroups and those above them. 40 us each."""
TRIES_MAX, TRIES_S = 8, 0.01
"""How often, and for how long at most, rows and counters are read again to find a pair that agrees."""
STEAL, SCAN = ("pgsteal_anon", "pgsteal_file"), ("pgscan_anon", "pgscan_file")
FIRST_INTERVAL_S = 0.2
"""On a terminal, the first interval is this short, so that the first screen appears soon."""


class Edge(NamedTuple):
    """By how many pages rows and counters may differ, because they cannot be read at the same instant."""

    reclaimed_pages: int
    scanned_pages: int


class Observer:
    """A running observation: probes are attached and count from construction to :meth:`close`.

    Compiling the programs takes most of the start-up time. Another process does that, while this one imports and reads
    everything else.

    :param meanwhile: called while the compiler works, before anything is attached.
    :ivar early_records: single reclaims that ended before the first interval began. No row counts them, and the ring
        buffer gives them first.
    :raises MmwatchError: nothing can be observed. The message says why and what to do.
    """

    def __init__(
        self,
        target: Target,
        *,
        interval_s: float = 1.0,
        detail: frozenset[str] = frozenset(),
        table_rows: int = 16384,
        ring_bytes: int = 8 << 20,
        names: bool = True,
        passes: bool = True,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self._system_before: dict[int, tuple[int | None, int | None]] = {}
        with told_where_memory_is_short(), Builder() as builder:
            self.facts: Facts = gather()
            force = os.environ.get("MMWATCH_PROBES") or None
            self.plan: Plan = plan(self.facts, target.wanted, force, _passes(passes))
            if "pass" in detail:
                _require_passes(self.plan.choices)
            options = Options(target.wanted, detail, table_rows, ring_bytes)
            builder.compile(self.plan, options)
            self._prepare(names)
            meanwhile()
            from mmwatch.host.schedstat import runtime_ns
            from mmwatch.kernel.tracer import Tracer

            self.tracer = Tracer(self.plan, options, builder, runtime_ns)
        from mmwatch.model.interval import Probe, Session

        if self._settings.lru_gen_enabled is not None:
            self.tracer.set_lru_gen(bool(self._settings.lru_gen_enabled & 1))
        if "pass" in detail:
            _require_passes(self.tracer.choices)
        self._begin()
        probes = [Probe(c.need, c.probe, c.state, c.reason) for c in self.tracer.choices]
        probes += [_probe("process names", self._names), _probe("task times", self._taskstats)]
        self.session = Session(
            start_s=time.time(),
            kernel=self.facts.kernel,
            hostname=units.clean(socket.gethostname()),
            version=mmwatch.__version__,
            page_size=self._settings.page_size_bytes,
            interval_s=interval_s,
            filter=dict(target.described),
            unknown=self.tracer.unknown,
            incomparable=_incomparable(self.tracer.unknown),
            gfp_flags=self.facts.gfp_flags,
            settings=asdict(self._settings),
            probes=tuple(probes),
        )

    def _prepare(self, names: bool) -> None:
        """Do everything that needs no tracer while the compiler works, mostly imports."""
        import mmwatch.kernel.tracer
        import mmwatch.model.snapshot  # noqa: F401
        from mmwatch.host.cgroups import CgroupNames, memory_mount
        from mmwatch.host.processes import ProcessNames
        from mmwatch.host.settings import read_settings
        from mmwatch.host.taskstats import TaskStats
        from mmwatch.host.vmstat import Vmstat
        from mmwatch.host.zoneinfo import Zoneinfo

        self._vmstat = Vmstat()
        self._zoneinfo = Zoneinfo()
        self._mount = memory_mount()
        self._cgroups = CgroupNames(self._mount)
        self._settings = read_settings()
        self._names = ProcessNames()
        self._taskstats = TaskStats(self.facts.taskstats or None)
        if names:
            self._names.start()

    def _begin(self) -> None:
        first = self.tracer.read()
        self._vmstat_before, reading, self._edge_before = self._read_counters(self._vmstat.refresh())
        self.early_records = _streamed(first.rows, first.stats) + _streamed(reading.rows, reading.stats)
        self._time_before_ns = reading.time_ns
        self._cpu_before_ns = time.process_time_ns()
        self._pressure_before = self._pressure()

    def _read_counters(self, folded: bool) -> tuple[dict[str, int], Reading, Edge]:
        """The counters, the rows, and by how many pages they may differ, because they are not of the same instant.

        Rows and counters are read again and again, as under a seqlock, until the counters stand still or the tries are
        over. The pair with the fewest pages between the two counts.

        :param folded: the counters that the kernel keeps per CPU have just been folded.
        """
        self.tracer.begin()
        pairs: list[tuple[int, int, dict[str, int], Any, int, int]] = []
        before = self._vmstat.read()
        until_s = time.monotonic() + TRIES_S
        while True:
            look = self.tracer.look()
            after = self._vmstat.read()
            stolen, scanned = (_sum(after, names) - _sum(before, names) for names in (STEAL, SCAN))
            pairs.append((stolen + scanned, len(pairs), before, look, stolen, scanned))
            if not pairs[-1][0] or len(pairs) == TRIES_MAX or time.monotonic() >= until_s:
                break
            before = after
        moved, _, before, look, stolen, scanned = min(pairs)
        reading = self.tracer.take(look)
        unfolded = self._vmstat.unfolded_pages if moved or not folded else 0
        return before, reading, Edge(stolen + unfolded, scanned + unfolded + reading.pending_pages)

    def _pressure(self) -> dict[str, float]:
        from mmwatch.host.pressure import read_pressure

        found = read_pressure()
        if found is None:
            return {}
        return {
            "some_avg10": found.some_avg10_pct,
            "full_avg10": found.full_avg10_pct,
            "some_us": found.some_total_us,
            "full_us": found.full_total_us,
        }

    def sample(self, final: bool = False) -> Interval:
        """What happened since the last call, or since the start.

        :param final: this is the last reading: make the kernel fold the counters that it keeps per CPU (since 7.1).
        """
        from mmwatch.host.settings import read_settings
        from mmwatch.model.inside import inside_of
        from mmwatch.model.interval import Cost, Interval, Loss
        from mmwatch.model.rows import from_table

        vmstat, reading, edge = self._read_counters(final and self._vmstat.refresh())
        settings = read_settings()
        changed = {k: v for k, v in asdict(settings).items() if v != self.session.settings[k]}
        if settings.lru_gen_enabled != self._settings.lru_gen_enabled:
            self.tracer.set_lru_gen(bool((settings.lru_gen_enabled or 0) & 1))
        self._settings = settings
        rows = from_table(reading.rows)
        states = self._zoneinfo.read()
        pressure = self._pressure()
        cgroups, memory = self._cgroups_of(rows)
        cpu_ns = time.process_time_ns()
        stats = reading.stats
        interval = Interval(
            end_s=time.time(),
            duration_ns=max(reading.time_ns - self._time_before_ns, 1),
            rows=rows,
            vmstat={name: value - self._vmstat_before.get(name, 0) for name, value in vmstat.items()},
            edge_begin_pages=self._edge_before.reclaimed_pages,
            edge_end_pages=edge.reclaimed_pages,
            edge_begin_scanned_pages=self._edge_before.scanned_pages,
            edge_end_scanned_pages=edge.scanned_pages,
            kswapd=_kswapd(rows, states) if not self.session.filter else {},
            nodes=tuple(_node(state) for state in states),
            pressure={
                **pressure,
                **{k: pressure[k] - self._pressure_before.get(k, 0) for k in pressure if k.endswith("_us")},
            },
            settings=changed,
            cgroups=cgroups,
            cgroup_memory=memory,
            processes=self._processes(rows),
            inside=inside_of(reading.inside, reading.time_ns),
            loss=Loss(
                lost={kind: stats[f"lost_{kind}"] for kind in RECORD_KINDS if kind in self.tracer.options.detail},
                suppressed={
                    kind: stats[f"suppressed_{kind}"] for kind in RECORD_KINDS if kind in self.tracer.options.detail
                },
                missed_runs=reading.missed_runs,
                unmatched_begin=stats["unmatched_begin"],
                unmatched_end=stats["unmatched_end"],
                under_way=stats["under_way"],
                table_full=stats["table_full_rows"] + stats["table_full_threads"],
            ),
            cost=Cost(
                cpu_ns=cpu_ns - self._cpu_before_ns,
                rss_bytes=_rss_bytes(),
                table_rows=reading.rows_in_use,
                table_size=self.tracer.options.table_rows,
            ),
        )
        self._vmstat_before, self._edge_before = vmstat, edge
        self._time_before_ns, self._cpu_before_ns, self._pressure_before = reading.time_ns, cpu_ns, pressure
        return interval

    def cgroup_name(self, number: int) -> str | None:
        """The path of a memory cgroup, clean; None if unknown."""
        return self._cgroups.get(number) if number else None

    def _cgroups_of(self, rows: Rows) -> tuple[dict[int, str], dict[int, CgroupMemory]]:
        """The names of all cgroups in ``rows``, targets too, and limits and usage of those with the most reclaim.

        Both include the cgroups above them, because a limit there may be the one that binds.
        """
        import numpy as np

        from mmwatch.host.cgroup_memory import read_memory
        from mmwatch.model.interval import CgroupMemory

        # The target is most often the task's own cgroup; its time counts once then.
        other_target = rows[rows["target_id"] != rows["cgroup_id"]]
        both = np.concatenate([rows["cgroup_id"], other_target["target_id"]])
        numbers, where = np.unique(both, return_inverse=True)
        times = np.concatenate([rows["stall_ns"], other_target["stall_ns"]]).astype(float)
        stall = np.bincount(where, times) if len(both) else np.zeros(0)
        names: dict[int, str] = {}
        memory: dict[int, CgroupMemory] = {}
        for rank, number in enumerate(numbers[np.argsort(-stall)].tolist()):
            path = self._cgroups.path(number) if number else None
            if path is None or self._mount is None:
                continue
            names[number] = units.clean(path)
            for above in (path, *units.ancestors(path)) if rank < CGROUPS_MAX else ():
                other = self._cgroups.number(above)
                if other is None or other in memory:
                    continue
                found = read_memory(self._mount, above)
                if found is not None:
                    names[other], memory[other] = units.clean(above), CgroupMemory(**asdict(found))
        return names, memory

    def _processes(self, rows: Rows) -> dict[int, Process]:
        """Names of all processes in ``rows``, and CPU times of those with the most reclaim."""
        import numpy as np

        from mmwatch.model.interval import Process

        tgids, where = np.unique(rows["tgid"], return_inverse=True)
        stall = np.bincount(where, rows["stall_ns"].astype(float)) if len(rows) else np.zeros(0)
        chosen = tgids[np.argsort(-stall)[:TASKSTATS_TASKS_MAX]].tolist()
        times = {tgid: self._task_times(tgid) for tgid in chosen if tgid}
        found = {}
        for tgid in tgids.tolist():
            if not tgid:
                continue
            name = self._names.get(tgid)
            system_time_us, delay_ns = times.get(tgid, (None, None))
            found[tgid] = Process(
                tgid=tgid,
                comm=name.comm or "",
                cmdline=name.cmdline or "",
                ppid=name.ppid,
                system_time_us=system_time_us,
                freepages_delay_ns=delay_ns,
            )
        return found

    def _task_times(self, tgid: int) -> tuple[int | None, int | None]:
        """System time and freepages delay since the last call for ``tgid``; None on the first call or if unknown."""
        usage = self._taskstats.process(tgid)
        if usage is None:
            self._system_before.pop(tgid, None)
            return None, None
        now = (usage.system_time_us, usage.freepages_delay_ns)
        before = self._system_before.get(tgid, (None, None))
        self._system_before[tgid] = now
        if len(self._system_before) > 4 * TASKSTATS_TASKS_MAX:
            self._system_before.pop(next(iter(self._system_before)))
        # Some kernels forget the times of threads that have ended, so treat a sum that shrank as unknown.
        grown = [None if a is None or b is None or a < b else a - b for a, b in zip(now, before)]
        return grown[0], grown[1]

    def close(self) -> None:
        """Detach and release."""
        self.tracer.close()
        self._names.close()
        self._taskstats.close()


def _streamed(rows: Any, stats: Mapping[str, int]) -> int:
    """How many of the reclaims in these rows were streamed as single records."""
    return int(rows["reclaims"].sum()) - stats["lost_reclaim"] - stats["suppressed_reclaim"]


def _passes(wanted: bool) -> str | None:
    return os.environ.get("MMWATCH_PASSES") or None if wanted else "none"


def _require_passes(choices: tuple[Choice, ...]) -> None:
    """:raises UnavailableError: passes cannot be seen here."""
    for choice in choices:
        if choice.need == "passes" and choice.state != "attached":
            raise UnavailableError(f"this kernel offers no probe for passes: {choice.reason}", "use --detail batches")


def _probe(need: str, service: Any) -> Any:
    from mmwatch.model.interval import Probe

    available = service.available
    state = "attached" if available else "missing" if available is False else "unknown"
    return Probe(need, "netlink", state, service.reason)


def _incomparable(unknown: frozenset[str]) -> str:
    return "this kernel has no events for its batches" if "reclaimed_file_pages" in unknown else ""


def _sum(vmstat: Mapping[str, int], names: Iterable[str]) -> int:
    return sum(vmstat.get(name, 0) for name in names)


def _node(state: NodeState) -> Node:
    """A model node with the fields that both types have."""
    from mmwatch.model.interval import Node

    return Node(**{field.name: getattr(state, field.name) for field in fields(Node)})


def _kswapd(rows: Rows, states: tuple[NodeState, ...]) -> dict[int, str]:
    """What each node's kswapd did in the interval."""
    from mmwatch.model.measures import PATHS

    mine = rows[rows["path"] == PATHS.index("kswapd")]
    busy = set(mine["node"][(mine["batches"] > 0) | (mine["active_batches"] > 0) | (mine["reclaims"] > 0)].tolist())
    return {
        state.node: "gave up" if state.kswapd_gave_up else "running" if state.node in busy else "sleeping"
        for state in states
    }


def _rss_bytes() -> int:
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def intervals(observer: Observer, beat: Beat, count: int | None = None, quick: bool = False) -> Iterator[Interval]:
    """One interval after the other, until the count is reached or the time is over.

    :param quick: the first interval is a short one that does not count.
    """
    shown = -1 if quick else 0
    while count is None or shown < count:
        time.sleep(beat.left_s())
        over = beat.over()
        yield observer.sample()
        if over:
            return
        beat.advance()
        shown += 1
