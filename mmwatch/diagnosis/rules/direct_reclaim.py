"""Tasks reclaim directly, because kswapd does not keep up."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Resolves
from mmwatch.diagnosis.evidence import of_counter, of_path
from mmwatch.diagnosis.observation import KSWAPD, Observation, count, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import HARM


def judge(observation: Observation) -> Answer:
    direct = observation.on("direct")
    lost = observation.lost_ns(direct)
    stalls = observation.grown_like("allocstall")
    if not observation.harmful(direct):
        more = f", allocstall +{count(stalls)}" if stalls is not None else ""
        return Clear(f"direct reclaim took {percent(observation.share(lost))} of the time{more}")
    evidence = [
        of_path(observation, direct, "direct reclaim"),
        Evidence(
            "longest",
            f"the longest took {time(observation.longest_ns(direct))}",
            "reclaims",
            observation.longest_ns(direct),
            "ns",
        ),
    ]
    evidence += of_counter(observation, "allocstall")
    short = [
        number
        for number, states in observation.nodes()
        if any(s.free_pages is not None and s.low_pages is not None and s.free_pages < s.low_pages for s in states)
    ]
    if short:
        evidence.append(
            Evidence(
                "watermark",
                f"node {', '.join(map(str, short))} fell below its low watermark",
                "/proc/zoneinfo",
                len(short),
                "count",
            )
        )
    kswapd = observation.rows["path"] == KSWAPD
    if kswapd.any():
        text = f"kswapd ran {percent(observation.share(observation.lost_ns(kswapd)))} of the time meanwhile"
        efficiency = observation.efficiency(kswapd)
        text += f" and freed {percent(efficiency)} of what it scanned" if efficiency is not None else ""
        evidence.append(Evidence("kswapd", text, "kswapd"))
    scale = observation.setting("watermark_scale_factor")
    remedy = Remedy(
        "Let kswapd start earlier, so that there is free memory when tasks need it; else less load or more memory."
    )
    if isinstance(scale, int):
        raised = min(max(4 * scale, 100), 1000)
        remedy = Remedy(
            remedy.advice,
            (f"sysctl -w vm.watermark_scale_factor={raised}",) if raised != scale else (),
            (f"sysctl -w vm.watermark_scale_factor={scale}",) if raised != scale else (),
            f"echo vm.watermark_scale_factor={raised} >/etc/sysctl.d/90-watermark.conf",
            f"{raised / 100:g}% of the memory is kept free between the watermarks",
        )
    return Found(
        f"{observation.names(direct)} spent {time(lost)} of {time(observation.duration_ns)} reclaiming memory before "
        "an allocation succeeded: kswapd did not keep up.",
        tuple(evidence),
        "Allocations are faster than kswapd frees: a burst of allocations, slow writeback, or too little memory "
        "between the watermarks min and low.",
        remedy,
        observation.claim(direct),
        nodes=tuple(short),
        resolves=Resolves("share of the time in direct reclaim", "<", 0.01, "ratio", "pages allocated"),
        next="mmwatch top --by path",
    )


RULE = Rule(
    "direct-reclaim",
    "tasks wait because kswapd is behind",
    "An allocation that finds a node below its min watermark has to free pages itself. kswapd exists to prevent that.",
    judge,
    (HARM,),
    limits="It says that kswapd was behind, not which of the tasks allocates too fast.",
    yields_to=(
        "node-bound",
        "high-order",
        "swap-storm",
        "zram-spin",
        "no-swap-anon",
        "kswapd-hopeless",
        "kswapd-latched",
        "writeback-throttle",
        "isolation-throttle",
        "shrinker-stall",
        "unusable-free",
        "slab-unreclaimable",
        "cache-thrash",
        "exec-thrash",
        "over-reclaim",
    ),
    evidence="Time in direct reclaim, allocstall, nodes below their low watermark, and what kswapd did meanwhile.",
    remedy="Raise vm.watermark_scale_factor, so that kswapd starts earlier.",
)
