"""Wires kernel, host and model: a session that yields intervals."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import mmwatch
from mmwatch import units
from mmwatch.abi import RECORD_KINDS
from mmwatch.errors import MmwatchError, UnavailableError, UsageError
from mmwatch.kernel.builder import Builder
from mmwatch.kernel.builder_process import Options
from mmwatch.kernel.facts import Facts, gather
from mmwatch.kernel.plan import Choice, Filter, Plan, plan

if TYPE_CHECKING:  # what is slow to import comes in beside the compiler
    import numpy as np
    import numpy.typing as npt

    from mmwatch.host.zoneinfo import NodeState
    from mmwatch.kernel.tracer import Reading
    from mmwatch.model.interval import Interval, Node, Process, Rows

TASKSTATS_TASKS_MAX = 256
"""Processes asked for their CPU time per interval, those with the most reclaim first: about 10 us each."""


@dataclass(frozen=True)
class Target:
    """What the user asked to look at, resolved.

    :param described: for the session: ``pid``, ``children``, ``cgroup``, ``comm``.
    """

    wanted: Filter
    described: Mapping[str, Any]


def resolve_target(
    pids: list[int] | None = None, children: bool = False, cgroup: str | None = None, comm: str | None = None
) -> Target:
    """Check a filter against the host.

    :raises UsageError: no such cgroup.
    :raises MmwatchError: no such process.
    """
    described: dict[str, Any] = {}
    tgids: list[int] = []
    for pid in pids or []:
        tgid = thread_group(pid)
        if tgid != pid:
            print(f"mmwatch: {pid} is a thread of process {tgid}, which is looked at as a whole", file=sys.stderr)
        tgids.append(tgid)
    if tgids:
        described["pid"] = tgids
        if children:
            described["children"] = True
            tgids = with_descendants(tgids)
    cgroup_id = None
    if cgroup is not None:
        if not cgroup:
            raise UsageError("-c '' names no cgroup", "use -c / for the top of the hierarchy")
        from mmwatch.host import cgroups

        mount = cgroups.memory_mount()
        path, cgroup_id = cgroups.resolve(mount, cgroup)
        described["cgroup"] = units.clean(str(path))
    if comm is not None:
        if not 0 < len(os.fsencode(comm)) < 16:
            raise UsageError(
                f"no task is named {units.clean(comm)!r}", "the kernel keeps 15 bytes of a name; give these"
            )
        described["comm"] = units.clean(comm)
    return Target(Filter(tuple(tgids), children, cgroup_id, comm), described)


def thread_group(pid: int) -> int:
    """The process that ``pid``, a process or one of its threads, belongs to.

    :raises MmwatchError: there is no such process.
    """
    try:
        with open(f"/proc/{pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("Tgid:"))
    except (OSError, StopIteration):
        raise MmwatchError(f"no process has the PID {pid}", "ps -e lists those that run") from None


def with_descendants(tgids: list[int]) -> list[int]:
    """``tgids`` and the processes below them."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as stat:
                    parent = int(stat.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError):
                continue
            parents.setdefault(parent, []).append(int(name))
    found = list(tgids)
    for tgid in found:
        found.extend(child for child in parents.get(tgid, []) if child not in found)
    return found


class Observer:
    """Attached and counting, from construction to :meth:`close`.

    Compiling the programs takes longest of all, and another process does it: what else start-up needs is imported and
    read meanwhile.

    :raises MmwatchError: nothing can be observed; says why and what to do.
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
    ) -> None:
        self._system_before: dict[int, tuple[int | None, int | None]] = {}
        with Builder() as builder:
            self.facts: Facts = gather()
            force = os.environ.get("MMWATCH_PROBES") or None
            self.plan: Plan = plan(self.facts, target.wanted, force, _passes(passes))
            if "pass" in detail:
                _require_passes(self.plan.choices)
            options = Options(target.wanted, detail, table_rows, ring_bytes)
            builder.compile(self.plan, options)
            self._prepare(names)
            from mmwatch.kernel.tracer import Tracer

            self.tracer = Tracer(self.plan, options, builder)
        from mmwatch.model.interval import Probe, Session

        if self._settings.lru_gen_enabled is not None:
            self.tracer.set_lru_gen(bool(self._settings.lru_gen_enabled & 1))
        if "pass" in detail:
            _require_passes(self.tracer.choices)
        self._vmstat.refresh()
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
        """All that needs no tracer, beside the compiler: above all the imports."""
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
        self._cgroups = CgroupNames(memory_mount())
        self._settings = read_settings()
        self._names = ProcessNames()
        self._taskstats = TaskStats(self.facts.taskstats or None)
        if names:
            self._names.start()

    def _begin(self) -> None:
        self.tracer.read()
        self._vmstat_before, reading, self._edge_before = self._read_counters()
        self._time_before_ns = reading.time_ns
        self._cpu_before_ns = time.process_time_ns()
        self._pressure_before = self._pressure()

    def _read_counters(self) -> tuple[dict[str, int], Reading, int]:
        """The counters, the rows, and by how many stolen pages the counters moved while the rows were read.

        A batch that is counted between the two reads is in one of the two sums only; on a quiet host both are equal.
        """
        before = self._vmstat.read()
        reading = self.tracer.read()
        after = self._vmstat.read()
        return before, reading, _stolen(after) - _stolen(before)

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

        :param final: it is the last: have the kernel fold counters it keeps per CPU, where it does (7.1).
        """
        from mmwatch.host.settings import read_settings
        from mmwatch.model.interval import Cost, Interval, Loss

        if final:
            self._vmstat.refresh()
        vmstat, reading, edge = self._read_counters()
        settings = read_settings()
        changed = {k: v for k, v in asdict(settings).items() if v != getattr(self._settings, k)}
        if settings.lru_gen_enabled != self._settings.lru_gen_enabled:
            self.tracer.set_lru_gen(bool((settings.lru_gen_enabled or 0) & 1))
        self._settings = settings
        rows = to_rows(reading.rows)
        states = self._zoneinfo.read()
        pressure = self._pressure()
        cpu_ns = time.process_time_ns()
        stats = reading.stats
        interval = Interval(
            end_s=time.time(),
            duration_ns=max(reading.time_ns - self._time_before_ns, 1),
            rows=rows,
            vmstat={name: value - self._vmstat_before.get(name, 0) for name, value in vmstat.items()},
            edge_begin_pages=self._edge_before,
            edge_end_pages=edge,
            kswapd=_kswapd(rows, states) if not self.session.filter else {},
            nodes=tuple(_node(state) for state in states),
            pressure={
                **pressure,
                **{k: pressure[k] - self._pressure_before.get(k, 0) for k in pressure if k.endswith("_us")},
            },
            settings=changed,
            cgroups=self._cgroup_names(rows),
            processes=self._processes(rows),
            loss=Loss(
                lost={kind: stats[f"lost_{kind}"] for kind in RECORD_KINDS if kind in self.tracer.options.detail},
                suppressed={
                    kind: stats[f"suppressed_{kind}"] for kind in RECORD_KINDS if kind in self.tracer.options.detail
                },
                missed_runs=reading.missed_runs,
                unmatched_begin=stats["unmatched_begin"],
                unmatched_end=stats["unmatched_end"],
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

    def _cgroup_names(self, rows: Rows) -> dict[int, str]:
        import numpy as np

        found = {}
        for cgroup_id in np.unique(rows["cgroup_id"]).tolist():
            name = self._cgroups.get(cgroup_id) if cgroup_id else None
            if name is not None:
                found[cgroup_id] = name
        return found

    def _processes(self, rows: Rows) -> dict[int, Process]:
        """Names of all processes in ``rows``, and times of those with the most reclaim."""
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
        """System time and freepages delay since the last call for ``tgid``; None on the first one, or unknown."""
        usage = self._taskstats.process(tgid)
        if usage is None:
            self._system_before.pop(tgid, None)
            return None, None
        now = (usage.system_time_us, usage.freepages_delay_ns)
        before = self._system_before.get(tgid, (None, None))
        self._system_before[tgid] = now
        if len(self._system_before) > 4 * TASKSTATS_TASKS_MAX:
            self._system_before.pop(next(iter(self._system_before)))
        # Some kernels forget the times of threads that have ended; what has fallen is not known.
        grown = [None if a is None or b is None or a < b else a - b for a, b in zip(now, before)]
        return grown[0], grown[1]

    def close(self) -> None:
        """Detach and release."""
        self.tracer.close()
        self._names.close()
        self._taskstats.close()


def _passes(wanted: bool) -> str | None:
    return os.environ.get("MMWATCH_PASSES") or None if wanted else "none"


def _require_passes(choices: tuple[Choice, ...]) -> None:
    """:raises UnavailableError: they cannot be seen here."""
    for choice in choices:
        if choice.need == "passes" and choice.state != "attached":
            raise UnavailableError(f"there is no probe for single passes here: {choice.reason}", "use --detail batches")


def _probe(need: str, service: Any) -> Any:
    from mmwatch.model.interval import Probe

    available = service.available
    state = "attached" if available else "missing" if available is False else "unknown"
    return Probe(need, "netlink", state, service.reason)


def _incomparable(unknown: frozenset[str]) -> str:
    return "batches cannot be seen on this kernel" if "reclaimed_file_pages" in unknown else ""


def _stolen(vmstat: Mapping[str, int]) -> int:
    return vmstat.get("pgsteal_anon", 0) + vmstat.get("pgsteal_file", 0)


def _node(state: NodeState) -> Node:
    from mmwatch.model.interval import Node

    return Node(
        node=state.node,
        free_pages=state.free_pages,
        min_pages=state.min_pages,
        low_pages=state.low_pages,
        high_pages=state.high_pages,
        managed_pages=state.managed_pages,
        file_pages=state.file_pages,
        anon_pages=state.anon_pages,
    )


def _kswapd(rows: Rows, states: tuple[NodeState, ...]) -> dict[int, str]:
    """What each node's kswapd was at in the interval."""
    from mmwatch.model.measures import PATHS

    mine = rows[rows["path"] == PATHS.index("kswapd")]
    busy = set(mine["node"][(mine["batches"] > 0) | (mine["active_batches"] > 0) | (mine["reclaims"] > 0)].tolist())
    return {
        state.node: "gave up" if state.kswapd_gave_up else "running" if state.node in busy else "sleeping"
        for state in states
    }


def _rss_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def to_rows(table: npt.NDArray[Any]) -> Rows:
    """Rows of ``struct row`` as rows of the model: the same names, arrays cut to what is used."""
    import numpy as np

    from mmwatch.model.interval import ROW_DTYPE
    from mmwatch.model.measures import MEASURES, Fold

    rows: npt.NDArray[np.void] = np.zeros(len(table), ROW_DTYPE)
    for name in ("tgid", "tid", "path", "node", "cpu_node", "cgroup_id", "start_ns", "comm"):
        rows[name] = table[name]
    for measure in MEASURES:
        values = table[measure.name]
        if measure.fold is Fold.MAX:
            values = values[:, 0]
        elif measure.length:
            values = values[:, : measure.length]
        rows[measure.name] = values if measure.name != "stall_ns" else values.view(np.int64)
    return rows
