"""kswapd is busy, and that is all: nobody waits."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Answer, Clear
from mmwatch.diagnosis.observation import KSWAPD, Observation, count, percent
from mmwatch.diagnosis.rule import Rule


def judge(observation: Observation) -> Answer:
    kswapd = observation.rows["path"] == KSWAPD
    efficiency = observation.efficiency(kswapd)
    if not kswapd.any():
        return Clear("kswapd slept")
    freed = f" and freed {count(observation.rate(observation.reclaimed(kswapd)))} pages a second" if efficiency else ""
    share = percent(observation.share(observation.lost_ns(kswapd)))
    told = f", {percent(efficiency)} of what it scanned" if efficiency is not None else ""
    return Clear(f"kswapd ran {share} of the time{freed}{told}; background work is no trouble by itself")


RULE = Rule(
    "kswapd-busy",
    "kswapd works, and nobody waits",
    "A host that reads files uses all of its memory, and kswapd frees old pages in the background. That is healthy: "
    "this rule never finds anything, and says what kswapd did.",
    judge,
    evidence="CPU time of kswapd, and pages freed for each page scanned.",
    remedy="None.",
)
