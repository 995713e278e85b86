"""So many tasks reclaim at once that they wait for each other."""

from __future__ import annotations

import numpy as np

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Remedy
from mmwatch.diagnosis.evidence import of_counter
from mmwatch.diagnosis.observation import Observation, count
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import HARM
from mmwatch.diagnosis.throttling import PART, throttle_found, throttled

REASONS = ("isolated",)


def judge(observation: Observation) -> Answer:
    found = throttled(observation, *REASONS)
    if isinstance(found, Clear):
        return found
    rows, slept = found
    threads = len(np.unique(observation.rows["tid"][rows]))
    evidence = [Evidence("crowd", f"{count(threads)} threads reclaimed", "reclaims", threads, "count")]
    evidence += of_counter(observation, "allocstall")
    return throttle_found(
        observation,
        rows,
        slept,
        REASONS,
        tuple(evidence),
        "Each reclaimer takes pages off the LRU lists while it works on them. With more pages off the lists than on "
        "them, the others have to wait (mm/vmscan.c, too_many_isolated).",
        Remedy(
            "Let fewer threads allocate at the same time, and let kswapd start earlier (vm.watermark_scale_factor)."
        ),
    )


RULE = Rule(
    "isolation-throttle",
    "too many tasks reclaim at once",
    "Hundreds of threads reclaim at the same time and sleep, because the others hold the pages that could be freed.",
    judge,
    (HARM, PART),
    ("stall_ns", "throttled_ns"),
    "The kernel names the reason since 5.16.",
    uncalibrated="a guest of the laboratory has too few CPUs for it",
    evidence="Time asleep for the reason isolated; how many threads reclaim.",
    remedy="Let fewer threads allocate at the same time; raise vm.watermark_scale_factor.",
)
