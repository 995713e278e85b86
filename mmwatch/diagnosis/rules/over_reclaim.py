"""Reclaim frees far more than it was asked for, because its priority fell."""

from __future__ import annotations

import numpy as np

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Resolves
from mmwatch.diagnosis.observation import Observation, count, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import HARM, OVERSHOOT, PRIORITY_LOW


def judge(observation: Observation) -> Answer:
    asks = observation.on("direct", "memcg", "node")
    if not observation.harmful(asks):
        return Clear(
            f"reclaim that asks for a number of pages took {percent(observation.share(observation.lost_ns(asks)))} of "
            "the time"
        )
    rows = observation.rows
    over = asks & (rows["reported_pages"] >= OVERSHOOT.value * np.maximum(rows["asked_pages"], 1))
    low = ((rows["priority_histogram"] > 0) | (rows["pass_histogram"] > 0))[:, : int(PRIORITY_LOW.value) + 1].any(
        axis=1
    )
    guilty = over & low
    lost = observation.lost_ns(guilty)
    asked, freed = observation.sum(asks, "asked_pages"), observation.freed(asks)
    if not observation.harmful(guilty):
        ratio = f"{freed / asked:.1f} pages were freed for each page asked for" if asked else "nothing was asked for"
        return Clear(ratio)
    asked, freed = observation.sum(guilty, "asked_pages"), observation.freed(guilty)
    priority = observation.priority(guilty)
    worst = int(rows["reclaimed_max_pages"][guilty].max(initial=0))
    evidence = [
        Evidence(
            "excess",
            f"{count(freed)} pages were freed where {count(asked)} were asked for",
            "reclaims",
            freed / max(asked, 1),
            "ratio",
            OVERSHOOT.value,
        ),
        Evidence("depth", f"scan priority fell to {priority}", "batches and passes", priority, "", PRIORITY_LOW.value),
    ]
    if worst:
        evidence.append(Evidence("worst", f"one reclaim freed {count(worst)} pages", "reclaims", worst, "pages"))
    spare = observation.elsewhere("direct", "node")
    for number, one in sorted(spare.items()):
        evidence.append(
            Evidence(
                "spare",
                f"node {one.free_node} had {observation.pages(one.free_pages)} free meanwhile (node {number} was "
                "reclaimed)",
                "/proc/zoneinfo",
                one.free_pages,
                "pages",
            )
        )
    return Found(
        f"{observation.names(guilty)} freed {count(freed)} pages where {count(asked)} were asked for, in {time(lost)} "
        f"of {time(observation.duration_ns)}.",
        tuple(evidence),
        "When reclaim finds little at first, its priority falls, and each list is scanned by larger parts. Many "
        "memory cgroups (up to 6.10), large folios and high orders let one reclaim take far more than was asked for.",
        Remedy(
            "Find out why the first passes free so little: dirty, mapped or locked pages. Kernels from 6.11 on stop "
            "between cgroups.",
        ),
        observation.claim(guilty),
        cost=(f"{count(max(freed - asked, 0))} pages more than needed were evicted",),
        resolves=Resolves("pages freed for each page asked for", "<", OVERSHOOT.value, "ratio"),
        next="mmwatch trace --detail passes",
    )


RULE = Rule(
    "over-reclaim",
    "far more freed than asked for",
    "A reclaim whose priority fell to the end of the ladder frees whole lists although a few pages would do. Its own "
    "task waits for that, and others read again what was thrown away.",
    judge,
    (HARM, OVERSHOOT, PRIORITY_LOW),
    ("stall_ns", "asked_pages", "reported_pages"),
    "kswapd is left out: it aims at a watermark, not at a number of pages.",
    ("zone-reclaim-thrash", "zone-reclaim-futile", "memcg-dirty", "exec-thrash", "swap-storm", "no-swap-anon"),
    evidence="Pages freed against pages asked for, the scan priority, the largest single reclaim.",
    remedy="Find why the first passes free so little. Kernels from 6.11 on stop between cgroups.",
    uncalibrated="no load in the laboratory showed it apart from zone-reclaim-thrash",
)
