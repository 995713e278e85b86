"""Page cache that was just reclaimed is read again: the memory is too small for what is in use."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Answer, Clear
from mmwatch.diagnosis.cgroups import BACK, LITTLE, SLOW, THRASH, Thrash, thrash_found, thrashing
from mmwatch.diagnosis.observation import Observation, percent
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import Threshold

MOSTLY = Threshold(
    0.35,
    "ratio",
    "the same of a cgroup whose tasks lose time in reclaim itself",
    "less comes of reading ahead where memory is short; then the limit is the trouble, and its own rule says so",
)


def judge(observation: Observation) -> Answer:
    worst = thrashing(observation)
    if not isinstance(worst, Thrash):
        return Clear(worst)
    back = worst.refaults / max(worst.reclaimed_pages, 1)
    if worst.path and back < MOSTLY.value and observation.harmful(worst.rows & observation.tasks):
        return Clear(f"{percent(back)} of what was reclaimed from {worst.path} was read again; its reclaim costs more")
    cause = (
        "What is read again and again does not fit the memory that it may use, so each page read throws out one that "
        "is needed next."
    )
    if not observation.harmful(worst.rows & observation.tasks):
        cause += " Time in reclaim looks harmless; the time is lost waiting for the disk."
    return thrash_found(observation, worst, "The page cache of {} does", cause)


RULE = Rule(
    "cache-thrash",
    "page cache is reclaimed and read again",
    "The kernel remembers what it reclaimed (workingset_refault). If much of it comes back at once, reclaim takes "
    "what is in use. Its own time may be small: the cost is the disk.",
    judge,
    (THRASH, SLOW, BACK, MOSTLY, LITTLE),
    limits="Version 1 counts no pages refaulted soon: there the share of the whole host is taken.",
    yields_to=(
        "exec-thrash",
        "memcg-dirty",
        "swap-storm",
        "no-swap-anon",
        "zone-reclaim-thrash",
        "node-bound",
        "drop-caches",
        "high-order",
        "slab-unreclaimable",
    ),
    evidence="workingset_refault_file of the cgroup or host; pages reclaimed; the cgroup's own hits of its limit; "
    "pressure of memory and of I/O.",
    remedy="Raise the limit of the cgroup, or give the host more memory; protect what matters with memory.low; let "
    "the rest bypass the page cache.",
)
