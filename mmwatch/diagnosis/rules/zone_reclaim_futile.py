"""Node reclaim runs over and over and frees nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Resolves
from mmwatch.diagnosis.observation import Observation, count, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.rules.zone_reclaim_thrash import (
    FUTILE_SHARE,
    asked_for_by_write,
    futile_share,
    node_evidence,
    remedy,
)
from mmwatch.diagnosis.thresholds import HARM

WRITE, UNMAP = 2, 4
"""RECLAIM_WRITE and RECLAIM_UNMAP, include/uapi/linux/mempolicy.h."""


def judge(observation: Observation) -> Answer:
    node = observation.on("node")
    lost = observation.lost_ns(node)
    if not observation.harmful(node):
        return Clear(f"node reclaim took {percent(observation.share(lost))} of the time")
    share = futile_share(observation, node)
    if share < FUTILE_SHARE.value:
        return Clear(f"{percent(1 - share)} of the node reclaims freed something")
    if asked_for_by_write(observation):
        return Clear("the kernel counts none of it as node reclaim: it was requested by a write to nodeN/reclaim")
    calls = observation.sum(node, "reclaims")
    evidence = [
        *node_evidence(observation, node),
        Evidence(
            "futile",
            f"{count(observation.sum(node, 'reclaims_futile'))} of {count(calls)} node reclaims freed nothing",
            "reclaims",
            share,
            "ratio",
            FUTILE_SHARE.value,
        ),
    ]
    elsewhere = observation.elsewhere("node")
    if elsewhere:
        had = max(elsewhere.values(), key=lambda one: one.free_pages)
        meanwhile = f", while node {had.free_node} had {observation.pages(had.free_pages)} free"
    else:
        meanwhile = ""
    searched = ", ".join(str(number) for number in np.unique(observation.rows["node"][node]).tolist() if number >= 0)
    return Found(
        f"{observation.names(node)} spent {time(lost)} of {time(observation.duration_ns)} in node reclaim on node "
        f"{searched} and freed nothing{meanwhile}.",
        tuple(evidence),
        _cause(observation),
        replace(
            remedy(observation),
            advice="Skip the scan, and let tasks take the memory of other nodes at once, as they do now after it.",
            risk="",
        ),
        observation.claim(node),
        nodes=tuple(sorted(elsewhere)),
        cost=(f"{count(calls / observation.duration_s)} node reclaims a second, all of them CPU time of the tasks",),
        resolves=Resolves("share of the time in node reclaim", "<", 0.01, "ratio", "pages allocated"),
        next="mmwatch top --by node",
    )


def _cause(observation: Observation) -> str:
    mode, lru = observation.setting("zone_reclaim_mode"), observation.setting("lru_gen_enabled")
    if isinstance(lru, int) and lru & 1 and isinstance(mode, int) and (mode & (WRITE | UNMAP)) != WRITE | UNMAP:
        return (
            "The multi-generational LRU reclaims nothing in node reclaim unless the mode also allows it to write and "
            f"to unmap (mm/vmscan.c, lru_gen_shrink_node, since 6.3). With mode {mode}, each allocation on a full "
            "node scans it from priority 4 to 0 without freeing a page, and then takes memory of another node."
        )
    return (
        "The node's pages count as reclaimable, but the mode does not allow to free them: they are mapped, dirty, or "
        "in use. Each allocation on the full node scans it without freeing a page."
    )


RULE = Rule(
    "zone-reclaim-futile",
    "node reclaim that frees nothing",
    "As zone-reclaim-thrash, but the search frees nothing at all: with the multi-generational LRU and mode 1 that is "
    "always so (since 6.3). The task burns CPU time at each allocation, and ends up on another node anyway.",
    judge,
    (HARM, FUTILE_SHARE),
    ("stall_ns", "reclaims", "reclaims_futile"),
    "Kernels before 5.2 have no event for it.",
    evidence="As zone-reclaim-thrash, and the share of node reclaims that freed nothing.",
    remedy="Set vm.zone_reclaim_mode to 0.",
)
