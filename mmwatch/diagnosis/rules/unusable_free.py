"""Tasks reclaim although their node has free memory: it is of a kind that they may not use."""

from __future__ import annotations

import numpy as np

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Resolves
from mmwatch.diagnosis.observation import Observation, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import HARM, SPARE, Threshold

READINGS = Threshold(
    0.5, "ratio", "readings in which the node was above its high watermark", "less may be between two reclaims"
)
SPECIAL = Threshold(
    0.5,
    "ratio",
    "free memory that is CMA, in the Movable zone, or a reserve of a low zone",
    "with less, the rest should do",
)


def judge(observation: Observation) -> Answer:
    direct = observation.on("direct")
    if not observation.harmful(direct):
        return Clear(f"direct reclaim took {percent(observation.share(observation.lost_ns(direct)))} of the time")
    for number, states in observation.nodes():
        rows = direct & (observation.rows["node"] == number)
        if not observation.harmful(rows):
            continue
        above = [
            s for s in states if s.free_pages is not None and s.high_pages is not None and s.free_pages > s.high_pages
        ]
        if len(above) < READINGS.value * len(states):
            continue
        last = above[-1]
        special = (last.free_cma_pages or 0) + (last.free_movable_pages or 0) + (last.free_reserved_pages or 0)
        if special < SPECIAL.value * (last.free_pages or 1) or special < SPARE.value * (last.managed_pages or 0):
            continue
        lost = observation.lost_ns(rows)
        low_orders = observation.rows["order_histogram"][rows].astype(np.int64)[:, :4].sum()
        if low_orders < 0.5 * max(observation.sum(rows, "reclaims"), 1):
            continue
        return Found(
            f"{observation.names(rows)} spent {time(lost)} of {time(observation.duration_ns)} reclaiming node "
            f"{number} although it had {observation.pages(last.free_pages)} free: that is CMA, movable, or a reserve.",
            (
                Evidence(
                    "path",
                    f"direct reclaim on node {number} took {percent(observation.share(lost))} of the time",
                    "reclaims",
                    observation.share(lost),
                    "ratio",
                    HARM.value,
                ),
                Evidence(
                    "free",
                    f"node {number} was above its high watermark in {len(above)} of {len(states)} readings",
                    "/proc/zoneinfo",
                    len(above) / len(states),
                    "ratio",
                    READINGS.value,
                ),
                Evidence(
                    "kind",
                    f"{observation.pages(last.free_cma_pages)} of it are CMA, "
                    f"{observation.pages(last.free_movable_pages)} in the Movable zone, "
                    f"{observation.pages(last.free_reserved_pages)} reserves of low zones",
                    "nr_free_cma, protection",
                    special,
                    "pages",
                ),
            ),
            "Kernel allocations may use neither the Movable zone nor CMA areas, and each zone keeps a reserve for "
            "allocations that can use no other.",
            Remedy(
                "Make the CMA area (cma=) or the Movable zone (movablecore=, kernelcore=, memory hotplug "
                "online_movable) smaller, or lower the reserve (vm.lowmem_reserve_ratio).",
            ),
            observation.claim(rows),
            nodes=(number,),
            resolves=Resolves("share of the time in direct reclaim", "<", 0.01, "ratio"),
            next="cat /proc/zoneinfo",
        )
    return Clear("the nodes that were reclaimed had no free memory above their high watermark")


RULE = Rule(
    "unusable-free",
    "free memory that the task may not use",
    "A node has free pages above its watermarks, but they are CMA, in the Movable zone, or a reserve of a low zone, "
    "so that kernel allocations reclaim.",
    judge,
    (HARM, READINGS, SPECIAL, SPARE),
    ("stall_ns", "order_histogram"),
    "The zone that an allocation wanted is not seen.",
    ("node-bound", "high-order"),
    uncalibrated="the laboratory has neither CMA, nor a Movable zone, nor a large reserve",
    evidence="Direct reclaim on a node above its high watermark; free memory that is CMA, in the Movable zone, or a "
    "reserve of a low zone (protection of /proc/zoneinfo).",
    remedy="Make the CMA area or the Movable zone smaller, or raise vm.lowmem_reserve_ratio.",
)
