"""Everything about the host that needs no probe: counters, nodes, settings, pressure, memory, cgroups."""

from __future__ import annotations

import time
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from mmwatch.host._files import ROOT, read_text
from mmwatch.host.cgroups import memory_mount
from mmwatch.host.kmsg import KernelLog
from mmwatch.host.meminfo import read_levels
from mmwatch.host.pressure import read_pressure
from mmwatch.host.settings import Settings, read_settings
from mmwatch.host.vmstat import Vmstat
from mmwatch.host.zoneinfo import NodeState, Zoneinfo, read_topology
from mmwatch.model.interval import Node, NodePlace
from mmwatch.session.cgroups import Cgroups
from mmwatch.units import clean, number_ranges

if TYPE_CHECKING:
    from mmwatch.model.rows import Rows


class Surroundings:
    """Reads the host at the beginning, and again for each interval.

    :param everything: follow all cgroups, not only those that reclaim.
    :ivar settings: as last read.
    :ivar states: the nodes, as last read.
    :raises UnavailableError: there is no /proc/vmstat or /proc/zoneinfo.
    """

    def __init__(self, everything: bool = False) -> None:
        self.vmstat = Vmstat()
        self._zoneinfo = Zoneinfo()
        self._mount = memory_mount()
        self.cgroups = Cgroups(self._mount)
        self._first = self.settings = read_settings()
        self.states: tuple[NodeState, ...] = ()
        self._everything = everything
        self._log = KernelLog()

    def begin(self) -> None:
        """Growth counts from here on."""
        self.cgroups.begin(self._everything)
        self._pressure_before = _pressure()

    def of_session(self, since_boot: dict[str, int]) -> dict[str, Any]:
        """Fields of a :class:`mmwatch.model.interval.Session`."""
        uptime = (read_text(ROOT / "proc/uptime") or "").split()
        return {
            "start_s": time.time(),
            "page_size": self._first.page_size_bytes,
            "settings": {
                **asdict(self._first),
                "cgroup_mount": clean(str(self._mount.path)) if self._mount else None,
                "cgroup_version": self._mount.version if self._mount else None,
            },
            "since_boot": since_boot,
            "uptime_s": float(uptime[0]) if uptime else 0.0,
            "topology": {
                place.node: NodePlace(number_ranges(place.cpus), dict(place.distances)) for place in read_topology()
            },
        }

    def of_interval(self, rows: Rows, final: bool = False) -> dict[str, Any]:
        """Fields of the :class:`mmwatch.model.interval.Interval` that ends now.

        :param rows: a cgroup that is not known is filled in.
        :param final: it is the last one.
        """
        self.settings = read_settings()
        first, latest = asdict(self._first), asdict(self.settings)
        self.states = self._zoneinfo.read()
        pressure = _pressure()
        self.cgroups.locate(rows)
        cgroups, memory = self.cgroups.of(rows, self._everything and final)
        grown = {name: pressure[name] - self._pressure_before.get(name, 0) for name in pressure if name.endswith("_us")}
        self._pressure_before = pressure
        return {
            "end_s": time.time(),
            "nodes": tuple(map(_node, self.states)),
            "pressure": {**pressure, **grown},
            "settings": {name: value for name, value in latest.items() if value != first[name]},
            "memory": read_levels(),
            "kernel_log": self._log.read(),
            "cgroups": cgroups,
            "cgroup_memory": memory,
        }


def lru_gen(settings: Settings) -> bool | None:
    """Whether the multi-generational LRU is on; None if the kernel has none."""
    return None if settings.lru_gen_enabled is None else bool(settings.lru_gen_enabled & 1)


def _pressure() -> dict[str, float]:
    memory, io = read_pressure(), read_pressure(of="io")
    found: dict[str, float] = {}
    if memory is not None:
        found = {
            "some_avg10": memory.some_avg10_pct,
            "full_avg10": memory.full_avg10_pct,
            "some_us": memory.some_total_us,
            "full_us": memory.full_total_us,
        }
    if io is not None:
        found |= {"io_some_us": io.some_total_us, "io_full_us": io.full_total_us}
    return found


def _node(state: NodeState) -> Node:
    """A model node with the fields that both types have."""
    return Node(**{field.name: getattr(state, field.name) for field in fields(Node)})
