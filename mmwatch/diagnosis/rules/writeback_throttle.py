"""Reclaim waits for writeback."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Remedy
from mmwatch.diagnosis.observation import Observation, count, percent
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import HARM
from mmwatch.diagnosis.throttling import PART, throttle_found, throttled

REASONS = ("writeback", "congested")


def judge(observation: Observation) -> Answer:
    found = throttled(observation, *REASONS)
    if isinstance(found, Clear):
        return found
    rows, slept = found
    evidence = []
    scanned = observation.scanned(rows)
    stuck = observation.sum(rows, "dirty_pages", "writeback_pages", "immediate_pages")
    if scanned and stuck:
        evidence.append(
            Evidence(
                "dirty",
                f"{percent(min(stuck / scanned, 1))} of the pages scanned were dirty or under writeback",
                "batches",
                stuck / scanned,
                "ratio",
            )
        )
    memory = observation.last.memory
    held = memory.get("dirty", 0) + memory.get("writeback", 0)
    if held:
        evidence.append(
            Evidence(
                "host",
                f"{observation.bytes(held)} of the host's memory are dirty or under writeback",
                "/proc/meminfo",
                held,
                "bytes",
            )
        )
    written = observation.grown("nr_vmscan_immediate_reclaim")
    if written:
        evidence.append(
            Evidence(
                "counter", f"nr_vmscan_immediate_reclaim grew by {count(written)}", "/proc/vmstat", written, "pages"
            )
        )
    return throttle_found(
        observation,
        rows,
        slept,
        REASONS,
        tuple(evidence),
        "Dirty pages come to the end of the LRU lists faster than the device can write them.",
        Remedy(
            "Start writeback earlier, and allow less dirty memory.",
            ("sysctl -w vm.dirty_background_bytes=268435456 vm.dirty_bytes=1073741824",),
            (_undo(observation),),
            "the same lines in /etc/sysctl.d/90-dirty.conf",
            "writers are slowed down earlier",
        ),
    )


def _undo(observation: Observation) -> str:
    if observation.setting("dirty_bytes"):
        return f"sysctl -w vm.dirty_bytes={observation.setting('dirty_bytes')}"
    ratio = observation.setting("dirty_ratio")
    return f"sysctl -w vm.dirty_background_ratio=10 vm.dirty_ratio={20 if ratio is None else ratio}"


RULE = Rule(
    "writeback-throttle",
    "reclaim waits for writeback",
    "So many pages of the node are under writeback that reclaim sleeps until some are written. The device is the "
    "limit.",
    judge,
    (HARM, PART),
    ("stall_ns", "throttled_ns"),
    "The kernel names the reason since 5.16.",
    ("memcg-dirty",),
    evidence="Time asleep for the reasons writeback and congested, dirty pages found, dirty memory of the host.",
    remedy="Lower vm.dirty_background_bytes and vm.dirty_bytes.",
    uncalibrated="not tried on a real load yet",
)
