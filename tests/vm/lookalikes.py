"""Loads that look like a trouble and are none: nothing is to be found on a host that has one of these."""

from __future__ import annotations

from trouble import HEALTHY, NODE_MODE, WIDE, Trouble

LOOKALIKES = (
    Trouble(
        "kswapd-quick",
        ("streams.py", "--readers", "1", "--share", "0.3", "--once"),
        HEALTHY,
        sysctls=WIDE,
        shows=(("pgsteal_kswapd", 20000),),
        flat=(("allocstall", 10), ("pgsteal_direct", 5000)),
    ),
    Trouble(
        "latched-idle",
        ("pinned.py", "--latched"),
        HEALTHY,
        sysctls=WIDE,
        flat=(("pageoutrun", 2), ("pgscan_kswapd", 1000), ("allocstall", 5)),
    ),
    Trouble(
        "read-once",
        ("streams.py", "--readers", "1", "--nodes", "1", "--share", "0.5", "--once", "--any"),
        HEALTHY,
        flat=(("allocstall", 5),),
    ),
    Trouble(
        "agent-at-rest",
        ("asked.py", "--rest"),
        HEALTHY,
        flat=(("pgsteal_file", 2000), ("pgsteal_anon", 2000), ("allocstall", 5)),
    ),
    Trouble(
        "mode-1-never-entered",
        ("busy.py", "--of", "memory"),
        HEALTHY,
        sysctls=NODE_MODE,
        flat=(("pgsteal_file", 2000), ("pgsteal_anon", 2000), ("allocstall", 5), ("zone_reclaim_failed", 0)),
    ),
    Trouble(
        "limit-but-cold",
        ("group.py", "--max", "64", "--file", "96", "--cold"),
        HEALTHY,
        flat=(("pgsteal_file", 2000), ("pgsteal_anon", 2000), ("allocstall", 5)),
    ),
    Trouble(
        "busy-system",
        ("busy.py", "--of", "calls"),
        HEALTHY,
        flat=(("pgsteal_file", 2000), ("pgsteal_anon", 2000), ("allocstall", 5)),
    ),
    Trouble(
        "wait-for-io",
        ("busy.py", "--of", "reads"),
        HEALTHY,
        shows=(("pressure.io.some", 1000000),),
        flat=(("pgsteal_file", 2000), ("pgsteal_anon", 2000), ("allocstall", 5)),
    ),
    Trouble(
        "spill",
        ("node.py", "--keep"),
        HEALTHY,
        shows=(("numa_foreign", 50000),),
        flat=(("pgsteal_direct", 500), ("allocstall", 5)),
    ),
    Trouble(
        "dropped-once",
        ("asked.py", "--of", "caches", "--rest"),
        HEALTHY,
        flat=(("pgsteal_file", 2000), ("pgsteal_anon", 2000), ("allocstall", 5)),
    ),
    Trouble(
        "swap-full-idle",
        ("swapper.py", "--idle-full"),
        HEALTHY,
        flat=(("pgsteal_file", 2000), ("pgsteal_anon", 2000), ("allocstall", 5)),
    ),
)
