"""Observations of a host in each kind of trouble, as the rules would see them. A test changes what it is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from make import VMSTAT, make_interval, make_rows, make_session

from mmwatch.abi import THROTTLE_REASONS
from mmwatch.diagnosis.observation import Observation, observe
from mmwatch.model.interval import CgroupMemory, Node, NodePlace, Process

S = 1_000_000_000
GIB = 1 << 30
FREE = Node(0, free_pages=90_000, min_pages=5_000, low_pages=7_000, high_pages=9_000, managed_pages=250_000)
SHORT = Node(0, free_pages=6_000, min_pages=5_000, low_pages=7_000, high_pages=9_000, managed_pages=250_000)
OTHER = Node(1, free_pages=200_000, min_pages=5_000, low_pages=7_000, high_pages=9_000, managed_pages=250_000)
MEMORY = {
    "total": 2 * GIB,
    "available": GIB,
    "free": GIB,
    "active_anon": GIB // 4,
    "inactive_anon": 0,
    "active_file": GIB // 2,
    "inactive_file": GIB // 2,
    "unevictable": 0,
    "slab_unreclaimable": GIB // 50,
    "swap_total": 0,
    "swap_free": 0,
}
CORNERED = {
    "available": GIB // 50,
    "active_anon": GIB,
    "inactive_anon": GIB // 2,
    "active_file": GIB // 100,
    "inactive_file": 0,
}
HOST = {
    "zone_reclaim_mode": 0,
    "lru_gen_enabled": 0,
    "watermark_scale_factor": 10,
    "watermark_boost_factor": 15000,
    "min_free_kbytes": 20000,
    "dirty_ratio": 20,
    "cgroup_version": 2,
    "cgroup_mount": "/sys/fs/cgroup",
}
QUIET = {
    **VMSTAT,
    **dict.fromkeys(("allocstall_normal", "pswpin", "pswpout", "drop_pagecache", "drop_slab", "pgmajfault"), 0),
    **dict.fromkeys(("zone_reclaim_failed", "zone_reclaim_success", "pgscan_direct_throttle", "compact_stall"), 0),
    **dict.fromkeys(("workingset_refault_file", "workingset_refault_anon", "pgpgin", "slabs_scanned"), 0),
}


def row(**fields: Any) -> dict[str, Any]:
    """A task that spends half of each second in a hundred ordinary direct reclaims."""
    return {
        "path": "direct",
        "tgid": 100,
        "comm": b"task",
        "node": 0,
        "stall_ns": S // 2,
        "cpu_ns": S // 4,
        "reclaims": 100,
        "asked_pages": 3200,
        "reported_pages": 3300,
        "stall_max_ns": S // 50,
        "reclaimed_file_pages": 3300,
        "scanned_file_pages": 4000,
        "order_histogram": at(0, 100, 11),
        **fields,
    }


def at(index: int, value: int, length: int) -> list[int]:
    """A histogram with one bucket."""
    return [value if number == index else 0 for number in range(length)]


def slept(reason: str, ns: int) -> list[int]:
    """``throttled_ns`` for one reason."""
    return at(THROTTLE_REASONS.index(reason), ns, 4)


def host(
    *rows: dict[str, Any],
    count: int = 3,
    settings: Mapping[str, Any] = HOST,
    vmstat: Mapping[str, int] | None = None,
    memory: Mapping[str, int] | None = None,
    session: Mapping[str, Any] | None = None,
    each: Any = None,
    **fields: Any,
) -> Observation:
    """The same interval ``count`` times.

    :param vmstat: growth of counters in each interval, beside :data:`QUIET`.
    :param memory: beside :data:`MEMORY`.
    :param each: called with the number of the interval; returns more fields for it.
    """
    processes = {one["tgid"]: Process(one["tgid"], one["comm"].decode()) for one in ({**row(), **r} for r in rows)}
    intervals = [
        make_interval(
            make_rows(*rows),
            **{
                "end_s": 1_700_000_001.0 + number,
                "vmstat": {**QUIET, **(vmstat or {})},
                "memory": {**MEMORY, **(memory or {})},
                "nodes": (FREE if not rows else SHORT,),
                "kswapd": {0: "running"},
                "pressure": {"some_us": 0, "full_us": 0, "some_avg10": 0.0, "full_avg10": 0.0},
                "processes": processes,
                **fields,
                **(each(number) if each else {}),
            },
        )
        for number in range(count)
    ]
    topology = {0: NodePlace("0", {0: 10, 1: 40}), 1: NodePlace("1", {0: 40, 1: 10})}
    return observe(make_session(**{"settings": settings, "topology": topology, **(session or {})}), intervals)


def cgroup(
    *rows: dict[str, Any], grown: Mapping[str, int], levels: Mapping[str, int] | None = None, **more: Any
) -> Any:
    """A host whose tasks are in /app/web with a limit of 100 MiB, or what ``memory`` says, on /app."""
    group = CgroupMemory(
        **{
            "limit_bytes": 100 << 20,
            "high_bytes": None,
            "usage_bytes": 99 << 20,
            "limit_hits": 5000,
            **more.pop("own", {}),
        },
        grown=grown,
        levels=levels or {"anon": 10 << 20, "file": 80 << 20},
    )
    inner = CgroupMemory(None, None, 50 << 20, 0, grown=dict.fromkeys(grown, 0), levels={})
    return host(
        *({**one, "cgroup_id": 8, "path": "memcg"} for one in rows),
        cgroups={7: "/app", 8: "/app/web"},
        cgroup_memory={7: group, 8: inner},
        **more,
    )


KSWAPD = {
    "path": "kswapd",
    "tgid": 50,
    "comm": b"kswapd0",
    "asked_pages": 0,
    "reclaims": 1,
    "order_histogram": [0] * 11,
}

TROUBLES = {
    "zone-reclaim-thrash": lambda: host(
        row(path="node", priority_histogram=at(0, 100, 13), reclaimed_max_pages=12342),
        nodes=(SHORT, OTHER),
        settings={**HOST, "zone_reclaim_mode": 1},
        vmstat={"zone_reclaim_success": 90, "zone_reclaim_failed": 10},
    ),
    "zone-reclaim-futile": lambda: host(
        row(path="node", reclaims_futile=100, reported_pages=0, reclaimed_file_pages=0, scanned_file_pages=0),
        nodes=(SHORT, OTHER),
        settings={**HOST, "zone_reclaim_mode": 1, "lru_gen_enabled": 7},
        vmstat={"zone_reclaim_success": 0, "zone_reclaim_failed": 100},
    ),
    "over-reclaim": lambda: host(
        row(reported_pages=1_234_200, reclaimed_file_pages=1_234_200, priority_histogram=at(0, 9, 13)),
        nodes=(SHORT,),
    ),
    "node-bound": lambda: host(
        row(),
        nodes=(SHORT, OTHER),
        vmstat={"allocstall_normal": 100, "numa_foreign": 0},
        processes={100: Process(100, "task", mems_allowed="0-1", mempolicy="bind:0")},
    ),
    "direct-reclaim": lambda: host(
        row(), row(**KSWAPD, stall_ns=S // 3), nodes=(SHORT,), vmstat={"allocstall_normal": 100}
    ),
    "kswapd-hopeless": lambda: host(
        row(**KSWAPD, stall_ns=S * 9 // 10, cpu_ns=S * 9 // 10, scanned_file_pages=900_000, reclaimed_file_pages=100),
        vmstat={"pgscan_kswapd": 900_000, "pgsteal_kswapd": 100},
    ),
    "kswapd-latched": lambda: host(row(), nodes=(SHORT,), kswapd={0: "gave up"}, vmstat={"allocstall_normal": 100}),
    "watermark-boost": lambda: host(
        row(**KSWAPD, stall_ns=S // 3),
        nodes=(Node(0, 20_000, 5_000, 15_000, 25_000, 250_000, boost_pages=12_000),),
    ),
    "memcg-limit": lambda: cgroup(row(), grown={"max": 1000, "workingset_refault_file": 400}),
    "memcg-high": lambda: cgroup(
        row(high_sleep_ns=S // 2),
        grown={"high": 100, "some_us": 900_000},
        own={"limit_bytes": None, "high_bytes": 100 << 20},
    ),
    "memcg-high-livelock": lambda: cgroup(
        row(reported_pages=30, reclaimed_file_pages=30, scanned_file_pages=4000, high_sleep_ns=S // 2),
        grown={"high": 100, "some_us": 950_000},
        own={"limit_bytes": None, "high_bytes": 100 << 20},
        levels={"anon": 98 << 20, "file": 1 << 20},
    ),
    "memcg-dirty": lambda: cgroup(
        row(dirty_pages=1500, writeback_pages=500), grown={"max": 1000, "workingset_refault_file": 0}
    ),
    "swap-storm": lambda: host(
        row(reclaimed_anon_pages=3300, reclaimed_file_pages=0, scanned_anon_pages=4000),
        memory={"swap_total": GIB, "swap_free": GIB // 2, "swap_in_ram": 0},
        vmstat={"pswpin": 3000, "pswpout": 3300, "workingset_refault_anon": 2900},
    ),
    "zram-spin": lambda: host(
        row(reclaimed_anon_pages=3300, reclaimed_file_pages=0),
        memory={"swap_total": GIB, "swap_free": GIB // 2, "swap_in_ram": GIB, "free": GIB // 50},
        vmstat={"pswpin": 3000, "pswpout": 3300},
    ),
    "no-swap-anon": lambda: host(
        row(),
        nodes=(SHORT,),
        memory=CORNERED,
        vmstat={"allocstall_normal": 100, "workingset_refault_file": 3000},
    ),
    "cache-thrash": lambda: cgroup(
        row(stall_ns=S // 30), grown={"max": 1000, "workingset_refault_file": 2000, "pgmajfault": 0, "some_us": 600_000}
    ),
    "exec-thrash": lambda: cgroup(
        row(stall_ns=S // 30),
        grown={"max": 1000, "workingset_refault_file": 2500, "pgmajfault": 150, "some_us": 600_000},
    ),
    "writeback-throttle": lambda: host(
        row(throttled_ns=slept("writeback", S // 3), dirty_pages=2000), vmstat={"allocstall_normal": 100}
    ),
    "isolation-throttle": lambda: host(row(throttled_ns=slept("isolated", S // 3)), vmstat={"allocstall_normal": 100}),
    "no-progress-throttle": lambda: host(
        row(throttled_ns=slept("noprogress", S // 3), reclaims_futile=90, priority_histogram=at(0, 5, 13))
    ),
    "shrinker-stall": lambda: host(
        row(shrinker_ns=S * 4 // 10, shrinker_calls=5000, shrinker_objects=10), vmstat={"slabs_scanned": 100_000}
    ),
    "high-order": lambda: host(
        row(order_histogram=at(9, 100, 11)),
        vmstat={"compact_stall": 100, "compact_fail": 90, "thp_fault_fallback": 90, "allocstall_normal": 100},
    ),
    "unusable-free": lambda: host(
        row(), nodes=(Node(0, 90_000, 5_000, 7_000, 9_000, 250_000, free_cma_pages=85_000, free_movable_pages=0),)
    ),
    "slab-unreclaimable": lambda: host(
        row(), nodes=(SHORT,), memory={"slab_unreclaimable": GIB}, vmstat={"allocstall_normal": 100}
    ),
    "proactive-agent": lambda: host(
        row(path="proactive", stall_ns=S * 9 // 10, comm=b"senpai"), vmstat={"pgsteal_proactive": 3300}
    ),
    "drop-caches": lambda: host(
        vmstat={"drop_pagecache": 1, "pgpgin": 50_000},
        each=lambda number: {"memory": {**MEMORY, "inactive_file": GIB // 2 * (number % 2)}},
    ),
    "soft-limit": lambda: host(
        row(path="softlimit", priority_histogram=at(0, 9, 13)), vmstat={"allocstall_normal": 100}
    ),
    "pfmemalloc-throttle": lambda: host(
        vmstat={"pgscan_direct_throttle": 5}, nodes=(Node(0, 1_000, 5_000, 7_000, 9_000, 250_000),)
    ),
}
"""A host in each kind of trouble, by the id of the finding that must come first."""

HEALTHY = {
    "quiet": lambda: host(),
    "kswapd is busy": lambda: host(
        row(**KSWAPD, stall_ns=S // 2, cpu_ns=S // 2, reclaimed_file_pages=95_000, scanned_file_pages=100_000)
    ),
    "mode 1 that is never used": lambda: host(settings={**HOST, "zone_reclaim_mode": 1}, nodes=(SHORT, OTHER)),
    "a few short reclaims": lambda: host(
        row(stall_ns=S // 100, stall_max_ns=S // 1000), vmstat={"allocstall_normal": 5}
    ),
    "a stream at its limit": lambda: cgroup(row(stall_ns=S // 8), grown={"max": 1000, "workingset_refault_file": 0}),
    "a full cgroup at rest": lambda: cgroup(row(stall_ns=S // 1000), grown={"max": 5, "workingset_refault_file": 0}),
    "an agent that rests": lambda: host(row(path="proactive", stall_ns=S // 20)),
    "swap that is full and idle": lambda: host(memory={"swap_total": GIB, "swap_free": 0}),
    "swapping out only": lambda: host(
        row(**KSWAPD, stall_ns=S // 5), memory={"swap_total": GIB, "swap_free": GIB // 2}, vmstat={"pswpout": 5000}
    ),
    "caches dropped before": lambda: host(session={"since_boot": {"drop_pagecache": 7}}),
    "page cache from long ago": lambda: host(
        row(**KSWAPD, stall_ns=S // 100, cpu_ns=S // 100, reclaimed_file_pages=100, reported_pages=100),
        vmstat={"workingset_refault_file": 50_000},
    ),
    "a boost that costs nothing": lambda: host(
        nodes=(Node(0, 20_000, 5_000, 15_000, 25_000, 250_000, boost_pages=12_000),)
    ),
    "anonymous memory without swap, at rest": lambda: host(memory=CORNERED),
}
"""Hosts that look odd and are well."""


def total(observation: Observation) -> int:
    return int(np.maximum(observation.rows["stall_ns"], 0).sum())
