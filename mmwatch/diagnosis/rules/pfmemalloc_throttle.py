"""Tasks sleep before reclaim, because the reserves are nearly used up."""

from __future__ import annotations

import numpy as np

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Resolves, Unknown
from mmwatch.diagnosis.evidence import of_pressure
from mmwatch.diagnosis.observation import Observation, count
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import PRESSURE


def judge(observation: Observation) -> Answer:
    times = observation.grown("pgscan_direct_throttle")
    if times is None:
        return Unknown("/proc/vmstat has no pgscan_direct_throttle")
    if not times:
        return Clear("no task was throttled before reclaim (pgscan_direct_throttle)")
    evidence = [Evidence("counter", f"pgscan_direct_throttle grew by {count(times)}", "/proc/vmstat", times, "count")]
    for number, states in observation.nodes():
        below = [
            s for s in states if s.free_pages is not None and s.min_pages is not None and s.free_pages < s.min_pages
        ]
        if below:
            evidence.append(
                Evidence(
                    "watermark",
                    f"node {number} had {observation.pages(below[0].free_pages)} free, below min",
                    "/proc/zoneinfo",
                    below[0].free_pages,
                    "pages",
                )
            )
    evidence += of_pressure(observation)
    return Found(
        f"Tasks were put to sleep {count(times)} times before they could reclaim: half of the memory reserves was "
        "used up.",
        tuple(evidence),
        "Below half of the min watermarks, the kernel stops tasks before reclaim, so that what writes pages out "
        "(network storage, swap over NFS) still gets memory (mm/vmscan.c, throttle_direct_reclaim). No reclaim "
        "begins, so no time in reclaim shows it.",
        Remedy(
            "Keep more in reserve.",
            ("sysctl -w vm.min_free_kbytes=" + str(2 * (observation.setting("min_free_kbytes") or 65536)),),
            (f"sysctl -w vm.min_free_kbytes={observation.setting('min_free_kbytes')}",),
            "echo vm.min_free_kbytes=… >/etc/sysctl.d/90-min-free.conf",
            "less memory for everything else",
        ),
        np.zeros(len(observation.rows), np.int64),
        cost_ns=1,
        resolves=Resolves("growth of pgscan_direct_throttle", "<", 1, "count"),
    )


RULE = Rule(
    "pfmemalloc-throttle",
    "tasks sleep before reclaim",
    "With half of the reserves used up, tasks sleep in the kernel before any reclaim begins.",
    judge,
    (PRESSURE,),
    (),
    "How long they sleep is not measured.",
    uncalibrated="the laboratory has no swap over the network; the counter itself was seen to grow",
    evidence="Growth of pgscan_direct_throttle, nodes below min, memory pressure.",
    remedy="Raise vm.min_free_kbytes.",
)
