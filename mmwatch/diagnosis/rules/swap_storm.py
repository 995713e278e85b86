"""Anonymous memory is swapped out and in again all the time."""

from __future__ import annotations

import numpy as np

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Resolves, Unknown
from mmwatch.diagnosis.cgroups import limit_evidence
from mmwatch.diagnosis.evidence import of_pressure
from mmwatch.diagnosis.observation import Mask, Observation, count, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import HARM, PRESSURE, Threshold

BOTH_WAYS = Threshold(
    100.0,
    "1/s",
    "pages swapped out, and pages swapped in",
    "one way only is what swap is for: what is cold goes out once",
)
RAM = Threshold(0.9, "ratio", "swap that is kept in memory, as a share of all swap", "then see zram-spin")


def swapping(observation: Observation) -> Mask:
    """The rows of which a third or more of what they freed was anonymous. ``(len(rows),)``."""
    rows = observation.rows
    if not observation.known("reclaimed_anon_pages"):
        every = np.ones(len(rows), bool)
        return every & observation.of_anon(every)
    anon, file = (rows[name].astype(np.int64) for name in ("reclaimed_anon_pages", "reclaimed_file_pages"))
    return np.asarray(2 * anon >= file)


def judge(observation: Observation) -> Answer:
    into, out = observation.grown("pswpin"), observation.grown("pswpout")
    if into is None or out is None:
        return Unknown("/proc/vmstat has no pswpin and pswpout")
    rate = min(observation.rate(into), observation.rate(out))
    if not into and not out:
        return Clear("no page went to swap or came back")
    if rate < BOTH_WAYS.value:
        return Clear(
            f"{count(observation.rate(out))} pages a second went to swap, {count(observation.rate(into))} came back"
        )
    memory = observation.last.memory
    if memory.get("swap_total") and memory.get("swap_in_ram", 0) >= RAM.value * memory["swap_total"]:
        return Clear("swap is kept in memory: see zram-spin")
    rows, kswapd = observation.tasks & swapping(observation), ~observation.tasks & swapping(observation)
    pressed = observation.pressure is not None and observation.pressure >= PRESSURE.value
    if not observation.harmful(rows) and not pressed:
        return Clear("pages are swapped both ways, but hardly anybody waits for it")
    lost = observation.lost_ns(rows)
    of = "of anonymous memory " if observation.known("reclaimed_anon_pages") else ""
    evidence = [
        Evidence(
            "swap",
            f"{count(out)} pages went out to swap and {count(into)} came back",
            "/proc/vmstat",
            rate,
            "1/s",
            BOTH_WAYS.value,
        ),
        Evidence(
            "path",
            f"reclaim {of}took {percent(observation.share(lost))} of the time",
            "reclaims",
            observation.share(lost),
            "ratio",
            HARM.value,
        ),
    ]
    again = observation.grown("workingset_refault_anon")
    if again:
        evidence.append(
            Evidence(
                "refault",
                f"{count(again)} anonymous pages came back soon after they had been reclaimed",
                "workingset_refault_anon",
                again,
                "pages",
            )
        )
    evidence += of_pressure(observation)
    bound = observation.bound(rows & observation.on("memcg"), "max", "high")
    path = max(bound, key=lambda one: observation.lost_ns(bound[one]), default=None)
    inside = path is not None and observation.lost_ns(bound[path]) >= 0.5 * max(lost, 1)
    if path is not None and inside:
        evidence += limit_evidence(observation, path, "max")
    where = f"cgroup {path}" if inside else "the host"
    return Found(
        f"{where[0].upper()}{where[1:]} swaps the same memory out and in: {observation.pages(observation.rate(out))} "
        f"a second out, {observation.pages(observation.rate(into))} in. {observation.names(rows)} spent {time(lost)} "
        f"of {time(observation.duration_ns)} in reclaim for it, and more waiting for swap.",
        tuple(evidence),
        "What the tasks use all the time is larger than the memory that they may use. Each page that comes in pushes "
        "out one that is needed next.",
        Remedy(
            f"Raise the limit of {path}, or run less in it."
            if inside
            else "Run less at a time, add memory, or end what is least important; a user-space OOM killer "
            "(systemd-oomd) can do that in time.",
        ),
        observation.claim(rows | kswapd),
        cgroups=(path,) if path is not None and inside else (),
        cost=(f"{observation.pages(into + out)} of swap I/O",),
        cost_ns=max(observation.waited_ns - lost, 0),
        resolves=Resolves("pages swapped in", "<", BOTH_WAYS.value, "1/s"),
        next="mmwatch top --by cgroup",
    )


RULE = Rule(
    "swap-storm",
    "memory in use is swapped out and in",
    "The working set of anonymous memory does not fit, so pages go out to swap and come back at once. Most of the "
    "cost is waiting for the swap device, outside of reclaim.",
    judge,
    (BOTH_WAYS, HARM, PRESSURE),
    ("stall_ns",),
    "Swap counters are those of the whole host, also with a filter. Where batches have no events (multi-generational "
    "LRU before 6.8), they also tell what reclaim frees: anonymous memory, if more than half goes to swap.",
    ("memcg-high-livelock",),
    evidence="pswpin and pswpout, time in reclaim of anonymous memory, workingset_refault_anon, memory pressure.",
    remedy="Run less at a time, add memory, or raise the limit of the cgroup.",
)
