"""Kernel memory that cannot be reclaimed fills the host."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Resolves, Unknown
from mmwatch.diagnosis.cgroups import host_thrashing, limit_evidence
from mmwatch.diagnosis.evidence import of_path
from mmwatch.diagnosis.observation import Observation, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import HARM, Threshold

LARGE = Threshold(
    0.3,
    "ratio",
    "slab that cannot be reclaimed, as a share of the memory of the host, or of a cgroup at its limit",
    "ordinary hosts have one to five percent",
)
CAUSE = "A driver or subsystem holds memory: a leak, millions of sockets, or objects that are pinned by their users."
REMEDY = Remedy(
    "Find the cache (slabtop), and who fills it (bpftrace on kmem:kmem_cache_alloc); a leak needs a fixed kernel."
)
RESOLVES = Resolves("slab that cannot be reclaimed", "<", LARGE.value, "ratio")
SLABTOP = "slabtop -o -s c | head -20"


def judge(observation: Observation) -> Answer:
    host = of_host(observation)
    return host if isinstance(host, Found) else of_cgroup(observation) or host


def of_cgroup(observation: Observation) -> Found | None:
    """A cgroup at its limit that is full of slab. Version 1 does not tell (its kernel memory is not in memory.stat)."""
    memcg = observation.on("memcg")
    bound = observation.bound(memcg, "max")
    shares = {
        path: observation.limited[path].levels.get("slab_unreclaimable", 0)
        / max(observation.limited[path].usage_bytes, 1)
        for path, rows in bound.items()
        if observation.harmful(rows)
    }
    path = max(shares, key=lambda one: shares[one], default=None)
    if path is None or shares[path] < LARGE.value:
        return None
    rows, share = bound[path], shares[path]
    lost = observation.lost_ns(rows)
    slab = observation.bytes(observation.limited[path].levels["slab_unreclaimable"])
    return Found(
        f"{slab} of the memory of cgroup {path} ({percent(share)}) is kernel memory that cannot be reclaimed. "
        f"{observation.names(rows)} spent {time(lost)} of {time(observation.duration_ns)} reclaiming the rest.",
        (
            Evidence("slab", f"slab_unreclaimable is {slab}", "memory.stat", share, "ratio", LARGE.value),
            of_path(observation, rows, "reclaim at the limit"),
            *limit_evidence(observation, path, "max"),
        ),
        CAUSE,
        REMEDY,
        observation.claim(rows),
        cgroups=(path,),
        resolves=RESOLVES,
        next=SLABTOP,
    )


def of_host(observation: Observation) -> Answer:
    """The host is full of slab."""
    memory = observation.last.memory
    if not memory.get("total") or "slab_unreclaimable" not in memory:
        return Unknown("it needs /proc/meminfo")
    slab = memory["slab_unreclaimable"]
    share = slab / memory["total"]
    if share < LARGE.value:
        return Clear(f"{percent(share)} of the memory is slab that cannot be reclaimed")
    rows, kswapd = observation.on("direct"), ~observation.tasks
    worst = host_thrashing(observation)
    if not observation.harmful(rows) and observation.share(observation.lost_ns(kswapd)) < 0.5 and worst is None:
        return Clear(f"{percent(share)} of the memory is slab that cannot be reclaimed, but hardly anybody waits")
    lost = observation.lost_ns(rows)
    return Found(
        f"{observation.bytes(slab)} of the memory ({percent(share)}) is kernel memory that cannot be reclaimed. "
        + (
            f"{observation.names(rows)} spent {time(lost)} of {time(observation.duration_ns)} reclaiming the rest."
            if lost or worst is None
            else f"Of the rest, {observation.pages(observation.rate(worst.refaults))} a second are reclaimed and read "
            "again."
        ),
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
        CAUSE,
        REMEDY,
        observation.claim(rows | kswapd),
        resolves=RESOLVES,
        next=SLABTOP,
    )


RULE = Rule(
    "slab-unreclaimable",
    "kernel memory fills the host or a cgroup",
    "Slab that no shrinker can free leaves little memory for everything else.",
    judge,
    (LARGE, HARM),
    limits="The size is that at the end.",
    evidence="SUnreclaim of /proc/meminfo, slab_unreclaimable of memory.stat, time in direct reclaim and of kswapd, "
    "pages read again.",
    remedy="Find the cache with slabtop; a leak needs a fixed kernel.",
)
