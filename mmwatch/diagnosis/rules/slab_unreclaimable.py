"""Kernel memory that cannot be reclaimed fills the host."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Resolves, Unknown
from mmwatch.diagnosis.observation import Observation, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import HARM, Threshold

LARGE = Threshold(
    0.3, "ratio", "slab that cannot be reclaimed, as a share of the memory", "ordinary hosts have one to five percent"
)


def judge(observation: Observation) -> Answer:
    memory = observation.last.memory
    if not memory.get("total") or "slab_unreclaimable" not in memory:
        return Unknown("it needs /proc/meminfo")
    slab = memory["slab_unreclaimable"]
    share = slab / memory["total"]
    if share < LARGE.value:
        return Clear(f"{percent(share)} of the memory is slab that cannot be reclaimed")
    rows, kswapd = observation.on("direct"), ~observation.tasks
    if not observation.harmful(rows) and observation.share(observation.lost_ns(kswapd)) < 0.5:
        return Clear(f"{percent(share)} of the memory is slab that cannot be reclaimed, but hardly anybody waits")
    lost = observation.lost_ns(rows)
    return Found(
        f"{observation.bytes(slab)} of the memory ({percent(share)}) is kernel memory that cannot be reclaimed. "
        f"{observation.names(rows)} spent {time(lost)} of {time(observation.duration_ns)} reclaiming the rest.",
        (
            Evidence("slab", f"SUnreclaim is {observation.bytes(slab)}", "/proc/meminfo", share, "ratio", LARGE.value),
            Evidence(
                "path",
                f"direct reclaim took {percent(observation.share(lost))} of the time, kswapd "
                f"{percent(observation.share(observation.lost_ns(kswapd)))}",
                "reclaims",
                observation.share(lost),
                "ratio",
                HARM.value,
            ),
        ),
        "A driver or subsystem holds memory: a leak, millions of sockets, or objects that are pinned by their users.",
        Remedy(
            "Find the cache (slabtop), and who fills it (bpftrace on kmem:kmem_cache_alloc); a leak needs a fixed "
            "kernel."
        ),
        observation.claim(rows | kswapd),
        resolves=Resolves("slab that cannot be reclaimed", "<", LARGE.value, "ratio"),
        next="slabtop -o -s c | head -20",
    )


RULE = Rule(
    "slab-unreclaimable",
    "kernel memory fills the host",
    "Slab that no shrinker can free leaves little memory for everything else.",
    judge,
    (LARGE, HARM),
    limits="The size is that at the end.",
    evidence="SUnreclaim of /proc/meminfo, time in direct reclaim and of kswapd.",
    remedy="Find the cache with slabtop; a leak needs a fixed kernel.",
    uncalibrated="not tried on a real load yet",
)
