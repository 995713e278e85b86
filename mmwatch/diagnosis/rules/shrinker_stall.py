"""Reclaim spends its time in slab shrinkers."""

from __future__ import annotations

import numpy as np

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Resolves
from mmwatch.diagnosis.observation import Observation, count, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import HARM, Threshold

PART = Threshold(
    0.3, "ratio", "time in shrinkers as a share of the time in reclaim", "ordinary reclaim spends a few percent there"
)


def judge(observation: Observation) -> Answer:
    tasks = observation.tasks
    shrinking = np.minimum(observation.rows["shrinker_ns"].astype(np.int64), observation.stalls_ns)
    spent = int(shrinking[tasks].sum())
    if observation.share(spent) < HARM.value:
        return Clear(f"shrinkers took {percent(observation.share(spent))} of the time")
    lost = observation.lost_ns(tasks)
    if spent < PART.value * lost:
        return Clear(f"shrinkers took {percent(spent / lost)} of the time in reclaim")
    calls, objects = observation.sum(tasks, "shrinker_calls"), observation.sum(tasks, "shrinker_objects")
    evidence = [
        Evidence(
            "shrinker",
            f"{time(spent)} of {time(lost)} in reclaim went to {count(calls)} calls of shrinkers",
            "shrinkers",
            spent / lost,
            "ratio",
            PART.value,
        ),
        Evidence("objects", f"they freed {count(objects)} objects", "shrinkers", objects, "count"),
    ]
    scanned = observation.grown("slabs_scanned")
    if scanned is not None:
        evidence.append(
            Evidence("counter", f"slabs_scanned grew by {count(scanned)}", "/proc/vmstat", scanned, "count")
        )
    slab = observation.last.memory.get("slab_reclaimable")
    if slab:
        evidence.append(
            Evidence("slab", f"{observation.bytes(slab)} of slab count as reclaimable", "/proc/meminfo", slab, "bytes")
        )
    busy = tasks & (shrinking >= PART.value * observation.stalls_ns) & (shrinking > 0)
    return Found(
        f"{observation.names(busy)} spent {time(spent)} of {time(observation.duration_ns)} in slab shrinkers: "
        f"{count(calls)} calls freed {count(objects)} objects.",
        tuple(evidence),
        "Reclaim also asks every cache of the kernel to shrink: dentries, inodes, and those of file systems and "
        "drivers. A huge or contended one makes every reclaim slow.",
        Remedy(
            "Find the cache (slabtop), and what fills it: millions of files walked, negative dentries, leaked "
            "sockets. Dropping reclaimable slab once tells whether it helps.",
            ("sync; sysctl -w vm.drop_caches=2",),
            risk="directory and inode lookups are slow until the caches are filled again",
        ),
        observation.claim(busy),
        resolves=Resolves("share of the time in shrinkers", "<", 0.01, "ratio"),
        next="slabtop -o -s c | head -20",
    )


RULE = Rule(
    "shrinker-stall",
    "reclaim is stuck in slab shrinkers",
    "Reclaim spends most of its time in the shrinkers of kernel caches, which free little.",
    judge,
    (HARM, PART),
    ("stall_ns", "shrinker_ns"),
    "It does not name the shrinker yet: slabtop shows the large caches.",
    evidence="Time in shrinkers, objects freed, slabs_scanned, the size of reclaimable slab.",
    remedy="Find the cache with slabtop.",
)
