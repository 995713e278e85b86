"""Reclaim spends its time in slab shrinkers."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Resolves
from mmwatch.diagnosis.observation import Observation, count, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import HARM, Threshold
from mmwatch.model.interval import Shrinker

PART = Threshold(
    0.3, "ratio", "time in shrinkers as a share of the time in reclaim", "ordinary reclaim spends a few percent there"
)


_HUGE = "/sys/kernel/mm/transparent_hugepage/enabled"
_ZSWAP = "/sys/module/zswap/parameters/shrinker_enabled"
_ANY = Remedy(
    "Find the cache (slabtop), and what fills it: millions of files walked, negative dentries, leaked "
    "sockets. Dropping reclaimable slab once tells whether it helps.",
    ("sync; sysctl -w vm.drop_caches=2",),
    risk="directory and inode lookups are slow until the caches are filled again",
)


class Kind(NamedTuple):
    """Well-known shrinkers.

    :param begin: the beginnings of the names of their functions.
    :param what: they free.
    """

    begin: tuple[str, ...]
    what: str
    remedy: Remedy = _ANY


SPLIT = Kind(
    ("deferred_split_scan",),
    "transparent huge pages, which it splits",
    Remedy(
        "Give huge pages only to programs that ask for them.",
        (f"echo madvise >{_HUGE}",),
        persistent="write it at boot, with a file in /etc/tmpfiles.d",
        risk="more TLB misses in programs that profit from huge pages and do not ask",
    ),
)
KINDS = (
    Kind(("super_cache_scan",), "dentries and inodes of file systems"),
    Kind(
        ("scan_shadow_nodes",),
        "shadow entries, which the page cache keeps for pages that were reclaimed",
        Remedy(
            "Each page of the page cache that is reclaimed leaves a shadow entry. Let those who read large files only "
            "once bypass the page cache (O_DIRECT), or give it back (POSIX_FADV_DONTNEED)."
        ),
    ),
    SPLIT,
    Kind(
        ("mb_cache_scan",),
        "the cache of extended attributes of ext2 and ext4",
        Remedy("Mount the ext4 file systems with no_mbcache: files then no longer share blocks of attributes."),
    ),
    Kind(("ext4_es_scan",), "what ext4 remembers of where the blocks of files are"),
    Kind(
        ("zswap_shrinker_scan",),
        "compressed pages of zswap, which it writes to swap",
        Remedy(
            "Let zswap write pages to swap only when its pool is full.",
            (f"echo N >{_ZSWAP}",),
            (f"echo Y >{_ZSWAP}",),
            "boot with zswap.shrinker_enabled=0",
            "zswap keeps more pages in memory that nobody needs",
        ),
    ),
    Kind(
        ("i915_", "xe_", "ttm_", "drm_", "amdgpu_", "msm_gem_"),
        "buffers of a graphics driver",
        Remedy("End programs that hold buffers of the GPU, or try a newer kernel: the shrinker may wait for the GPU."),
    ),
    Kind(("xfs_",), "buffers, quotas and deleted inodes of XFS"),
    Kind(("nfs",), "what NFS caches: attributes, access rights, open files"),
)


def _worst(observation: Observation) -> tuple[Shrinker | None, Kind | None]:
    """The shrinker with the most time, None if unknown, and its kind, None if it is not well known."""
    worst = max(observation.whole.shrinkers, key=lambda one: one.shrinker_ns, default=None)
    if worst is None:
        return None, None
    return worst, next((kind for kind in KINDS if worst.name.startswith(kind.begin)), None)


def _evidence(observation: Observation, worst: Shrinker) -> Evidence:
    part = worst.shrinker_ns / max(sum(one.shrinker_ns for one in observation.whole.shrinkers), 1)
    what, each = worst.name, worst.objects / max(worst.calls, 1)
    if not worst.name:
        why = [probe.reason for probe in observation.session.probes if probe.need == "shrinker names" and probe.reason]
        what = "one or several without a known name" + (f" (/proc/kallsyms {why[0]})" if why else "")
    return Evidence(
        "worst",
        f"{percent(part)} of the time in shrinkers, of all tasks and kswapd, went to {what}: {count(worst.calls)} "
        f"calls, {each:.{int(each < 10)}f} objects freed in each",
        "shrinkers",
        part,
        "ratio",
    )


def judge(observation: Observation) -> Answer:
    tasks = observation.tasks & ~observation.on("other")
    # A thread's row that has the reclaim need not be the one that has the shrinkers: they may work on other nodes.
    _, thread = np.unique(observation.rows["tid"], return_inverse=True)
    stalls, shrinking = (
        np.bincount(thread, np.where(tasks, of, 0).astype(float), len(tasks))[thread]
        for of in (observation.stalls_ns, observation.rows["shrinker_ns"])
    )
    spent = min(observation.sum(tasks, "shrinker_ns"), observation.lost_ns(tasks))
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
    worst, kind = _worst(observation)
    if worst is not None:
        evidence.insert(1, _evidence(observation, worst))
    named = f", above all in {worst.name}" + (f" ({kind.what})" if kind else "") if worst and worst.name else ""
    remedy = kind.remedy if kind else _ANY
    if kind is SPLIT and observation.setting("thp_enabled"):
        remedy = replace(remedy, undo=(f"echo {observation.setting('thp_enabled')} >{_HUGE}",))
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
    busy = tasks & (shrinking >= PART.value * stalls) & (shrinking > 0)
    return Found(
        f"{observation.names(busy)} spent {time(spent)} of {time(observation.duration_ns)} in slab shrinkers"
        f"{named}: {count(calls)} calls freed {count(objects)} objects.",
        tuple(evidence),
        "Reclaim also asks every cache of the kernel to shrink: dentries, inodes, and those of file systems and "
        "drivers. A huge or contended one makes every reclaim slow.",
        remedy,
        observation.claim(busy),
        resolves=Resolves("share of the time in shrinkers", "<", 0.01, "ratio"),
        next="slabtop -o -s c | head -20",
    )


RULE = Rule(
    "shrinker-stall",
    "reclaim is stuck in slab shrinkers",
    "Reclaim spends a large part of its time in the shrinkers of kernel caches.",
    judge,
    (HARM, PART),
    ("stall_ns", "shrinker_ns"),
    "Shrinkers are told apart by their functions, for all tasks together: all file systems share super_cache_scan.",
    evidence="Time in shrinkers, which takes the most, objects freed, slabs_scanned, the size of reclaimable slab.",
    remedy="What fits the shrinker, where it is well known; else find the cache with slabtop.",
)
