"""Reclaim for large blocks of contiguous pages: huge pages, mostly."""

from __future__ import annotations

import numpy as np

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Resolves
from mmwatch.diagnosis.evidence import of_pressure
from mmwatch.diagnosis.observation import Observation, count, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import HARM, PRESSURE, Threshold

COSTLY = 4
"""Above PAGE_ALLOC_COSTLY_ORDER (3), the kernel itself calls an order costly (include/linux/mmzone.h)."""
HUGE = 9
"""The order of a huge page with pages of 4 KiB (pageblock_order, include/linux/pageblock-flags.h)."""
HUGE_PAGES = ("thp_fault_", "thp_collapse_alloc", "thp_file_", "htlb_buddy_alloc_")
"""Counters of attempts to get a huge page (include/linux/vm_event_item.h). The page cache of a file has none."""
PART = Threshold(
    0.5, "ratio", "direct reclaims of a costly order, as a share of all of a row", "then order is what it is about"
)
COMPACTS = Threshold(1.0, "1/s", "direct compactions, if tasks wait for memory", "then they are part of the wait")


def judge(observation: Observation) -> Answer:
    direct = observation.on("direct")
    orders = observation.rows["order_histogram"].astype(np.int64)
    costly = orders[:, COSTLY:].sum(axis=1)
    rows = direct & (costly > 0) & (costly >= PART.value * np.maximum(observation.rows["reclaims"].astype(np.int64), 1))
    lost = observation.lost_ns(rows)
    stall, fail = observation.grown("compact_stall"), observation.grown("compact_fail")
    # Direct compaction is not in our time, but PSI counts it.
    pressed = (observation.pressure or 0) >= PRESSURE.value and observation.rate(stall) >= COMPACTS.value
    if not observation.harmful(rows) and not (pressed and rows.any()):
        return Clear(
            f"direct reclaim for orders of {COSTLY} and more took {percent(observation.share(lost))} of the time"
        )
    usual = int(orders[rows].sum(axis=0).argmax())
    huge = usual >= HUGE
    wanted = sum(observation.grown_like(prefix) or 0 for prefix in HUGE_PAGES)
    if huge and wanted < PART.value * orders[rows, HUGE:].sum():
        return Clear(
            "the blocks were for the page cache, which reads ahead into large folios; it takes small ones if there "
            "are none"
        )
    evidence = [
        Evidence(
            "order",
            f"{count(int(costly[rows].sum()))} reclaims were for orders of {COSTLY} and more, most of them for order "
            f"{usual} ({observation.pages(1 << usual)})",
            "reclaims",
            observation.share(lost),
            "ratio",
            HARM.value,
        ),
    ]
    if stall:
        evidence.append(
            Evidence(
                "compaction",
                f"compact_stall grew by {count(stall)}, compact_fail by {count(fail or 0)}",
                "/proc/vmstat",
                stall,
                "count",
            )
        )
    back = observation.grown("thp_fault_fallback")
    if back:
        evidence.append(
            Evidence("huge", f"{count(back)} faults did not get a huge page", "thp_fault_fallback", back, "count")
        )
    evidence += of_pressure(observation)
    defrag = observation.setting("thp_defrag")
    if huge and defrag:
        evidence.append(
            Evidence(
                "config",
                f"transparent_hugepage/defrag is {defrag}, enabled is {observation.setting('thp_enabled')}",
                "transparent_hugepage/defrag",
            )
        )
    remedy = Remedy(
        "Find who allocates large blocks (mmwatch trace shows gfp flags and order), and let it take small ones."
    )
    if huge:
        file = "/sys/kernel/mm/transparent_hugepage/defrag"
        remedy = Remedy(
            "Let faults fall back to small pages at once, and leave the rest to khugepaged and kcompactd.",
            (f"echo defer+madvise >{file}",),
            (f"echo {defrag} >{file}",) if defrag else (),
            "write it at boot, with a file in /etc/tmpfiles.d",
            "fewer huge pages right after a start",
        )
    return Found(
        f"{observation.names(rows)} spent {time(lost)} of {time(observation.duration_ns)} reclaiming for blocks of "
        f"{observation.pages(1 << usual)}" + (": huge pages." if huge else "."),
        tuple(evidence),
        "Memory is fragmented: there are enough free pages, but not side by side. Reclaim and compaction then work "
        "for the allocation while the task waits.",
        remedy,
        observation.claim(rows),
        cost_ns=max(observation.waited_ns - lost, 0) if pressed else 0,
        resolves=Resolves("share of the time in direct reclaim of costly orders", "<", 0.01, "ratio"),
        next="mmwatch trace",
    )


RULE = Rule(
    "high-order",
    "reclaim for huge pages and large blocks",
    "Direct reclaim runs because many contiguous pages are wanted, for transparent huge pages or by a driver.",
    judge,
    (HARM, PART, PRESSURE, COMPACTS),
    ("stall_ns", "order_histogram"),
    "Direct compaction itself is not inside the time in reclaim, but in memory pressure. Large folios of the page "
    "cache are no finding of this rule: with small ones, there would be as much reclaim.",
    yields_to=("writeback-throttle",),
    evidence="Orders of the reclaims, compact_stall and compact_fail, thp_fault_fallback, transparent_hugepage/defrag.",
    remedy="Write defer+madvise to transparent_hugepage/defrag.",
)
