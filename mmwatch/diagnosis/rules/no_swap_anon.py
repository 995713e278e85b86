"""Anonymous memory fills the host, there is no swap, and what page cache is left is reclaimed again and again."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Resolves, Unknown
from mmwatch.diagnosis.cgroups import BACK, THRASH, host_thrashing
from mmwatch.diagnosis.evidence import of_pressure
from mmwatch.diagnosis.observation import Observation, count, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import HARM, PRESSURE, Threshold

ANON = Threshold(
    0.85,
    "ratio",
    "anonymous memory as a share of what is on the LRU lists",
    "then reclaim finds hardly anything but code",
)
ROOM = Threshold(
    0.1,
    "ratio",
    "memory available, as a share of all",
    "with more, it is a node or a cgroup that is full, and other rules look at those",
)
SWAP = Threshold(0.02, "ratio", "free swap as a share of the memory", "with less, swap is full")


def judge(observation: Observation) -> Answer:
    memory = observation.last.memory
    if not memory.get("total"):
        return Unknown("it needs /proc/meminfo")
    if memory.get("available", 0) > ROOM.value * memory["total"]:
        return Clear(f"the host has {observation.bytes(memory['available'])} available")
    anon = memory.get("active_anon", 0) + memory.get("inactive_anon", 0)
    file = memory.get("active_file", 0) + memory.get("inactive_file", 0)
    locked = memory.get("unevictable", 0)
    share = (anon + locked) / max(anon + file + locked, 1)
    swap = memory.get("swap_free", 0)
    if swap > SWAP.value * memory["total"]:
        return Clear(f"{observation.bytes(swap)} of swap are free")
    if share < ANON.value:
        return Clear(f"{percent(share)} of the memory on LRU lists is anonymous")
    rows, kswapd = observation.on("direct"), ~observation.tasks
    pressed = observation.pressure is not None and observation.pressure >= PRESSURE.value
    busy = observation.share(observation.lost_ns(kswapd))
    harm = observation.harmful(rows) or (pressed and busy >= HARM.value) or busy >= 0.5
    if not harm and host_thrashing(observation) is None:
        return Clear("anonymous memory without swap, but hardly anybody waits for reclaim")
    lost = observation.lost_ns(rows)
    total = memory.get("swap_total", 0)
    evidence = [
        Evidence(
            "anon",
            f"{percent(share)} of the memory on LRU lists is anonymous or locked; page cache is "
            f"{observation.bytes(file)}",
            "/proc/meminfo",
            share,
            "ratio",
            ANON.value,
        ),
        Evidence(
            "swap",
            "there is no swap" if not total else f"swap is full: {observation.bytes(swap)} are free",
            "/proc/swaps",
            swap,
            "bytes",
        ),
        Evidence(
            "path",
            f"direct reclaim took {percent(observation.share(lost))} of the time, kswapd {percent(busy)}",
            "reclaims",
            observation.share(lost),
            "ratio",
            HARM.value,
        ),
    ]
    again, major = observation.grown("workingset_refault_file", "workingset_refault"), observation.grown("pgmajfault")
    if again:
        evidence.append(
            Evidence(
                "refault",
                f"{count(again)} file pages were read again, with {count(major or 0)} major faults",
                "/proc/vmstat",
                observation.rate(again),
                "1/s",
            )
        )
    evidence += of_pressure(observation)
    return Found(
        f"Anonymous memory fills the host and {'swap is full' if total else 'there is no swap'}: reclaim is left with "
        f"{observation.bytes(file)} of page cache. "
        + (
            f"{observation.names(rows)} spent {time(lost)} of {time(observation.duration_ns)} in reclaim."
            if lost
            else f"kswapd spent {percent(busy)} of the time on it."
        ),
        tuple(evidence),
        "Only swap could take anonymous memory. Without it, the code of running programs is thrown out and read "
        "again, and the OOM killer comes late, because that counts as progress.",
        Remedy(
            "Add swap (a zram device of a few percent helps), end or limit what uses the most memory, or let a "
            "user-space OOM killer (systemd-oomd, earlyoom) do it in time.",
        ),
        observation.claim(rows | kswapd),
        cost_ns=max(observation.waited_ns - lost, 0),
        resolves=Resolves("share of the time in reclaim", "<", 0.05, "ratio"),
        next="ps -eo pid,rss,comm --sort=-rss | head",
    )


RULE = Rule(
    "no-swap-anon",
    "no swap, and nothing left to reclaim",
    "Nearly all memory is anonymous and cannot be swapped. The host still runs, at the speed of reading its own "
    "programs from disk.",
    judge,
    (ROOM, ANON, SWAP, HARM, PRESSURE, THRASH, BACK),
    limits="The sizes are those at the end.",
    evidence="Sizes of the LRU lists, free swap, time in direct reclaim and of kswapd, refaults, memory pressure.",
    remedy="Add swap, limit what uses the most memory, or let a user-space OOM killer act in time.",
)
