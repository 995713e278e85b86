"""/proc/zoneinfo summed per NUMA node, and the distances between nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmwatch.host._files import ROOT, KeptFile, read_text
from mmwatch.units import number_list


@dataclass(frozen=True)
class NodeState:
    """The current state of a NUMA node. All counts are base pages, summed over its populated zones (managed > 0).

    ``min_pages``, ``low_pages``, ``high_pages`` are the watermarks that the allocator uses, so they include
    ``boost_pages`` (min_wmark_pages() and friends add watermark_boost). ``file_pages`` and ``anon_pages`` are the
    active and inactive LRU lists, with any LRU (MGLRU keeps these counts too). ``page_cache_pages`` is nr_file_pages,
    which also includes tmpfs and swap cache. What this kernel does not print is None.
    """

    node: int
    free_pages: int
    min_pages: int
    low_pages: int
    high_pages: int
    managed_pages: int
    boost_pages: int | None
    """Watermark boost; printed from about 5.10 on, though boosting came in 5.0."""
    file_pages: int | None
    anon_pages: int | None
    inactive_file_pages: int | None
    inactive_anon_pages: int | None
    page_cache_pages: int | None
    mapped_pages: int | None
    dirty_pages: int | None
    writeback_pages: int | None
    slab_reclaimable_pages: int | None
    slab_unreclaimable_pages: int | None
    unevictable_pages: int | None
    free_movable_pages: int | None
    """Free in ZONE_MOVABLE; None without such a zone."""
    free_cma_pages: int | None
    """Free in areas of the contiguous memory allocator."""
    free_reserved_pages: int | None
    """Free in low zones, but kept for allocations that can use no higher zone (protection, lowmem_reserve_ratio)."""
    kswapd_gave_up: bool | None
    """node_unreclaimable: kswapd failed MAX_RECLAIM_RETRIES (16) times in a row and sleeps until another task
    reclaims something. (4.4: all_unreclaimable of one of the zones.)"""


@dataclass(frozen=True)
class NodeTopology:
    """The CPUs of a NUMA node, and its distance to every online node (10 to itself)."""

    node: int
    cpus: tuple[int, ...]
    distances: Mapping[int, int]


_ZONE_LINES = (b"free", b"boost", b"min", b"low", b"high", b"managed")
_NEEDED = {b"free", b"min", b"low", b"high", b"managed"}
# The kernel prints these either in every zone (4.4) or once per node, under "per-node stats" in the first populated
# zone (4.8+), but never in both, so the sum is right.
_NODE_LINES = (
    b"nr_inactive_file",
    b"nr_active_file",
    b"nr_inactive_anon",
    b"nr_active_anon",
    b"nr_file_pages",
    b"nr_mapped",
    b"nr_dirty",
    b"nr_writeback",
    b"nr_slab_reclaimable",
    b"nr_slab_unreclaimable",
    b"nr_unevictable",
    b"nr_free_cma",
)


class Zoneinfo:
    """Reads the state of the nodes, and keeps one fd open.

    :raises UnavailableError: there is no /proc/zoneinfo.
    :raises NoPermissionError: no permission to read it (some kernels restrict it).
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._file = KeptFile(root / "proc/zoneinfo")

    def read(self) -> tuple[NodeState, ...]:
        """The nodes that have memory, by number."""
        return parse_zoneinfo(self._file.read())

    def close(self) -> None:
        self._file.close()


def parse_zoneinfo(data: bytes) -> tuple[NodeState, ...]:
    """The nodes in the text of /proc/zoneinfo, by number."""
    nodes: dict[int, dict[bytes, int]] = {}
    for zone in data.split(b"Node ")[1:]:
        name = zone.partition(b",")[0]
        if not name.isdigit():
            continue
        number = int(name)
        # On a large host most of the text is page sets (six lines per CPU); skip them unread.
        head, _, tail = zone.partition(b"\n  pagesets")
        words = head.split()
        sums = nodes.setdefault(number, {})
        _add(sums, words, _NODE_LINES)
        if not _value(words, b"managed"):
            continue  # an empty zone has watermarks (such as 32 pages), but no allocation ever uses it
        _add(sums, words, _ZONE_LINES)
        if words[2:3] == [b"Movable"]:
            _add(sums, [b"free_movable", str(_value(words, b"free") or 0).encode()], (b"free_movable",))
        kept = max((int(word.strip(b"(),")) for word in _after(words, b"protection:")), default=None)
        if kept is not None:
            free = _value(words, b"free") or 0
            sums[b"free_reserved"] = sums.get(b"free_reserved", 0) + min(kept, free)
        mark = tail.rfind(b"unreclaimable:")  # node_unreclaimable: (4.8+), all_unreclaimable: (4.4, per zone)
        if mark >= 0:
            _add(sums, [b"gave_up", *tail[mark + 14 :].split(None, 1)[:1]], (b"gave_up",))
    return tuple(_state(number, sums) for number, sums in sorted(nodes.items()) if sums.keys() >= _NEEDED)


def _add(sums: dict[bytes, int], words: list[bytes], names: tuple[bytes, ...]) -> None:
    for name in names:
        value = _value(words, name)
        if value is not None:
            sums[name] = sums.get(name, 0) + value


def _after(words: list[bytes], name: bytes) -> list[bytes]:
    """The numbers in brackets behind a name."""
    found = words[words.index(name) + 1 :] if name in words else []
    ends = [number for number, word in enumerate(found) if word.endswith(b")")]
    numbers = found[: ends[0] + 1] if ends else []
    return numbers if all(word.strip(b"(),").isdigit() for word in numbers) else []


def _value(words: list[bytes], name: bytes) -> int | None:
    """The number behind a name; None if there is none."""
    try:
        value = words[words.index(name) + 1]
    except (ValueError, IndexError):
        return None
    return int(value) if value.isdigit() else None


def _state(number: int, sums: dict[bytes, int]) -> NodeState:
    get = sums.get
    active_file, inactive_file = get(b"nr_active_file"), get(b"nr_inactive_file")
    active_anon, inactive_anon = get(b"nr_active_anon"), get(b"nr_inactive_anon")
    gave_up = get(b"gave_up")
    return NodeState(
        node=number,
        free_pages=sums[b"free"],
        min_pages=sums[b"min"],
        low_pages=sums[b"low"],
        high_pages=sums[b"high"],
        managed_pages=sums[b"managed"],
        boost_pages=get(b"boost"),
        file_pages=None if active_file is None or inactive_file is None else active_file + inactive_file,
        anon_pages=None if active_anon is None or inactive_anon is None else active_anon + inactive_anon,
        inactive_file_pages=inactive_file,
        inactive_anon_pages=inactive_anon,
        page_cache_pages=get(b"nr_file_pages"),
        mapped_pages=get(b"nr_mapped"),
        dirty_pages=get(b"nr_dirty"),
        writeback_pages=get(b"nr_writeback"),
        slab_reclaimable_pages=get(b"nr_slab_reclaimable"),
        slab_unreclaimable_pages=get(b"nr_slab_unreclaimable"),
        unevictable_pages=get(b"nr_unevictable"),
        free_movable_pages=get(b"free_movable"),
        free_cma_pages=get(b"nr_free_cma"),
        free_reserved_pages=get(b"free_reserved"),
        kswapd_gave_up=None if gave_up is None else gave_up != 0,
    )


def read_topology(root: Path = ROOT) -> tuple[NodeTopology, ...]:
    """The online nodes by number; empty if the kernel was built without NUMA."""
    base = root / "sys/devices/system/node"
    online = number_list(read_text(base / "online") or "")
    topology = []
    for node in online:
        distances = (read_text(base / f"node{node}/distance") or "").split()
        topology.append(
            NodeTopology(
                node=node,
                cpus=number_list(read_text(base / f"node{node}/cpulist") or ""),
                distances={other: int(text) for other, text in zip(online, distances) if text.isdecimal()},
            )
        )
    return tuple(topology)
