"""The troubles as data: loads that provoke each pathology, those that only look like one, and what cannot be provoked.

The loads are programs of ``tests/workloads/trouble``. A second load for the same finding, of different make, is named
NAME-2. provoke.py runs them.
"""

from __future__ import annotations

from lab import CLASSIC, MGLRU
from lookalikes import LOOKALIKES
from trouble import NODE_MODE, WIDE, Trouble

MODULES = ("zram",)
"""Kernel modules that the loads need and the guest loads first."""
DEFRAG = "/sys/kernel/mm/transparent_hugepage/defrag"
TIGHT = (("min_free_kbytes", "1024"), ("watermark_scale_factor", "1"))
"""Little memory between the watermarks, so that kswapd starts late."""
FUTILE = ("6.12", "newest")
"""The multi-generational LRU frees nothing in node reclaim with mode 1 (from 6.3 on)."""
FORGETFUL = ("5.10", "6.1", "6.12")
"""A cgroup that reclaims its own memory makes these kernels forget that kswapd of its node has failed."""
STUBBORN = ("newest",)
"""Only kswapd's own success makes these kernels forget it."""
ALL_DIRTY = (("dirty_ratio", "95"), ("dirty_background_ratio", "90"), ("dirty_expire_centisecs", "360000"))

TROUBLES = (
    Trouble(
        "zone-reclaim-thrash",
        ("node.py",),
        "zone-reclaim-thrash",
        sysctls=NODE_MODE,
        lrus=(CLASSIC,),
        shows=(("pgsteal_direct", 20000),),
        flat=(("allocstall", 50),),
    ),
    Trouble(
        "zone-reclaim-thrash-2",
        ("streams.py", "--nodes", "1", "--readers", "1", "--mib", "1200", "--until", "pgsteal_direct"),
        "zone-reclaim-thrash",
        sysctls=NODE_MODE,
        lrus=(CLASSIC,),
        shows=(("pgsteal_direct", 20000),),
        flat=(("allocstall", 50),),
    ),
    Trouble(
        "zone-reclaim-thrash-3",
        ("node.py",),
        "zone-reclaim-thrash",
        sysctls=NODE_MODE,
        lrus=(MGLRU,),
        needs=("mglru_node_reclaim",),
        shows=(("pgsteal_direct", 20000),),
        flat=(("allocstall", 50),),
    ),
    Trouble(
        "zone-reclaim-futile",
        ("node.py",),
        "zone-reclaim-futile",
        sysctls=NODE_MODE,
        lrus=(MGLRU,),
        kernels=FUTILE,
        shows=(("zone_reclaim_failed", 20000),),
        flat=(("allocstall", 50),),
    ),
    Trouble(
        "zone-reclaim-futile-2",
        ("node.py", "--keep", "--processes", "4"),
        "zone-reclaim-futile",
        sysctls=NODE_MODE,
        lrus=(MGLRU,),
        kernels=FUTILE,
        shows=(("zone_reclaim_failed", 20000),),
        flat=(("allocstall", 50),),
    ),
    Trouble(
        "node-bound",
        ("node.py", "--bind", "--processes", "6"),
        "node-bound",
        sysctls=TIGHT,
        shows=(("allocstall", 20), ("pgsteal_kswapd", 20000)),
    ),
    Trouble(
        "node-bound-2",
        ("node.py", "--cpuset", "--processes", "6"),
        "node-bound",
        sysctls=TIGHT,
        shows=(("allocstall", 20), ("pgsteal_kswapd", 20000)),
    ),
    Trouble(
        "direct-reclaim",
        ("streams.py", "--once"),
        "direct-reclaim",
        sysctls=TIGHT,
        shows=(("allocstall", 20), ("pgsteal_direct", 1000)),
    ),
    Trouble(
        "direct-reclaim-2",
        ("streams.py", "--anon-mib", "60", "--once"),
        "direct-reclaim",
        sysctls=TIGHT,
        shows=(("allocstall", 20), ("pgsteal_direct", 1000)),
    ),
    Trouble(
        "kswapd-hopeless",
        ("pinned.py", "--reset"),
        "kswapd-hopeless",
        kernels=FORGETFUL,
        sysctls=WIDE,
        shows=(("pgscan_kswapd", 500000), ("pageoutrun", 30)),
    ),
    Trouble(
        "kswapd-latched",
        ("pinned.py", "--latched", "--stream"),
        "kswapd-latched",
        kernels=STUBBORN,
        sysctls=WIDE,
        shows=(("allocstall", 20),),
        flat=(("pageoutrun", 2), ("pgscan_kswapd", 1000)),
    ),
    Trouble(
        "kswapd-hopeless-2",
        ("pinned.py", "--reset", "--shared", "--pinned-mib", "96"),
        "kswapd-hopeless",
        kernels=FORGETFUL,
        sysctls=WIDE,
        shows=(("pgscan_kswapd", 500000), ("pageoutrun", 30)),
    ),
    Trouble(
        "kswapd-latched-2",
        ("pinned.py", "--latched", "--stream", "--shared", "--pinned-mib", "96"),
        "kswapd-latched",
        kernels=STUBBORN,
        sysctls=WIDE,
        shows=(("allocstall", 20),),
        flat=(("pageoutrun", 2), ("pgscan_kswapd", 1000)),
    ),
    Trouble(
        "memcg-limit",
        ("group.py", "--max", "128", "--stream", "--churn", "24", "--processes", "4"),
        "memcg-limit",
        shows=(("events.max", 500), ("pgsteal_file", 50000)),
        flat=(("allocstall", 5),),
    ),
    Trouble(
        "memcg-limit-2",
        ("group.py", "--parent-max", "96", "--stream", "--churn", "16", "--processes", "3"),
        "memcg-limit",
        shows=(("events.max", 200), ("pgsteal_file", 20000)),
        flat=(("allocstall", 5),),
    ),
    Trouble(
        "memcg-high",
        ("group.py", "--high", "128", "--stream", "--processes", "4"),
        "memcg-high",
        shows=(("events.high", 200), ("pgsteal_file", 50000)),
        flat=(("allocstall", 5),),
    ),
    Trouble(
        "memcg-high-2",
        ("group.py", "--high", "96", "--stream", "--churn", "8", "--processes", "3"),
        "memcg-high",
        shows=(("events.high", 200), ("pgsteal_file", 20000)),
        flat=(("allocstall", 5),),
    ),
    Trouble(
        "memcg-high-livelock",
        ("group.py", "--high", "32", "--anon", "128"),
        "memcg-high-livelock",
        shows=(("events.high", 50), ("pressure.memory.some", 4000000)),
        flat=(("pgsteal_anon", 0),),
    ),
    Trouble(
        "memcg-high-livelock-2",
        ("group.py", "--high", "32", "--anon", "64", "--mapped", "64", "--real", "--pinned", "4"),
        "memcg-high-livelock",
        shows=(("events.high", 50), ("pgscan_file", 200000), ("pressure.memory.some", 4000000)),
    ),
    Trouble(
        "swap-storm",
        ("swapper.py", "--bind"),
        "swap-storm",
        swap=True,
        shows=(("pswpin", 3000), ("pswpout", 3000), ("workingset_refault_anon", 3000)),
    ),
    Trouble(
        "swap-storm-2",
        ("group.py", "--max", "64", "--anon", "128"),
        "swap-storm",
        swap=True,
        shows=(("pswpin", 3000), ("pswpout", 3000), ("events.max", 200)),
    ),
    Trouble(
        "no-swap-anon",
        ("corner.py", "--exec"),
        "no-swap-anon",
        shows=(("workingset_refault_file", 10000), ("pgmajfault", 30)),
    ),
    Trouble(
        "no-swap-anon-2",
        ("corner.py", "--exec", "--shared"),
        "no-swap-anon",
        shows=(("workingset_refault_file", 10000), ("pgmajfault", 30)),
    ),
    Trouble(
        "no-swap-anon-3",
        ("corner.py",),
        "no-swap-anon",
        shows=(("workingset_refault_file", 10000), ("pressure.io.some", 300000)),
    ),
    Trouble(
        "cache-thrash",
        ("group.py", "--max", "64", "--file", "96", "--random", "--real"),
        "cache-thrash",
        shows=(("workingset_refault_file", 10000), ("pressure.io.some", 300000)),
    ),
    Trouble(
        "cache-thrash-2",
        ("group.py", "--parent-max", "96", "--file", "72", "--processes", "2", "--random", "--real"),
        "cache-thrash",
        shows=(("workingset_refault_file", 10000), ("pressure.io.some", 300000)),
    ),
    Trouble(
        "exec-thrash",
        ("group.py", "--max", "48", "--mapped", "64", "--real"),
        "exec-thrash",
        shows=(("workingset_refault_file", 10000), ("pgmajfault", 50), ("events.max", 200)),
    ),
    Trouble(
        "exec-thrash-2",
        ("group.py", "--parent-max", "48", "--mapped", "32", "--processes", "2", "--real"),
        "exec-thrash",
        shows=(("workingset_refault_file", 10000), ("pgmajfault", 50), ("events.max", 200)),
    ),
    Trouble(
        "zram", ("swapper.py", "--bind", "--zram", "512"), "zram-spin", shows=(("pswpin", 3000), ("pswpout", 3000))
    ),
    Trouble(
        "zram-2",
        ("group.py", "--max", "64", "--anon", "128", "--incompressible", "--zram", "256"),
        "zram-spin",
        shows=(("pswpin", 300), ("pswpout", 3000), ("events.max", 200)),
    ),
    Trouble(
        "memcg-dirty",
        ("writers.py", "--max", "64"),
        "memcg-dirty",
        sysctls=ALL_DIRTY,
        shows=(("events.max", 100), ("pgscan_file", 50000), ("nr_vmscan_immediate_reclaim", 1000)),
    ),
    Trouble(
        "writeback-throttle",
        ("writers.py",),
        "writeback-throttle",
        sysctls=ALL_DIRTY,
        shows=(("allocstall", 5), ("nr_vmscan_immediate_reclaim", 10000)),
    ),
    Trouble(
        "memcg-dirty-2",
        ("group.py", "--max", "48", "--dirty", "256", "--processes", "2"),
        "memcg-dirty",
        sysctls=ALL_DIRTY,
        shows=(("events.max", 100), ("pgscan_file", 50000), ("nr_vmscan_immediate_reclaim", 1000)),
    ),
    Trouble(
        "writeback-throttle-2",
        ("writers.py", "--mapped", "--processes", "3", "--mib", "400"),
        "writeback-throttle",
        sysctls=ALL_DIRTY,
        shows=(("allocstall", 5), ("pgscan_kswapd", 50000)),
    ),
    Trouble(
        "high-order-2",
        ("pinned.py", "--huge"),
        "high-order",
        lrus=(CLASSIC,),
        sysctls=(*WIDE, (DEFRAG, "always")),
        shows=(("allocstall", 10), ("pgscan_direct", 100000)),
    ),
    Trouble(
        "shrinker-stall",
        ("group.py", "--max", "16", "--dentries", "--processes", "4"),
        "shrinker-stall",
        shows=(("slabs_scanned", 50000),),
    ),
    Trouble(
        "shrinker-stall-2",
        ("group.py", "--max", "24", "--dentries", "--churn", "4", "--processes", "2"),
        "shrinker-stall",
        shows=(("slabs_scanned", 20000),),
    ),
    Trouble(
        "high-order",
        ("hugefaults.py",),
        "high-order",
        lrus=(CLASSIC,),
        sysctls=((DEFRAG, "always"),),
        shows=(("compact_stall", 20),),
    ),
    Trouble("slab-unreclaimable", ("slab.py",), "slab-unreclaimable", shows=(("pgsteal_kswapd", 50000),)),
    Trouble(
        "slab-unreclaimable-2",
        ("slab.py", "--max", "64", "--mib", "48"),
        "slab-unreclaimable",
        shows=(("events.max", 500),),
    ),
    Trouble(
        "proactive-agent",
        ("asked.py",),
        "proactive-agent",
        needs=("memory_reclaim",),
        shows=(("pgsteal_file", 20000),),
        flat=(("allocstall", 5),),
    ),
    Trouble(
        "proactive-agent-2",
        ("asked.py", "--of", "node"),
        "proactive-agent",
        needs=("node_reclaim_file",),
        shows=(("pgsteal_file", 20000),),
        flat=(("allocstall", 5),),
    ),
    Trouble(
        "drop-caches",
        ("asked.py", "--of", "caches", "--pause", "1"),
        "drop-caches",
        shows=(("drop_pagecache", 3), ("drop_slab", 3)),
        flat=(("pgsteal_file", 1000),),
    ),
    Trouble(
        "drop-caches-2",
        ("asked.py", "--of", "caches", "--value", "1", "--pause", "0.3", "--file-mib", "400"),
        "drop-caches",
        shows=(("drop_pagecache", 10),),
    ),
    *LOOKALIKES,
)

UNPROVOKED = (
    (
        "watermark-boost",
        "blocks of movable memory were broken up by slab, but no boost was seen in zoneinfo",
    ),
    ("kswapd-hopeless on newest", "only its own success resets kswapd's failures there: it stops after 16 rounds"),
    ("high-order with mglru", "compaction is put off after a few failures, so hardly any fault reclaims"),
    ("no-progress-throttle", "reclaim sleeps for it only while kswapd has not failed, and these loads make it fail"),
    (
        "isolation-throttle",
        "more must be isolated than is on the lists, by reclaimers on many CPUs; a node has one CPU",
    ),
    ("demotion", "needs a node without CPUs in a slower memory tier; the layout has two ordinary nodes"),
    ("cma-split", "the kernels reserve no CMA area in a guest"),
    ("lowmem-reserve", "2 GiB lie in DMA32, so there is no zone above it to protect it from"),
    ("pfmemalloc-deadlock", "needs swap over the network; the wait itself shows in direct-reclaim"),
)
"""Pathologies that a guest of this laboratory cannot have, and why. A rule for one of them stays uncalibrated."""
