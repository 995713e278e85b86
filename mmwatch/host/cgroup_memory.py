"""Limits and usage of memory cgroups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmwatch.host._files import ROOT, read_lines, read_text
from mmwatch.host.cgroups import CgroupMount, memory_mount
from mmwatch.units import ancestors, clean, pages_text

_BYTES_UNLIMITED = 1 << 62
"""Version 1 has no word for "no limit"; it prints LONG_MAX rounded down to a page (PAGE_COUNTER_MAX)."""


@dataclass(frozen=True)
class CgroupMemory:
    """The memory of one cgroup with all below it.

    :param limit_bytes: memory.max (memory.limit_in_bytes in version 1); None: no limit.
    :param high_bytes: memory.high; None: no limit, or version 1, which has no such thing.
    :param limit_hits: how often the limit was hit: ``max`` of memory.events (memory.failcnt). None if unknown.
    """

    limit_bytes: int | None
    high_bytes: int | None
    usage_bytes: int
    limit_hits: int | None


def read_memory(mount: CgroupMount, path: str) -> CgroupMemory | None:
    """Limits and usage of a cgroup; None if it is gone, or is the root, which has none.

    :param path: from the root of the hierarchy, as the file system has it (:meth:`CgroupNames.path`).
    """
    folder = mount.path / path.lstrip("/")
    if mount.version == 1:
        usage = _bytes(folder / "memory.usage_in_bytes")
        limit = _bytes(folder / "memory.limit_in_bytes")
        if usage is None or path == "/":
            return None
        return CgroupMemory(limit, None, usage, _bytes(folder / "memory.failcnt"))
    usage = _bytes(folder / "memory.current")
    if usage is None or path == "/":
        return None
    hits = [line.split()[1:] for line in read_lines(folder / "memory.events") or () if line.startswith("max ")]
    return CgroupMemory(
        _bytes(folder / "memory.max"),
        _bytes(folder / "memory.high"),
        usage,
        int(hits[0][0]) if hits and hits[0] and hits[0][0].isdecimal() else None,
    )


@dataclass(frozen=True)
class CgroupStat:
    """More about one cgroup with all below it. What the kernel does not tell is left out.

    :param counts: counters since it was made, with the kernel's names. ``max`` and ``high`` are of the cgroup itself:
        of memory.events.local, or failcnt, which counts at the cgroup whose limit it is (mm/page_counter.c,
        page_counter_try_charge). ``oom_kill`` includes those below. ``some_us`` and ``full_us``: of memory.pressure.
    :param levels: bytes by kind, with the names of version 2.
    """

    counts: Mapping[str, int]
    levels: Mapping[str, int]


_COUNTS = frozenset(
    (
        *(f"workingset_{what}_{of}" for what in ("refault", "activate") for of in ("anon", "file")),
        *("workingset_refault", "workingset_activate", "pgmajfault", "pgscan", "pgsteal"),
    )
)
_LEVELS = {
    2: {
        **{name: name for name in ("anon", "file", "file_mapped", "file_dirty", "file_writeback", "unevictable")},
        "slab": "slab",
        "slab_unreclaimable": "slab_unreclaimable",
        "shmem": "shmem",
    },
    1: {
        "total_rss": "anon",
        "total_cache": "file",
        "total_mapped_file": "file_mapped",
        "total_dirty": "file_dirty",
        "total_writeback": "file_writeback",
        "total_unevictable": "unevictable",
        "total_swap": "swap",
        "total_shmem": "shmem",
    },
}


def read_stat(mount: CgroupMount, path: str) -> CgroupStat:
    """Counters and levels of a cgroup; about 0.1 ms, since the kernel first sums up those below it.

    :param path: as for :func:`read_memory`.
    """
    folder = mount.path / path.lstrip("/")
    counts: dict[str, int] = {}
    levels: dict[str, int] = {}
    names, total = _LEVELS[mount.version], "total_" if mount.version == 1 else ""
    for name, value in _pairs(folder / "memory.stat"):
        if name in names:
            levels[names[name]] = value
        elif name.startswith(total) and name[len(total) :] in _COUNTS:
            counts[name[len(total) :]] = value
    if mount.version == 1:
        hits = _bytes(folder / "memory.failcnt")
        if hits is not None:
            counts["max"] = hits
        counts.update((name, value) for name, value in _pairs(folder / "memory.oom_control") if name == "oom_kill")
        return CgroupStat(counts, levels)
    counts.update((name, value) for name, value in _pairs(folder / "memory.events.local") if name in ("max", "high"))
    counts.update((name, value) for name, value in _pairs(folder / "memory.events") if name == "oom_kill")
    for line in read_lines(folder / "memory.pressure") or ():
        kind, _, rest = line.partition(" ")
        us = rest.rpartition("total=")[2]
        if kind in ("some", "full") and us.isascii() and us.isdecimal():
            counts[f"{kind}_us"] = int(us)
    swap = _bytes(folder / "memory.swap.current")
    if swap is not None:
        levels["swap"] = swap
    return CgroupStat(counts, levels)


def _pairs(file: Path) -> Iterator[tuple[str, int]]:
    """The lines "name value" of a file."""
    for line in read_lines(file) or ():
        name, _, value = line.partition(" ")
        if value.isascii() and value.isdecimal():
            yield name, int(value)


def _bytes(file: Path) -> int | None:
    """None for "no limit", and if there is no such number."""
    text = read_text(file) or ""
    value = int(text) if text.isascii() and text.isdecimal() else _BYTES_UNLIMITED
    return value if value < _BYTES_UNLIMITED else None


def shortage(root: Path = ROOT) -> str:
    """Where this process is short of memory, for the user: its cgroup with the least room, or the host."""
    mount = memory_mount(root)
    found = []
    for line in read_lines(root / "proc/self/cgroup") or ():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if mount is not None and ("memory" in controllers.split(",") if mount.version == 1 else not controllers):
            states = [(one, read_memory(mount, one)) for one in (path, *ancestors(path))]
            found += [(m.limit_bytes - m.usage_bytes, m, one) for one, m in states if m and m.limit_bytes is not None]
    if not found:
        return "the host has too little free memory; free some, or try again"
    _, memory, path = min(found, key=lambda one: one[0])
    used, limit = (pages_text(value, 1) for value in (memory.usage_bytes, memory.limit_bytes))
    return (
        f"cgroup {clean(path)} has a limit of {limit}, of which {used} are used; "
        "raise it, or run mmwatch in another cgroup"
    )
