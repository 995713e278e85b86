"""A cgroup at its limit is full of dirty pages."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Resolves
from mmwatch.diagnosis.cgroups import limit_evidence
from mmwatch.diagnosis.evidence import of_path
from mmwatch.diagnosis.observation import Observation, count, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import HARM, Threshold
from mmwatch.diagnosis.throttling import dirty_limits

DIRTY = Threshold(
    0.3,
    "ratio",
    "pages found dirty or under writeback, as a share of those scanned, or of the cgroup's page cache",
    "reclaim skips them, so with a third of them each pass finds far less than it needs",
)

FILES = Threshold(
    0.5, "ratio", "page cache, of what is scanned or of the cgroup's memory", "with less, other memory fills the limit"
)


def judge(observation: Observation) -> Answer:
    memcg = observation.on("memcg")
    if not observation.harmful(memcg):
        return Clear(
            f"reclaim at the limits of cgroups took {percent(observation.share(observation.lost_ns(memcg)))} of the "
            "time"
        )
    bound = observation.bound(memcg, "max", "high")
    found = []
    for path, rows in bound.items():
        levels = observation.limited[path].levels
        scanned = observation.scanned(rows)
        seen = observation.sum(rows, "dirty_pages", "writeback_pages") / scanned if scanned else 0.0
        cached = max(
            (
                one.cgroup_memory[number].levels.get("file_dirty", 0)
                + one.cgroup_memory[number].levels.get("file_writeback", 0)
                for one in observation.intervals
                for number in one.cgroup_memory
                if observation.whole.cgroups.get(number) == path
            ),
            default=0,
        )
        held = cached / max(levels.get("file", 0), cached, 1)
        slept = observation.throttled_ns(rows, "writeback", "congested")
        # Anonymous pages on their way to swap are dirty, too.
        of_files = observation.sum(rows, "scanned_file_pages") >= FILES.value * max(scanned, 1)
        cache = levels.get("file", 0) >= FILES.value * observation.limited[path].usage_bytes
        seen, held = (seen if of_files else 0.0), (held if cache else 0.0)
        if observation.harmful(rows) and max(seen, held) >= DIRTY.value:
            found.append((observation.lost_ns(rows), path, seen, held, slept))
    if not found:
        return Clear("no cgroup at its limit is full of dirty pages")
    lost, path, seen, held, slept = max(found)
    rows = bound[path]
    evidence = [
        of_path(observation, rows, "reclaim at the limit"),
        *limit_evidence(observation, path, "max"),
    ]
    if seen >= DIRTY.value:
        evidence.append(
            Evidence(
                "dirty",
                f"{percent(seen)} of the pages that it scanned were dirty or under writeback",
                "batches",
                seen,
                "ratio",
                DIRTY.value,
            )
        )
    if held >= DIRTY.value:
        evidence.append(
            Evidence(
                "dirty",
                f"{percent(held)} of its page cache is dirty or under writeback",
                "memory.stat",
                held,
                "ratio",
                DIRTY.value,
            )
        )
    if slept:
        evidence.append(
            Evidence("throttle", f"its tasks slept {time(slept)} waiting for writeback", "throttling", slept, "ns")
        )
    written = observation.sum(rows, "written_pages")
    if written:
        evidence.append(Evidence("written", f"reclaim itself wrote {count(written)} pages", "writes", written, "pages"))
    return Found(
        f"{observation.names(rows)} spent {time(lost)} of {time(observation.duration_ns)} reclaiming from cgroup "
        f"{path}, which is full of dirty pages: they must be written first.",
        tuple(evidence),
        "The cgroup's limit is small against what its tasks write before the flusher starts: the thresholds of dirty "
        "memory are those of the host unless the I/O controller is on for the cgroup as well.",
        Remedy(
            "Start writeback earlier, write with O_DIRECT or sync_file_range, or raise the limit. In version 2, "
            "enable the io controller beside memory: then the kernel scales the dirty threshold to the cgroup.",
            ("sysctl -w vm.dirty_background_bytes=67108864",),
            (dirty_limits(observation, "dirty_background"),),
            "echo vm.dirty_background_bytes=67108864 >/etc/sysctl.d/90-dirty.conf",
            "more, smaller writes on the whole host",
        ),
        observation.claim(rows),
        cgroups=(path,),
        resolves=Resolves("share of scanned pages that are dirty", "<", DIRTY.value, "ratio"),
        next=f"mmwatch top -c {observation.quoted(path)} --columns +dirty,+throttled",
    )


RULE = Rule(
    "memcg-dirty",
    "a cgroup full of dirty pages",
    "Dirty pages cannot be freed before they are written. In a small cgroup a fast writer fills the limit with them, "
    "and reclaim finds nothing; with the multi-generational LRU before 6.13 that ended in OOM kills (fixed by "
    "1bc542c6a0d1).",
    judge,
    (HARM, DIRTY, FILES),
    ("stall_ns",),
    "Where batches have no events (multi-generational LRU before 6.8), only the cgroup's own counts tell.",
    evidence="Pages found dirty or under writeback, file_dirty and file_writeback of memory.stat, time throttled.",
    remedy="Start writeback earlier, bypass the page cache, raise the limit, or enable the io controller.",
)
