"""Mapped files, such as programs and libraries, are reclaimed and faulted in again."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Answer, Clear, Evidence
from mmwatch.diagnosis.cgroups import BACK, LITTLE, SLOW, THRASH, Thrash, thrash_found, thrashing
from mmwatch.diagnosis.observation import Observation, count
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import Threshold

MAJOR = Threshold(
    5.0,
    "1/s",
    "major faults",
    "each waits for the disk in the middle of a running program; a start has a burst of them",
)
SHARE = Threshold(
    0.02,
    "ratio",
    "major faults for each page refaulted",
    "one fault reads up to 32 pages around it; reads of files without mapping have no faults at all",
)
BACK_MAPPED = Threshold(
    0.1,
    "ratio",
    "the same on the multi-generational LRU",
    "a fault reads many pages around it that are never mapped; that LRU soon forgets them, and does not count their "
    "return",
)
MAPPED = Threshold(
    0.1,
    "ratio",
    "mapped page cache, of all page cache of the cgroup; then fewer faults will do",
    "the kernel reads ahead of some mappings, so that one fault brings hundreds of pages, most of them not mapped yet",
)


def judge(observation: Observation) -> Answer:
    worst = thrashing(observation, BACK_MAPPED.value if observation.lru_gen else BACK.value)
    if not isinstance(worst, Thrash):
        return Clear(worst)
    major = worst.major_faults
    levels = observation.limited[worst.path].levels if worst.path else {}
    mapped = levels.get("file_mapped", 0) / max(levels.get("file", 0), 1)
    few = major < SHARE.value * worst.refaults and mapped < MAPPED.value
    if observation.rate(major) < MAJOR.value or few:
        return Clear(f"{count(observation.rate(major))} major faults a second")
    evidence = Evidence(
        "faults",
        f"{count(major)} major faults: mapped pages are read again while a program runs",
        "pgmajfault",
        observation.rate(major),
        "1/s",
        MAJOR.value,
    )
    cause = (
        "The pages of running programs and libraries, or of mapped data, are page cache too. If little else is left "
        "to reclaim, they are thrown out while they are in use, and each instruction on them waits for the disk. "
        "Nothing is killed, because reclaim makes progress."
    )
    return thrash_found(observation, worst, "The mapped files of {} do", cause, (evidence,))


RULE = Rule(
    "exec-thrash",
    "running programs are reclaimed and read again",
    "The working set of mapped files does not fit: the host or cgroup reads its own programs again and again.",
    judge,
    (THRASH, SLOW, BACK, BACK_MAPPED, LITTLE, MAJOR, SHARE, MAPPED),
    limits="It cannot tell programs from other mapped files.",
    yields_to=("no-swap-anon", "slab-unreclaimable", "high-order"),
    evidence="As cache-thrash, and major faults (pgmajfault), and how much of the page cache of a cgroup is mapped.",
    remedy="As cache-thrash.",
)
