"""Wires kernel, host and model together: attaches the probes, then reads one interval after the other."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
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
    from mmwatch.kernel.symbols import Symbols
    from mmwatch.kernel.tracer import Reading
    from mmwatch.model.interval import Interval, Shrinker
    from mmwatch.model.rows import Rows

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
    :param closely: processes to read closely even if they do not reclaim.
    :param everything: follow all cgroups, not only those that reclaim.
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
        closely: tuple[int, ...] = (),
        everything: bool = False,
    ) -> None:
        with told_where_memory_is_short(), Builder() as builder:
            self.facts: Facts = gather()
            force = os.environ.get("MMWATCH_PROBES") or None
            self.plan: Plan = plan(self.facts, target.wanted, force, _passes(passes))
            if "pass" in detail:
                _require_passes(self.plan.choices)
            options = Options(target.wanted, detail, table_rows, ring_bytes)
            builder.compile(self.plan, options)
            self._prepare(names, everything, closely)
            meanwhile()
            from mmwatch.host.schedstat import runtime_ns
            from mmwatch.kernel.tracer import Tracer

            self.tracer = Tracer(self.plan, options, builder, runtime_ns)
        from mmwatch.model.interval import Probe, Session
        from mmwatch.session.surroundings import lru_gen

        self._lru_gen = lru_gen(self._around.settings)
        if self._lru_gen is not None:
            self.tracer.set_lru_gen(self._lru_gen)
        if "pass" in detail:
            _require_passes(self.tracer.choices)
        self._begin()
        probes = [Probe(c.need, c.probe, c.state, c.reason) for c in self.tracer.choices]
        probes += [_probe("process names", self._names), _probe("task times", self._taskstats)]
        probes += [_probe("shrinker names", self._symbols, "/proc/kallsyms")]
        self.session = Session(
            **self._around.of_session(self._vmstat_before),
            kernel=self.facts.kernel,
            hostname=units.clean(socket.gethostname()),
            version=mmwatch.__version__,
            interval_s=interval_s,
            filter=dict(target.described),
            unknown=self.tracer.unknown,
            incomparable=_incomparable(self.tracer.unknown),
            gfp_flags=self.facts.gfp_flags,
            probes=tuple(probes),
        )

    def _prepare(self, names: bool, everything: bool, closely: tuple[int, ...]) -> None:
        """Do everything that needs no tracer while the compiler works, mostly imports."""
        import mmwatch.kernel.tracer
        import mmwatch.model.snapshot  # noqa: F401
        from mmwatch.host.processes import ProcessNames
        from mmwatch.host.taskstats import TaskStats
        from mmwatch.kernel.symbols import Symbols
        from mmwatch.session.surroundings import Surroundings
        from mmwatch.session.tasks import Tasks

        self._around = Surroundings(everything)
        self._vmstat = self._around.vmstat
        self._symbols = Symbols()
        self._names = ProcessNames()
        self._taskstats = TaskStats(self.facts.taskstats or None)
        self._tasks = Tasks(self._names, self._taskstats, closely)
        if names:
            self._names.start()

    def _begin(self) -> None:
        first = self.tracer.read()
        self._vmstat_before, reading, self._edge_before = self._read_counters(self._vmstat.refresh())
        self.early_records = _streamed(first.rows, first.stats) + _streamed(reading.rows, reading.stats)
        self._time_before_ns = reading.time_ns
        self._cpu_before_ns = time.process_time_ns()
        self._around.begin()
        self._tasks.begin()

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

    def sample(self, final: bool = False) -> Interval:
        """What happened since the last call, or since the start.

        :param final: this is the last reading: make the kernel fold the counters that it keeps per CPU (since 7.1).
        """
        from mmwatch.model.inside import inside_of
        from mmwatch.model.interval import Cost, Interval, Loss
        from mmwatch.model.rows import from_table
        from mmwatch.session.surroundings import lru_gen

        vmstat, reading, edge = self._read_counters(final and self._vmstat.refresh())
        rows = from_table(reading.rows)
        around = self._around.of_interval(rows, final)
        if lru_gen(self._around.settings) != self._lru_gen:
            self._lru_gen = lru_gen(self._around.settings)
            self.tracer.set_lru_gen(bool(self._lru_gen))
        processes = self._tasks.of(rows)
        cpu_ns = time.process_time_ns()
        stats = reading.stats
        interval = Interval(
            **around,
            duration_ns=max(reading.time_ns - self._time_before_ns, 1),
            rows=rows,
            vmstat={name: value - self._vmstat_before.get(name, 0) for name, value in vmstat.items()},
            edge_begin_pages=self._edge_before.reclaimed_pages,
            edge_end_pages=edge.reclaimed_pages,
            edge_begin_scanned_pages=self._edge_before.scanned_pages,
            edge_end_scanned_pages=edge.scanned_pages,
            kswapd=_kswapd(rows, self._around.states) if not self.session.filter else {},
            processes=processes,
            inside=inside_of(reading.inside, reading.time_ns),
            shrinkers=_shrinkers(reading.shrinkers, self._symbols),
            loss=Loss(
                lost={kind: stats[f"lost_{kind}"] for kind in RECORD_KINDS if kind in self.tracer.options.detail},
                suppressed={
                    kind: stats[f"suppressed_{kind}"] for kind in RECORD_KINDS if kind in self.tracer.options.detail
                },
                missed_runs=reading.missed_runs,
                unmatched_begin=stats["unmatched_begin"],
                unmatched_end=stats["unmatched_end"],
                under_way=stats["under_way"],
                table_full=sum(stats[f"table_full_{of}"] for of in ("rows", "threads", "shrinkers")),
            ),
            cost=Cost(
                cpu_ns=cpu_ns - self._cpu_before_ns,
                rss_bytes=_rss_bytes(),
                table_rows=reading.rows_in_use,
                table_size=self.tracer.options.table_rows,
            ),
        )
        self._vmstat_before, self._edge_before = vmstat, edge
        self._time_before_ns, self._cpu_before_ns = reading.time_ns, cpu_ns
        return interval

    def cgroup_name(self, number: int) -> str | None:
        """The path of a memory cgroup, clean; None if unknown."""
        return self._around.cgroups.name(number)

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


def _probe(need: str, service: Any, probe: str = "netlink") -> Any:
    from mmwatch.model.interval import Probe

    available = service.available
    state = "attached" if available else "missing" if available is False else "unknown"
    return Probe(need, probe, state, service.reason)


def _shrinkers(work: Any, symbols: Symbols) -> tuple[Shrinker, ...]:
    from mmwatch.model.interval import Shrinker
    from mmwatch.model.merge import merge_shrinkers

    names = symbols.names(work["function"].tolist())
    figures = (work[name].tolist() for name in ("calls", "objects", "shrinker_ns"))
    return merge_shrinkers(map(Shrinker, names, *figures))


def _incomparable(unknown: frozenset[str]) -> str:
    return "this kernel has no events for its batches" if "reclaimed_file_pages" in unknown else ""


def _sum(vmstat: Mapping[str, int], names: Iterable[str]) -> int:
    return sum(vmstat.get(name, 0) for name in names)


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
