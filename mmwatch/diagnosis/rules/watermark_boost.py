"""kswapd frees far above the high watermark, because fragmentation boosted it."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Resolves, Unknown
from mmwatch.diagnosis.observation import KSWAPD, Observation, count, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import Threshold

BOOSTED = Threshold(
    0.3, "ratio", "readings with a boosted watermark", "a boost is meant to be short: kswapd removes it when it is done"
)
BUSY = Threshold(
    0.1, "ratio", "time that kswapd ran on that node", "less is not felt, and the boost may have been worth it"
)


def judge(observation: Observation) -> Answer:
    if all(node.boost_pages is None for node in observation.last.nodes):
        return Unknown("this kernel does not show the boost of watermarks")
    worst, share = None, 0.0
    for number, states in observation.nodes():
        boosted = sum(1 for state in states if state.boost_pages) / len(states)
        if boosted > share:
            worst, share = number, boosted
    if worst is None or share < BOOSTED.value:
        return Clear(f"watermarks were boosted in {percent(share)} of the readings")
    kswapd = (observation.rows["path"] == KSWAPD) & (observation.rows["node"] == worst)
    busy = observation.share(observation.lost_ns(kswapd))
    if busy < BUSY.value:
        return Clear(f"a watermark was boosted, but kswapd ran {percent(busy)} of the time")
    boost = max(node.boost_pages or 0 for one in observation.intervals for node in one.nodes if node.node == worst)
    factor = observation.setting("watermark_boost_factor")
    evidence = [
        Evidence(
            "boost",
            f"the watermarks of node {worst} were boosted by up to {observation.pages(boost)}",
            "/proc/zoneinfo",
            share,
            "ratio",
            BOOSTED.value,
        ),
        Evidence(
            "kswapd",
            f"kswapd ran {percent(busy)} of the time and freed {count(observation.freed(kswapd))} pages",
            "kswapd",
            busy,
            "ratio",
            BUSY.value,
        ),
        Evidence("config", f"vm.watermark_boost_factor is {factor}", "vm.watermark_boost_factor", factor),
    ]
    return Found(
        f"kswapd of node {worst} ran {percent(busy)} of {time(observation.duration_ns)} to free memory up to a "
        f"watermark that fragmentation had boosted by {observation.pages(boost)}.",
        tuple(evidence),
        "When an allocation has to take a block of pages of another mobility, the kernel raises the watermarks for a "
        "while and lets kswapd free more, to make room for larger blocks.",
        Remedy(
            "Switch the boost off.",
            ("sysctl -w vm.watermark_boost_factor=0",),
            (f"sysctl -w vm.watermark_boost_factor={factor}",),
            "echo vm.watermark_boost_factor=0 >/etc/sysctl.d/90-watermark-boost.conf",
            "memory may fragment more: watch compact_stall",
        ),
        observation.claim(kswapd),
        nodes=(worst,),
        resolves=Resolves("readings with a boosted watermark", "<", BOOSTED.value, "ratio"),
    )


RULE = Rule(
    "watermark-boost",
    "fragmentation makes kswapd free too much",
    "A boosted watermark makes kswapd free page cache although the node has enough free memory; on file servers that "
    "costs CPU and disk reads (LKML 2020-02, Ivan Babrou).",
    judge,
    (BOOSTED, BUSY),
    limits="The boost is read once an interval; short boosts in between are not seen.",
    yields_to=("kswapd-hopeless",),
    evidence="boost of /proc/zoneinfo, time and pages of kswapd on that node, vm.watermark_boost_factor.",
    remedy="Set vm.watermark_boost_factor to 0.",
    uncalibrated="no load in the laboratory showed a boost",
)
