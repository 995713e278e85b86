"""Somebody drops the page cache or slab of the whole host."""

from __future__ import annotations

import re

import numpy as np

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Resolves, Unknown
from mmwatch.diagnosis.observation import Observation, count
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import Threshold
from mmwatch.units import number_text

FELL = Threshold(0.1, "ratio", "page cache lost between two readings", "a cache that was empty anyway is no loss")
AGAIN = Threshold(256.0, "1/s", "pages read from disk", "1 MB a second is read again")

OFTEN = Threshold(3.0, "count", "times that caches were dropped", "nobody does so three times in a row by mistake")
_WRITER = re.compile(r"(.{1,64} \(\d+\)): drop_caches: ")
"""``comm (pid): drop_caches: 3``, fs/drop_caches.c."""


def judge(observation: Observation) -> Answer:
    cache, slab = observation.grown("drop_pagecache"), observation.grown("drop_slab")
    if cache is None and slab is None:
        return Unknown("/proc/vmstat has no drop_pagecache")
    times = max(cache or 0, slab or 0)  # a write of 3 counts as both
    if not times:
        before = max(observation.session.since_boot.get(name, 0) for name in ("drop_pagecache", "drop_slab"))
        return Clear(f"nobody dropped caches meanwhile ({count(before)} times since boot)")
    file = [
        one.memory.get("active_file", 0) + one.memory.get("inactive_file", 0)
        for one in observation.intervals
        if one.memory
    ]
    fell = max((a - b for a, b in zip(file, file[1:])), default=0)
    share = fell / max(max(file, default=0), 1)
    read = observation.grown("pgpgin")  # in KiB
    rate = observation.rate((read or 0) * 1024 / observation.session.page_size)
    if times < OFTEN.value and (share < FELL.value or rate < AGAIN.value):
        return Clear(f"caches were dropped ({number_text(times, 'time')}), but little was in them, or is read again")
    evidence = [
        Evidence(
            "counter",
            f"drop_pagecache grew by {count(cache or 0)}, drop_slab by {count(slab or 0)}",
            "/proc/vmstat",
            times,
            "count",
        )
    ]
    if share >= FELL.value:
        evidence.append(
            Evidence(
                "cache",
                f"the page cache lost {observation.bytes(fell)} between two readings",
                "/proc/meminfo",
                share,
                "ratio",
                FELL.value,
            )
        )
    if rate >= AGAIN.value:
        evidence.append(
            Evidence(
                "reads",
                f"{observation.bytes((read or 0) * 1024)} were read from disk",
                "pgpgin",
                rate,
                "1/s",
                AGAIN.value,
            )
        )
    writers = list(dict.fromkeys(match[1] for line in observation.whole.kernel_log if (match := _WRITER.match(line))))
    if writers:
        who = " and ".join(f"{name[: name.rindex(' ')]}[{name[name.rindex('(') + 1 : -1]}]" for name in writers[:2])
        evidence.append(Evidence("writer", f"the kernel's log names {who}", "/dev/kmsg"))
    return Found(
        f"{who if writers else 'Somebody'} dropped the caches of the whole host {number_text(times, 'time')} in "
        f"{observation.duration_s:.0f} s, by writing to vm.drop_caches.",
        tuple(evidence),
        "A script or a cron job writes to /proc/sys/vm/drop_caches, mostly because free memory looked low. The page "
        "cache is not wasted memory: dropping it makes the next reads slow.",
        Remedy(
            "Stop it." if writers else "Stop it. The kernel's log names the writer.",
        ),
        np.zeros(len(observation.rows), np.int64),
        cost=(f"{observation.bytes((read or 0) * 1024)} read from disk meanwhile, by the whole host",) if read else (),
        cost_ns=1,
        resolves=Resolves("growth of drop_pagecache and drop_slab", "<", 1, "count"),
        next="dmesg | grep drop_caches",
    )


RULE = Rule(
    "drop-caches",
    "somebody drops the caches",
    "Writing to vm.drop_caches throws away the page cache, slab, or both, of the whole host. It counts as no reclaim, "
    "so no other figure shows it.",
    judge,
    (FELL, AGAIN, OFTEN),
    (),
    "The writer is known only if the kernel's log can be read, and the kernel does not log a write of 4 or more.",
    evidence="Growth of drop_pagecache and drop_slab; page cache lost between two readings; pages read from disk.",
    remedy="Stop the script that writes to vm.drop_caches; the kernel's log names it.",
)
