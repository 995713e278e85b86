"""A cgroup is above memory.high, and its tasks are slowed down."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Resolves
from mmwatch.diagnosis.cgroups import host_has_room, limit_evidence, raise_limit, refault_evidence, waits_ns
from mmwatch.diagnosis.evidence import of_path
from mmwatch.diagnosis.observation import Observation, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import HARM, PRESSURE


def judge(observation: Observation) -> Answer:
    worst = worst_high(observation)
    if worst is None:
        return Clear("no cgroup went above its memory.high, or nobody waited for it")
    path, lost, waited = worst
    rows = observation.below(path) & observation.on("memcg")
    memory = observation.limited[path]
    outside = max(waited - lost, 0)
    evidence = [
        of_path(observation, rows, "reclaim above memory.high"),
        *limit_evidence(observation, path, "high"),
        *host_has_room(observation),
        *refault_evidence(observation, path),
    ]
    cost = []
    if waited:
        share = 100 * observation.share(waited)
        evidence.append(
            Evidence(
                "pressure",
                f"its tasks waited for memory {share:.1f}% of the time",
                "memory.pressure",
                share,
                "percent",
                PRESSURE.value,
            )
        )
        if outside:
            cost.append(
                f"at least {time(outside)} of that was slept outside of reclaim: the kernel slows down tasks of a "
                "cgroup above memory.high (mem_cgroup_handle_over_high)"
            )
    return Found(
        f"Cgroup {path} is above its memory.high of {observation.bytes(memory.high_bytes)}, which slows down "
        f"{observation.names(rows)}: {time(lost)} of {time(observation.duration_ns)} in reclaim"
        + (f", {time(outside)} asleep." if outside else "."),
        tuple(evidence),
        "memory.high is a brake, not a limit: above it, tasks reclaim and are then put to sleep for up to two seconds "
        "at a time, so that whoever watches the cgroup can act.",
        raise_limit(observation, path),
        observation.claim(rows),
        cgroups=(path,),
        cost=tuple(cost),
        cost_ns=outside,
        resolves=Resolves("growth of memory.events high", "<", 1, "1/s"),
        next=f"mmwatch top -c {observation.quoted(path)}",
    )


def worst_high(observation: Observation) -> tuple[str, int, int] | None:
    """The cgroup above its memory.high whose tasks lose the most: path, time in reclaim, and time waited (PSI)."""
    found = []
    for path, memory in observation.limited.items():
        if not memory.grown.get("high") or memory.high_bytes is None:
            continue
        rows = observation.below(path) & observation.on("memcg")
        lost, waited = observation.lost_ns(rows), waits_ns(observation, path)
        if observation.harmful(rows) or 100 * observation.share(waited) >= PRESSURE.value:
            found.append((path, lost, waited))
    return max(found, key=lambda one: one[1] + one[2], default=None)


RULE = Rule(
    "memcg-high",
    "a cgroup above memory.high",
    "Tasks of a cgroup above memory.high reclaim and are then put to sleep. Most of that time is spent outside of "
    "reclaim, where no reclaim tool sees it; nothing is killed, and the limit looks far away.",
    judge,
    (HARM, PRESSURE),
    limits="The time asleep is the cgroup's memory pressure less its time in reclaim, so it is a lower bound for "
    "several tasks. Version 1 has no memory.high.",
    yields_to=("memcg-high-livelock",),
    evidence="Growth of high in memory.events.local, usage against memory.high, memory.pressure.",
    remedy="Raise memory.high.",
)
