"""A cgroup is above memory.high and has nothing to reclaim: its tasks hardly move, and nothing ends that."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Resolves
from mmwatch.diagnosis.cgroups import limit_evidence, raise_limit
from mmwatch.diagnosis.observation import Observation, count, percent
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.rules.memcg_high import sleep_evidence, worst_high
from mmwatch.diagnosis.thresholds import HARM, PRESSURE, Threshold

FUTILE = Threshold(
    0.1, "ratio", "pages freed for each page asked for or scanned", "in the case that named this rule it was 0.03"
)
ANON = Threshold(
    0.5,
    "ratio",
    "anonymous memory as a share of the cgroup's usage",
    "the rest is cache in use, if none of it is freed",
)


def judge(observation: Observation) -> Answer:
    worst = worst_high(observation)
    if worst is None:
        return Clear("no cgroup went above its memory.high, or nobody waited for it")
    path, _, waited, slept = worst
    rows = observation.below(path) & observation.on("memcg")
    memory = observation.limited[path]
    asked = max(observation.sum(rows, "asked_pages"), observation.scanned(rows), 1)
    share = observation.freed(rows) / asked
    anon = memory.levels.get("anon", 0) / max(memory.usage_bytes, 1)
    swap = observation.last.memory.get("swap_free", 0)
    if share > FUTILE.value:
        return Clear(f"reclaim from {path} frees {percent(share)} of what it looks at")
    if anon < ANON.value:
        return Clear(f"{percent(anon)} of {path} is anonymous memory")
    evidence = [
        Evidence(
            "futile",
            f"reclaim freed {count(observation.freed(rows))} of {count(asked)} pages that it scanned",
            "reclaims",
            share,
            "ratio",
            FUTILE.value,
        ),
        *sleep_evidence(observation, slept),
        *limit_evidence(observation, path, "high"),
        Evidence("anon", f"{percent(anon)} of its memory is anonymous", "memory.stat", anon, "ratio", ANON.value),
        Evidence(
            "swap",
            ("swap is full" if observation.last.memory.get("swap_total") else "there is no swap")
            if not swap
            else f"{observation.bytes(swap)} of swap are free",
            "/proc/meminfo",
            swap,
            "bytes",
        ),
    ]
    if waited:
        evidence.append(
            Evidence(
                "pressure",
                f"its tasks waited for memory {100 * observation.share(waited):.1f}% of the time",
                "memory.pressure",
                100 * observation.share(waited),
                "percent",
                PRESSURE.value,
            )
        )
    return Found(
        f"Cgroup {path} is above its memory.high of {observation.bytes(memory.high_bytes)}, and there is almost "
        f"nothing to reclaim in it. {observation.names(rows)} can hardly make progress.",
        tuple(evidence),
        "memory.high never kills. Anonymous memory without swap cannot be reclaimed, so the tasks scan and sleep "
        "indefinitely, and the OOM killer is not called because memory.max is not reached.",
        raise_limit(observation, path),
        observation.claim(rows),
        cgroups=(path,),
        cost=(f"its tasks wait {100 * observation.share(waited):.0f}% of the time",) if waited else (),
        cost_ns=slept,
        resolves=Resolves("share of the time that its tasks wait for memory", "<", 0.05, "ratio"),
        next=f"mmwatch top -c {observation.quoted(path)}",
    )


RULE = Rule(
    "memcg-high-livelock",
    "memory.high with nothing to reclaim",
    "A cgroup of anonymous memory without swap went above memory.high. Its tasks scan it again and again, free "
    "nothing, and sleep; that lasts until somebody raises memory.high or kills them.",
    judge,
    (HARM, PRESSURE, FUTILE, ANON),
    ("stall_ns", "asked_pages", "reported_pages"),
    "Version 1 has no memory.high.",
    evidence="As memcg-high; pages freed for each page scanned, the share of anonymous memory, free swap.",
    remedy="Raise memory.high, add swap, or end the tasks.",
)
