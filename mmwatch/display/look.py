"""What counters, settings and nodes show without tracing: for ``diagnose --no-trace`` and ``--verbose``."""

from __future__ import annotations

from collections.abc import Mapping

from mmwatch.diagnosis.observation import Observation
from mmwatch.display.host import gauge
from mmwatch.model.interval import Node
from mmwatch.units import clean, count_text, pages_text

_COUNTERS = (
    ("pages scanned, by all", ("pgscan_anon", "pgscan_file")),
    ("pages reclaimed, by all", ("pgsteal_anon", "pgsteal_file")),
    ("direct reclaims (allocstall)", ("allocstall",)),
    ("pages scanned by kswapd", ("pgscan_kswapd",)),
    ("pages reclaimed by kswapd", ("pgsteal_kswapd",)),
    ("pages scanned by tasks", ("pgscan_direct",)),
    ("pages reclaimed by tasks", ("pgsteal_direct",)),
    ("pages reclaimed on request", ("pgsteal_proactive",)),
    ("node reclaims that succeeded", ("zone_reclaim_success",)),
    ("node reclaims that failed", ("zone_reclaim_failed",)),
    ("file pages refaulted", ("workingset_refault_file", "workingset_refault")),
    ("anonymous pages refaulted", ("workingset_refault_anon",)),
    ("pages swapped in", ("pswpin",)),
    ("pages swapped out", ("pswpout",)),
    ("direct compactions", ("compact_stall",)),
    ("major faults", ("pgmajfault",)),
    ("page cache dropped (drop_caches)", ("drop_pagecache",)),
    ("slab dropped (drop_caches)", ("drop_slab",)),
    ("OOM kills", ("oom_kill",)),
)
_SETTINGS = (
    "zone_reclaim_mode",
    "swappiness",
    "min_free_kbytes",
    "watermark_scale_factor",
    "watermark_boost_factor",
    "dirty_ratio",
    "thp_enabled",
    "thp_defrag",
    "lru_gen_enabled",
)
"""What decides how a host reclaims; None: this kernel has no such setting."""


def look_lines(observation: Observation) -> list[str]:
    """Settings, nodes, and counters since boot and lately, in 80 columns."""
    lines = ["SETTINGS"]
    known = [(name, observation.setting(name)) for name in _SETTINGS]
    shown = [f"{name} {clean(str(value))}" for name, value in known if value is not None]
    lines += [f"  {'  '.join(shown[at : at + 3])}" for at in range(0, len(shown), 3)]
    lines += ["", *_nodes(observation), "", f"{'COUNTER':<32}{'SINCE BOOT':>14}{'A SECOND':>12}"]
    for title, names in _COUNTERS:
        before, grown = (_sum(found, names) for found in (observation.session.since_boot, observation.whole.vmstat))
        if before is not None:
            rate = None if grown is None else observation.rate(grown)
            lines.append(f"{title:<32}{count_text(before, 13):>14}{count_text(rate, 9):>12}")
    if observation.pressure is not None:
        lines.append(f"{'tasks waited for memory (PSI)':<32}{'':>14}{observation.pressure:>11.1f}%")
    lines += ["", "Most kernels count reclaim at the limits of cgroups only in the first two lines."]
    return lines + _cgroups(observation)


def _sum(counters: Mapping[str, int], names: tuple[str, ...]) -> int | None:
    """The counter, and those of each zone (allocstall_normal); None if the kernel has none."""
    found = [n for name, n in counters.items() if any(name == one or _of_zone(name, one) for one in names)]
    return sum(found) if found else None


def _of_zone(name: str, counter: str) -> bool:
    before, _, zone = name.rpartition("_")
    return before == counter and zone in ("dma", "dma32", "normal", "high", "movable", "device")


def _nodes(observation: Observation) -> list[str]:
    title = f"{'0   min  low  high':<21} {'MIN':>5} {'LOW':>5} {'HIGH':>5} {'BOOST':>5}"
    lines = [f"NODE   FREE  {title}  DISTANCE"]
    for node in observation.last.nodes:
        place = observation.session.topology.get(node.node)
        others = {other: far for other, far in place.distances.items() if other != node.node} if place else {}
        notes = [f"{far} to {other}" for other, far in others.items()]
        notes += ["no CPU"] if place and not place.cpus else []
        notes += ["kswapd gave up"] if observation.last.kswapd.get(node.node) == "gave up" else []
        marks = " ".join(f"{observation.pages(value):>5}" for value in _marks(node))
        free = observation.pages(node.free_pages)
        lines.append(f"{node.node:>4}  {free:>5}  {gauge(node):<21} {marks}  {', '.join(notes)}".rstrip())
    return lines


def _marks(node: Node) -> tuple[int | None, ...]:
    return node.min_pages, node.low_pages, node.high_pages, node.boost_pages


def _cgroups(observation: Observation) -> list[str]:
    """The cgroups whose own limits were hit the most."""
    moved = [
        (memory.grown.get("max", 0) + memory.grown.get("high", 0), path, memory)
        for path, memory in observation.limited.items()
    ]
    found = sorted((one for one in moved if one[0]), key=lambda one: -one[0])[:5]
    if not found:
        return []
    lines = ["", f"{'CGROUP':<44}{'USED':>6}{'LIMIT':>7}{'HITS/s':>9}"]
    for hits, path, memory in found:
        bound = memory.limit_bytes if memory.limit_bytes is not None else memory.high_bytes
        used, limit = pages_text(memory.usage_bytes, 1), pages_text(bound, 1)
        lines.append(f"{clean(path)[-43:]:<44}{used:>6}{limit:>7}{count_text(observation.rate(hits), 8):>9}")
    return lines
