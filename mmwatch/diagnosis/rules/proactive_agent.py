"""Somebody requests reclaim: memory.reclaim of a cgroup, or reclaim of a node."""

from __future__ import annotations

import numpy as np

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Resolves
from mmwatch.diagnosis.cgroups import BACK, THRASH
from mmwatch.diagnosis.observation import Mask, Observation, count, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.rules.zone_reclaim_thrash import asked_for_by_write
from mmwatch.diagnosis.thresholds import HARM, Threshold

BUSY = Threshold(
    0.5, "ratio", "time that one agent spends reclaiming", "an agent that is well set up probes now and then, and rests"
)
AGAIN = Threshold(256.0, "1/s", "pages refaulted", "1 MB a second of what it took was in use")


def judge(observation: Observation) -> Answer:
    rows, inferred = requested(observation)
    lost = observation.lost_ns(rows)
    again = observation.grown("workingset_refault_file", "workingset_refault_anon", "workingset_refault") or 0
    freed = observation.freed(rows)
    in_use = observation.rate(min(again, freed)) >= THRASH.value and again >= BACK.value * freed
    if not rows.any() or (observation.share(lost) < HARM.value and not in_use):
        return Clear(f"requested reclaim took {percent(observation.share(lost))} of the time")
    names = observation.names(rows)
    if observation.share(lost) < BUSY.value and observation.rate(again) < AGAIN.value:
        return Clear(
            f"{names} requests reclaim, {percent(observation.share(lost))} of the time, and hardly any of it comes "
            "back",
            observation.claim(rows),
        )
    evidence = [
        Evidence(
            "path",
            f"requested reclaim took {percent(observation.share(lost))} of the time and freed "
            f"{observation.pages(freed)}",
            "reclaims",
            observation.share(lost),
            "ratio",
            BUSY.value,
        ),
    ]
    counted = observation.grown("pgsteal_proactive")
    if counted:
        evidence.append(
            Evidence("counter", f"pgsteal_proactive grew by {count(counted)}", "/proc/vmstat", counted, "pages")
        )
    if inferred:
        evidence.append(
            Evidence("limit", "no cgroup hit its limit or went above memory.high meanwhile", "memory.events.local")
        )
    if again:
        evidence.append(
            Evidence(
                "refault",
                f"{count(again)} pages came back soon after",
                "workingset_refault",
                observation.rate(again),
                "1/s",
                AGAIN.value,
            )
        )
    return Found(
        f"{names} requests reclaim again and again (memory.reclaim): {time(lost)} of {time(observation.duration_ns)}, "
        f"{observation.pages(freed)} freed, {count(again)} pages of the host came back.",
        tuple(evidence),
        "An agent (senpai, a cluster manager, a script) writes to memory.reclaim faster than the memory becomes cold.",
        Remedy(
            "Let the agent ask for less, or less often, and let it watch memory.pressure and refaults of the cgroup."
        ),
        observation.claim(rows),
        resolves=Resolves("pages refaulted", "<", AGAIN.value, "1/s"),
        next="mmwatch top --by task -s stall",
    )


def requested(observation: Observation) -> tuple[Mask, bool]:
    """Rows of requested reclaim, and whether that is inferred: the path tells where passes are seen."""
    rows = observation.on("proactive")
    if asked_for_by_write(observation):
        return rows | observation.on("node"), True
    memcg = observation.on("memcg")
    if observation.known("passes") or not observation.limited:
        return rows, False
    bound = np.zeros(len(observation.rows), bool)
    for mine in observation.bound(memcg, "max", "high").values():
        bound |= mine
    read = np.isin(observation.rows["cgroup_id"], np.array(list(observation.whole.cgroups), np.uint64))
    return rows | (memcg & ~bound & read), True


RULE = Rule(
    "proactive-agent",
    "reclaim on request",
    "An agent asks the kernel to reclaim a cgroup or node before it is full. Too eager, it takes memory that is in "
    "use.",
    judge,
    (HARM, BUSY, AGAIN, THRASH, BACK),
    limits="Without probes for passes it is inferred: reclaim of a cgroup while no limit was hit. Refaults are those "
    "of the host.",
    evidence="Time and pages of requested reclaim, pgsteal_proactive, refaults.",
    remedy="Let the agent ask for less.",
)
