"""Reclaim at the soft limits of version 1."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Answer, Clear, Found, Remedy, Resolves
from mmwatch.diagnosis.evidence import of_counter, of_path, of_priority
from mmwatch.diagnosis.observation import Observation, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import HARM


def judge(observation: Observation) -> Answer:
    rows = observation.on("softlimit")
    lost = observation.lost_ns(rows)
    waited = rows & ~observation.kswapd_threads
    if not observation.harmful(waited):
        return Clear(f"reclaim at soft limits took {percent(observation.share(lost))} of the time")
    evidence = [
        of_path(observation, rows, "reclaim at soft limits"),
    ]
    evidence += of_counter(observation, "allocstall", ": the host is short")
    evidence += of_priority(observation, rows)
    return Found(
        f"{observation.names(rows)} spent {time(lost)} of {time(observation.duration_ns)} reclaiming from cgroups "
        "that are above their soft limit.",
        tuple(evidence),
        "When the host is short, version 1 first takes everything from the cgroups that are the furthest above their "
        "soft limit, at priority 0 (mm/vmscan.c, mem_cgroup_shrink_node).",
        Remedy("Use hard limits, or version 2 with memory.low and memory.high instead of soft limits."),
        observation.claim(rows),
        resolves=Resolves("share of the time at soft limits", "<", 0.01, "ratio"),
        next="mmwatch top --by cgroup",
    )


RULE = Rule(
    "soft-limit",
    "soft limits of version 1",
    "A cgroup above its soft limit loses whole lists at once when the host runs short, and whoever allocated waits "
    "for that.",
    judge,
    (HARM,),
    ("stall_ns", "reclaims"),
    uncalibrated="the loads of the laboratory run in cgroup version 2, which has no soft limits",
    evidence="Time in reclaim at soft limits, allocstall, the scan priority.",
    remedy="Use hard limits, or version 2 with memory.low and memory.high.",
)
