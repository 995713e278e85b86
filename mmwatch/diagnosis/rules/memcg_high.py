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
    path, lost, waited, slept = worst
    rows = observation.below(path) & observation.on("memcg")
    memory = observation.limited[path]
    evidence = [
        of_path(observation, rows, "reclaim above memory.high"),
        *sleep_evidence(observation, slept),
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
    if slept:
        how_long = time(slept) if observation.known("high_sleep_ns") else f"at least {time(slept)}"
        cost.append(
            f"{how_long} asleep outside of reclaim: the kernel slows down tasks of a cgroup above memory.high "
            "(mem_cgroup_handle_over_high)"
        )
    return Found(
        f"Cgroup {path} is above its memory.high of {observation.bytes(memory.high_bytes)}, which slows down "
        f"{observation.names(rows)}: {time(lost)} of {time(observation.duration_ns)} in reclaim"
        + (f", {time(slept)} asleep." if slept else "."),
        tuple(evidence),
        "memory.high is a brake, not a limit: above it, tasks reclaim and are then put to sleep for up to two seconds "
        "at a time, so that whoever watches the cgroup can act.",
        raise_limit(observation, path),
        observation.claim(rows),
        cgroups=(path,),
        cost=tuple(cost),
        cost_ns=slept,
        resolves=Resolves("growth of memory.events high", "<", 1, "1/s"),
        next=f"mmwatch top -c {observation.quoted(path)}",
    )


def sleep_evidence(observation: Observation, slept: int) -> list[Evidence]:
    """How long tasks slept outside of reclaim, if that was measured."""
    if not slept or not observation.known("high_sleep_ns"):
        return []
    text = f"its tasks slept {time(slept)} outside of reclaim, measured"
    return [Evidence("sleep", text, "schedule_timeout_killable", observation.share(slept), "ratio")]


def worst_high(observation: Observation) -> tuple[str, int, int, int] | None:
    """The cgroup above its memory.high whose tasks lose the most: path, time in reclaim, time waited (PSI), and time
    asleep outside of reclaim: measured, or else at least what of the wait was not in reclaim."""
    found = []
    for path, memory in observation.limited.items():
        if not memory.grown.get("high") or memory.high_bytes is None:
            continue
        rows = observation.below(path) & observation.on("memcg")
        lost, waited = observation.lost_ns(rows), waits_ns(observation, path)
        measured = observation.known("high_sleep_ns")
        slept = observation.sum(rows, "high_sleep_ns") if measured else max(waited - lost, 0)
        if observation.harmful(rows) or 100 * observation.share(max(waited, slept)) >= PRESSURE.value:
            found.append((path, lost, waited, slept))
    return max(found, key=lambda one: one[1] + max(one[2:]), default=None)


RULE = Rule(
    "memcg-high",
    "a cgroup above memory.high",
    "Tasks of a cgroup above memory.high reclaim and are then put to sleep. Most of that time is spent outside of "
    "reclaim, where no reclaim tool sees it; nothing is killed, and the limit looks far away.",
    judge,
    (HARM, PRESSURE),
    limits="Where no probe measures it, the time asleep is the cgroup's memory pressure less its time in reclaim: a "
    "lower bound for several tasks. A sleep that began before mmwatch is not measured. Version 1 has no memory.high.",
    yields_to=("memcg-high-livelock",),
    evidence="Growth of high in memory.events.local, usage against memory.high, memory.pressure, the time asleep.",
    remedy="Raise memory.high.",
)
