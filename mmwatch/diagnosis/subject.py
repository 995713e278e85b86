"""One process, or the tasks of one cgroup: how much of its time went to reclaim, and what else it waited for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from mmwatch.diagnosis.observation import KSWAPD, Observation
from mmwatch.model.interval import Interval


@dataclass(frozen=True)
class Subject:
    """What the user asked about. Times are nanoseconds of the whole observation; None if unknown.

    :param name: ``python3[123]`` or the path of a cgroup.
    :param tasks: how many threads reclaimed.
    :param on_cpu_ns: the part of the time in reclaim on a CPU; the rest it slept or waited for one.
    :param throttled_ns: the part that the kernel made it sleep.
    :param io_wait_ns: waits for block I/O; ``refault_wait_ns`` is the part for page cache that was reclaimed before.
    :param memory_wait_ns: time in which some task of the cgroup waited for memory (memory.pressure).
    """

    name: str
    tasks: int
    duration_ns: int
    stall_ns: int
    on_cpu_ns: int | None = None
    throttled_ns: int | None = None
    user_ns: int | None = None
    system_ns: int | None = None
    io_wait_ns: int | None = None
    refault_wait_ns: int | None = None
    swap_wait_ns: int | None = None
    major_faults: int | None = None
    refaults: int | None = None
    memory_wait_ns: int | None = None


def restrict(observation: Observation, tgids: Collection[int] = (), cgroup: str | None = None) -> Observation:
    """The same observation with the rows of these processes, or of the tasks below a cgroup, and of kswapd."""
    described = {"pid": sorted(tgids)} if tgids else {"cgroup": cgroup}

    def kept(interval: Interval) -> Interval:
        rows = interval.rows
        mine = np.isin(rows["tgid"], np.array(sorted(tgids), np.int64))
        if cgroup is not None:
            inside = [n for n, path in interval.cgroups.items() if path == cgroup or path.startswith(f"{cgroup}/")]
            mine |= np.isin(rows["cgroup_id"], np.array(inside, np.uint64))
        return replace(interval, rows=rows[mine | (rows["path"] == KSWAPD)])

    session = replace(observation.session, filter={**observation.session.filter, **described})
    unknown = observation.tasks & (observation.rows["cgroup_id"] == 0)
    return replace(
        observation,
        session=session,
        intervals=tuple(map(kept, observation.intervals)),
        summed=None,
        nowhere_ns=observation.lost_ns(unknown) if cgroup is not None else 0,
    )


def subject(observation: Observation, tgids: Collection[int] = (), cgroup: str | None = None) -> Subject:
    """What became of its time.

    :param observation: as :func:`restrict` gives it.
    """
    tasks, rows = observation.tasks, observation.rows
    found = Subject(
        name=cgroup or ", ".join(_name(observation, tgid) for tgid in sorted(tgids)),
        tasks=len(np.unique(rows["tid"][tasks])),
        duration_ns=observation.duration_ns,
        stall_ns=observation.lost_ns(tasks),
        on_cpu_ns=observation.sum(tasks, "cpu_ns") if observation.known("cpu_ns") else None,
        throttled_ns=int(rows["throttled_ns"][tasks].sum()) if observation.known("throttled_ns") else None,
    )
    if cgroup is not None:
        memory = observation.limited.get(cgroup)
        if memory is None or not memory.grown:
            return found
        again = [value for name, value in memory.grown.items() if name.startswith("workingset_refault")]
        waited = memory.grown.get("some_us")
        return replace(
            found,
            refaults=sum(again) if again else None,
            major_faults=memory.grown.get("pgmajfault"),
            memory_wait_ns=None if waited is None else waited * 1000,
        )
    if len(tgids) != 1:
        return found
    process = observation.process(next(iter(tgids)))
    if process is None:
        return found
    return replace(
        found,
        user_ns=_ns(process.user_time_us),
        system_ns=_ns(process.system_time_us),
        io_wait_ns=process.blkio_delay_ns,
        refault_wait_ns=process.thrashing_delay_ns,
        swap_wait_ns=process.swapin_delay_ns,
        major_faults=process.major_faults,
    )


def _name(observation: Observation, tgid: int) -> str:
    process = observation.process(tgid)
    return f"{process.comm if process and process.comm else '?'}[{tgid}]"


def _ns(us: int | None) -> int | None:
    return None if us is None else us * 1000
