"""Reclaim sleeps because it frees nothing."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Remedy
from mmwatch.diagnosis.evidence import of_priority
from mmwatch.diagnosis.observation import Observation, count, percent
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import HARM
from mmwatch.diagnosis.throttling import PART, throttle_found, throttled

REASONS = ("noprogress",)


def judge(observation: Observation) -> Answer:
    found = throttled(observation, *REASONS)
    if isinstance(found, Clear):
        return found
    rows, slept = found
    evidence = []
    reclaims = observation.sum(rows, "reclaims")
    futile = observation.sum(rows, "reclaims_futile")
    if reclaims:
        evidence.append(
            Evidence(
                "futile",
                f"{percent(futile / reclaims)} of {count(reclaims)} reclaims freed nothing",
                "reclaims",
                futile / reclaims,
                "ratio",
            )
        )
    evidence += of_priority(observation, rows)
    return throttle_found(
        observation,
        rows,
        slept,
        REASONS,
        tuple(evidence),
        "The whole ladder of priorities freed nothing, so the kernel lets the task sleep before it tries again. 5.16 "
        "slept too long there (eased by 1b4e3f26f9f7).",
        Remedy(
            "Find what fills the memory and cannot be freed: locked, mapped or dirty pages, or memory without swap."
        ),
    )


RULE = Rule(
    "no-progress-throttle",
    "reclaim sleeps because nothing can be freed",
    "A task went through all priorities, freed nothing, and is put to sleep, again and again.",
    judge,
    (HARM, PART),
    ("stall_ns", "throttled_ns"),
    "The kernel names the reason since 5.16.",
    ("memcg-high-livelock", "memcg-dirty", "no-swap-anon", "swap-storm"),
    uncalibrated="in the laboratory kswapd fails first, and then nobody sleeps for it",
    evidence="Time asleep for the reason noprogress; reclaims that freed nothing; the scan priority.",
    remedy="Find what fills the memory and cannot be freed.",
)
