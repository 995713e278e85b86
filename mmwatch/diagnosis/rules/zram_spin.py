"""Swap is kept in memory, so swapping out frees little."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Resolves
from mmwatch.diagnosis.observation import Observation, count, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.rules.swap_storm import RAM, swapping
from mmwatch.diagnosis.thresholds import HARM, Threshold

OUT = Threshold(100.0, "1/s", "pages swapped out", "below that, swap plays no part")


def judge(observation: Observation) -> Answer:
    memory = observation.last.memory
    total, in_ram = memory.get("swap_total", 0), memory.get("swap_in_ram", 0)
    if not total or in_ram < RAM.value * total:
        return Clear("there is no swap" if not total else f"{percent(in_ram / total)} of the swap is kept in memory")
    rows = observation.on("direct") | observation.on("memcg") & swapping(observation)
    kswapd = ~observation.tasks
    out = observation.grown("pswpout") or 0
    if observation.rate(out) < OUT.value:
        return Clear(f"{count(observation.rate(out))} pages a second went to swap")
    if not observation.harmful(rows) and observation.share(observation.lost_ns(kswapd)) < 0.5:
        return Clear("swap is kept in memory, but hardly anybody waits")
    lost = observation.lost_ns(rows)
    free = memory.get("swap_free", 0)
    evidence = [
        Evidence(
            "swap",
            f"{percent(in_ram / total)} of the swap ({observation.bytes(in_ram)}) is kept in memory",
            "/proc/swaps",
            in_ram / total,
            "ratio",
            RAM.value,
        ),
        Evidence("out", f"{count(out)} pages went out to it", "/proc/vmstat", observation.rate(out), "1/s", OUT.value),
        Evidence(
            "path",
            f"tasks reclaimed {percent(observation.share(lost))} of the time, kswapd "
            f"{percent(observation.share(observation.lost_ns(kswapd)))}",
            "reclaims",
            observation.share(lost),
            "ratio",
            HARM.value,
        ),
        Evidence(
            "free",
            f"{observation.bytes(free)} of swap count as free, while {observation.bytes(memory.get('free'))} of "
            "memory are",
            "/proc/meminfo",
            free,
            "bytes",
        ),
    ]
    return Found(
        f"Swap is in memory (zram), and the host swaps to make room: {observation.names(rows)} spent {time(lost)} of "
        f"{time(observation.duration_ns)} in reclaim.",
        tuple(evidence),
        "A page swapped to zram leaves a compressed copy in memory. While swap counts as free, the kernel believes "
        "that reclaim makes progress and does not call the OOM killer.",
        Remedy(
            "Make the device smaller (half of the memory at most), give zram a backing device, or add swap on a disk; "
            "run less at a time.",
        ),
        observation.claim(rows | kswapd),
        resolves=Resolves("share of the time in reclaim", "<", 0.05, "ratio"),
        next="zramctl",
    )


RULE = Rule(
    "zram-spin",
    "swap that is memory",
    "All swap is on zram. When the memory is full of compressed pages, direct reclaim swaps on for minutes and frees "
    "next to nothing (LKML 2026-03-03, Matt Fleming).",
    judge,
    (RAM, OUT, HARM),
    ("stall_ns",),
    "How well the pages compress is not read: see zramctl. Where batches have no events, it judges as swap-storm.",
    ("memcg-high-livelock",),
    evidence="Swap on zram in /proc/swaps, pswpout, time in reclaim, free swap against free memory.",
    remedy="Make the device smaller, or add swap on a disk.",
)
