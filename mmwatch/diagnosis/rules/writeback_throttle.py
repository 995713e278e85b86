"""Reclaim waits for writeback."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Resolves, Unknown
from mmwatch.diagnosis.evidence import of_counter, of_path, of_pressure
from mmwatch.diagnosis.observation import Observation, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import HARM, PRESSURE, Threshold
from mmwatch.diagnosis.throttling import PART, dirty_limits, throttle_found, throttled

REASONS = ("writeback", "congested")
DIRTY_RATIO = 20
"""vm_dirty_ratio in mm/page-writeback.c."""
STUCK = Threshold(
    0.5,
    "ratio",
    "pages dirty or under writeback, of those that direct reclaim scanned, or of a node's page cache",
    "reclaim cannot free them before they are written, so it scans for nothing, whether it sleeps or not",
)


def judge(observation: Observation) -> Answer:
    direct = observation.on("direct")
    asleep = throttled(observation, *REASONS)
    rows = direct if isinstance(asleep, Clear) else asleep[0]
    scanned = observation.scanned(rows)
    found = observation.sum(rows, "dirty_pages", "writeback_pages", "immediate_pages") / max(scanned, 1)
    held, full = max(
        (
            ((node.dirty_pages + node.writeback_pages) / max(node.file_pages, 1), node.node)
            for interval in observation.intervals
            for node in interval.nodes
            if node.file_pages and node.dirty_pages is not None and node.writeback_pages is not None
        ),
        default=(0.0, 0),
    )
    pressed = (observation.pressure or 0) >= PRESSURE.value and direct.any()
    harm = pressed or observation.harmful(direct)
    if isinstance(asleep, Clear) and not (harm and max(found, held) >= STUCK.value):
        if not observation.known("throttled_ns"):
            return Unknown("no probe for throttled_ns, and hardly any of what reclaim met was dirty")
        return asleep
    evidence = []
    if found:
        text = f"{percent(min(found, 1))} of the pages scanned were dirty or under writeback"
        evidence.append(Evidence("dirty", text, "batches", found, "ratio", STUCK.value))
    if held:
        text = f"{percent(min(held, 1))} of the page cache of node {full} was dirty or under writeback"
        evidence.append(Evidence("node", text, "/proc/zoneinfo", held, "ratio", STUCK.value))
    evidence += of_counter(observation, "nr_vmscan_immediate_reclaim", ": pages met under writeback, again and again")
    ratio = observation.setting("dirty_ratio")
    if isinstance(ratio, int) and ratio > DIRTY_RATIO:
        text = f"vm.dirty_ratio is {ratio}; the kernel's default is {DIRTY_RATIO}"
        evidence.append(Evidence("config", text, "vm.dirty_ratio", ratio, "percent", DIRTY_RATIO))
    cause = "Dirty pages reach the end of the LRU lists faster than the device can write them."
    remedy = Remedy(
        "Start writeback earlier, and allow less dirty memory.",
        ("sysctl -w vm.dirty_background_bytes=268435456 vm.dirty_bytes=1073741824",),
        (dirty_limits(observation, "dirty_background", "dirty"),),
        "the same settings in /etc/sysctl.d/90-dirty.conf",
        "writers are slowed down earlier",
    )
    if not isinstance(asleep, Clear):
        return throttle_found(observation, rows, asleep[1], REASONS, tuple(evidence), cause, remedy)
    lost = observation.lost_ns(direct)
    return Found(
        f"{observation.names(direct)} spent {time(lost)} of {time(observation.duration_ns)} in direct reclaim, which "
        "finds almost only pages that must be written first.",
        (of_path(observation, direct, "direct reclaim"), *evidence, *of_pressure(observation)),
        cause,
        remedy,
        observation.claim(direct),
        resolves=Resolves("share of scanned pages that are dirty", "<", STUCK.value, "ratio"),
        next="mmwatch top --columns +throttled,+dirty,+written",
    )


RULE = Rule(
    "writeback-throttle",
    "reclaim is held up by dirty pages",
    "So many pages of the node are dirty or under writeback that reclaim sleeps until some are written, or scans them "
    "in vain. The device is the limit.",
    judge,
    (HARM, PRESSURE, PART, STUCK),
    ("stall_ns",),
    "The kernel names the reason of a sleep since 5.16.",
    ("memcg-dirty",),
    evidence="Time asleep for the reasons writeback and congested, pages found dirty by direct reclaim, dirty memory "
    "of the nodes.",
    remedy="Lower vm.dirty_background_bytes and vm.dirty_bytes.",
)
