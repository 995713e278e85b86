"""kswapd burns a CPU and frees next to nothing."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Resolves
from mmwatch.diagnosis.evidence import of_priority
from mmwatch.diagnosis.observation import KSWAPD, Observation, count, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import Threshold

BUSY = Threshold(0.1, "ratio", "CPU time of kswapd, all of them added up", "a tenth of a CPU for nothing is a waste")
EFFICIENCY_MAX = Threshold(
    0.1, "ratio", "pages freed for each page scanned", "a healthy kswapd frees most of what it scans"
)


def judge(observation: Observation) -> Answer:
    kswapd = observation.rows["path"] == KSWAPD
    busy = observation.share(
        observation.sum(kswapd, "cpu_ns") if observation.known("cpu_ns") else observation.lost_ns(kswapd)
    )
    steal, scan = observation.grown_like("pgsteal_kswapd"), observation.grown_like("pgscan_kswapd")
    efficiency, scanned, freed = observation.efficiency(kswapd), observation.scanned(kswapd), observation.freed(kswapd)
    silent = efficiency is None and steal is not None and bool(scan)  # batches have no events
    if silent:
        efficiency, scanned, freed = (steal or 0) / (scan or 1), scan or 0, steal or 0
    if busy < BUSY.value:
        return Clear(f"kswapd ran {percent(busy)} of the time")
    if efficiency is None or efficiency > EFFICIENCY_MAX.value:
        told = "is busy" if efficiency is None else f"freed {percent(efficiency)} of what it scanned"
        return Clear(f"kswapd {told}")
    nodes = sorted({int(number) for number in observation.rows["node"][kswapd] if number >= 0})
    evidence = [
        Evidence("kswapd", f"kswapd ran {percent(busy)} of the time", "kswapd", busy, "ratio", BUSY.value),
        Evidence(
            "efficiency",
            f"it freed {count(freed)} of {count(scanned)} pages that it scanned",
            "/proc/vmstat" if silent else "batches",
            efficiency,
            "ratio",
            EFFICIENCY_MAX.value,
        ),
    ]
    if steal is not None and scan and not silent:
        evidence.append(
            Evidence(
                "counter",
                f"pgsteal_kswapd grew by {count(steal)}, pgscan_kswapd by {count(scan)}",
                "/proc/vmstat",
                steal / scan,
                "ratio",
                EFFICIENCY_MAX.value,
            )
        )
    evidence += of_priority(observation, kswapd)
    return Found(
        f"kswapd of node {', '.join(map(str, nodes)) or '?'} ran {percent(busy)} of {time(observation.duration_ns)} "
        f"and freed {percent(efficiency)} of what it scanned.",
        tuple(evidence),
        _cause(observation),
        Remedy(
            "Free what cannot be reclaimed: locked memory, shared memory, anonymous memory without swap. Or add swap "
            "or memory.",
        ),
        observation.claim(kswapd),
        nodes=tuple(nodes),
        cost=(f"{percent(busy)} of a CPU",),
        resolves=Resolves("pages that kswapd frees for each page it scans", ">", 0.5, "ratio"),
        next="mmwatch top --by node",
    )


def _cause(observation: Observation) -> str:
    memory = observation.last.memory
    if memory and not memory.get("swap_total"):
        return "There is no swap, so anonymous memory cannot be reclaimed, and hardly anything else is left."
    return "What is left on the lists cannot be freed: it is locked, dirty, in use, or swap is full."


RULE = Rule(
    "kswapd-hopeless",
    "kswapd runs for nothing",
    "kswapd scans all day, because its node stays below the high watermark, and frees next to nothing of what it "
    "scans.",
    judge,
    (BUSY, EFFICIENCY_MAX),
    limits="Where batches have no events (multi-generational LRU before 6.8), /proc/vmstat tells what was freed.",
    yields_to=("no-swap-anon", "zram-spin", "swap-storm"),
    evidence="CPU time of kswapd, pages freed for each page scanned, pgsteal_kswapd against pgscan_kswapd, the scan "
    "priority.",
    remedy="Free locked, shared or anonymous memory, or add swap.",
)
