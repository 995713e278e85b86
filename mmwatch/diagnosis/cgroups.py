"""What the rules about memory cgroups and about refaults share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmwatch.diagnosis.answers import Evidence, Found, Remedy, Resolves
from mmwatch.diagnosis.observation import Mask, Observation, count, percent, time
from mmwatch.diagnosis.thresholds import FULL, PRESSURE, Threshold
from mmwatch.model.interval import CgroupMemory

REFAULTS = ("workingset_refault_file", "workingset_refault")
SOON = ("workingset_activate_file", "workingset_activate")
"""Of these, pages that came back before as many others were reclaimed as the memory holds (kernel: mm/workingset.c,
workingset_test_recent): somewhat more memory would have kept them. A loop over a file that is much larger has few.
The multi-generational LRU counts only page faults there (lru_gen_refault), so it does not tell."""
THRASH = Threshold(
    1000.0,
    "1/s",
    "file pages refaulted",
    "4 MB of reads a second that memory would have spared; less is hardly felt",
)
SLOW = Threshold(
    100.0,
    "1/s",
    "the same, if tasks wait for I/O a tenth of the time",
    "a disk or a volume in the cloud may do no more, if they are read at random",
)
BACK = Threshold(
    0.2,
    "ratio",
    "pages refaulted for each page reclaimed",
    "a working set that fits refaults next to nothing, and a stream nothing at all",
)

NOT_AGAIN = "no page was read again after reclaim"
LITTLE = Threshold(
    0.2, "ratio", "pages refaulted soon, of all refaulted", "below that, only much more memory would help"
)


def refaults(observation: Observation, path: str) -> int | None:
    """File pages of a cgroup that were read again soon after they had been reclaimed; None if unknown."""
    grown = observation.limited[path].grown
    found = [grown[name] for name in REFAULTS if name in grown]
    return sum(found) if found else None


def soon(observation: Observation, path: str) -> int | None:
    """Those of :func:`refaults` that came back soon; None if unknown. Version 1 does not count them: then the host's
    share is taken."""
    if observation.lru_gen:
        return None
    grown, again = observation.limited[path].grown, refaults(observation, path)
    found = [grown[name] for name in SOON if name in grown]
    if found or again is None:
        return sum(found) if found else None
    all_soon, all_again = observation.grown(*SOON), observation.grown(*REFAULTS)
    return again if all_soon is None or not all_again else int(again * min(all_soon / all_again, 1))


def waits_ns(observation: Observation, path: str) -> int:
    """Time in which some task of a cgroup waited for memory (memory.pressure); 0 if unknown."""
    return min(observation.limited[path].grown.get("some_us", 0) * 1000, observation.duration_ns)


def binding(memory: CgroupMemory) -> tuple[str, int | None]:
    """``max`` or ``high``, whichever is lower, and that limit in bytes; None if there is neither."""
    if memory.high_bytes is not None and (memory.limit_bytes is None or memory.high_bytes < memory.limit_bytes):
        return "high", memory.high_bytes
    return "max", memory.limit_bytes


def hits_file(observation: Observation) -> str:
    """Where the hits of a limit are counted."""
    return "memory.failcnt" if observation.setting("cgroup_version") == 1 else "memory.events.local"


def limit_evidence(observation: Observation, path: str, which: str) -> list[Evidence]:
    """That a cgroup is at its limit (``max``) or above memory.high (``high``)."""
    memory = observation.limited[path]
    hits, bound = memory.grown.get(which), memory.limit_bytes if which == "max" else memory.high_bytes
    found = []
    if hits:
        what = "hit its limit" if which == "max" else "went above memory.high"
        found.append(
            Evidence("counter", f"{path} itself {what} {count(hits)} times", hits_file(observation), hits, "count")
        )
    if bound:
        share = memory.usage_bytes / bound
        used = f"{observation.bytes(memory.usage_bytes)} of {observation.bytes(bound)}"
        threshold = FULL.value if share >= FULL.value else None
        found.append(
            Evidence(
                "limit" if which == "max" else "high",
                f"{path} uses {used}",
                "memory.usage_in_bytes" if observation.setting("cgroup_version") == 1 else "memory.current",
                share,
                "ratio",
                threshold,
            )
        )
    return found


def host_has_room(observation: Observation) -> list[Evidence]:
    """That the host itself is not short."""
    free, total = (observation.last.memory.get(name) for name in ("available", "total"))
    if not free or not total or free < 0.1 * total:
        return []
    return [Evidence("host", f"the host has {observation.bytes(free)} available", "/proc/meminfo", free, "bytes")]


def refault_evidence(observation: Observation, path: str) -> list[Evidence]:
    """How much of what was reclaimed from a cgroup came back."""
    again = refaults(observation, path)
    if again is None:
        return []
    rate = count(observation.rate(again))
    return [
        Evidence(
            "refault",
            f"{count(again)} pages were read again after reclaim, {rate} a second" if again else NOT_AGAIN,
            "memory.stat",
            observation.rate(again),
            "1/s",
        )
    ]


def raise_limit(observation: Observation, path: str) -> Remedy:
    """Give the cgroup more: raise its limit, or memory.high if that is lower."""
    which, limit = binding(observation.limited[path])
    if limit is None:
        return Remedy("Raise the limit, or use less memory.")
    name = "memory.limit_in_bytes" if observation.setting("cgroup_version") == 1 else f"memory.{which}"
    file, more = observation.control(path, name), int(1.5 * limit) >> 20 << 20
    unit = "MemoryMax= of the systemd unit, or the memory limit of the container"
    return Remedy(
        f"Raise {'the limit' if which == 'max' else 'memory.high'} step by step until it is enough, or use less "
        "memory.",
        (f"echo {more} >{file}",),
        (f"echo {limit} >{file}",),
        unit if which == "max" else "MemoryHigh= of the systemd unit",
        "the cgroup takes more of the host's memory",
    )


@dataclass(frozen=True)
class Thrash:
    """Where page cache is reclaimed and read again.

    :param path: of the cgroup; None: the whole host.
    :param rows: the reclaim of it.
    :param soon: pages refaulted soon; None if unknown.
    """

    path: str | None
    rows: Mask
    refaults: int
    soon: int | None
    reclaimed_pages: int
    major_faults: int
    waited_ns: int


def thrashing(observation: Observation, back: float = BACK.value) -> Thrash | str:
    """The cgroup with the most refaults, or the host; or why there is none.

    :param back: how much of what was reclaimed must come back.
    """
    found = []
    for path, memory in observation.limited.items():
        again, near = refaults(observation, path), soon(observation, path)
        limited = memory.limit_bytes is not None or memory.high_bytes is not None
        if again is None or observation.rate(again) < SLOW.value or not limited:
            continue
        rows = observation.below(path) & observation.on("memcg")
        reclaimed = max(observation.freed(rows), memory.grown.get("pgsteal", 0))
        found.append(
            Thrash(path, rows, again, near, reclaimed, memory.grown.get("pgmajfault", 0), waits_ns(observation, path))
        )
    again = observation.grown(*REFAULTS)
    if again is not None and not observation.session.filter:
        rows = observation.on("direct", "kswapd", "node")
        near = None if observation.lru_gen else observation.grown(*SOON)
        host = Thrash(
            None,
            rows,
            again,
            near,
            observation.freed(rows),
            observation.grown("pgmajfault") or 0,
            observation.waited_ns,
        )
        # What came back to cgroups at their limits is theirs.
        theirs = max((one.refaults for one in found if one.rows.any()), default=0)
        if again - theirs > theirs:
            found.append(host)
    enough = SLOW.value if (observation.io_pressure or 0) >= PRESSURE.value else THRASH.value
    # What was reclaimed long ago and comes back now is no sign that the memory is too small now.
    bad = [
        one
        for one in found
        if observation.rate(min(one.refaults, one.reclaimed_pages)) >= enough
        and one.refaults >= back * one.reclaimed_pages
        and one.rows.any()
    ]
    if not bad:
        if again is None and not found:
            return "the kernel counts no refaults"
        share = max((one.refaults / max(one.reclaimed_pages, 1) for one in found), default=0.0)
        of = f", {percent(min(share, 1))} of those reclaimed" if observation.rate(again) >= SLOW.value else ""
        return (
            f"{count(observation.rate(again))} pages a second were read again after reclaim{of}" if again else NOT_AGAIN
        )
    # Of nested cgroups that show the same refaults, the one whose own limit was hit.
    most = max(one.refaults for one in bad)
    nearest = [one for one in bad if one.refaults >= 0.9 * most]
    return max(nearest, key=lambda one: observation.limited[one.path].grown.get("max", 0) if one.path else -1)


def host_thrashing(observation: Observation) -> Thrash | None:
    """:func:`thrashing` of the whole host: what is evicted costs more than evicting it."""
    worst = thrashing(observation)
    return worst if isinstance(worst, Thrash) and worst.path is None else None


def thrash_found(
    observation: Observation, worst: Thrash, what: str, cause: str, more: Sequence[Evidence] = ()
) -> Found:
    """The finding for :func:`thrashing`.

    :param what: ``The page cache of {} does``.
    """
    lost = observation.lost_ns(worst.rows & observation.tasks)
    back = worst.refaults / max(worst.reclaimed_pages, 1)
    rate = observation.rate(worst.refaults)
    near = ""
    if worst.soon is not None:
        soonest = percent(min(worst.soon / max(worst.refaults, 1), 1))
        only = "only " if worst.soon < LITTLE.value * worst.refaults else ""
        near = f"; {only}{soonest} of them so soon that somewhat more memory would have kept them"
    source = "memory.stat" if worst.path else "/proc/vmstat"
    which, limit = binding(observation.limited[worst.path]) if worst.path else ("max", None)
    evidence = [
        Evidence(
            "refault",
            f"{count(rate)} pages a second are read again after they were reclaimed{near}",
            source,
            rate,
            "1/s",
            THRASH.value,
        ),
        Evidence(
            "back",
            f"{percent(min(back, 1))} of {count(worst.reclaimed_pages)} reclaimed pages came back",
            "reclaims",
            back,
            "ratio",
            BACK.value,
        ),
        *more,
    ]
    if worst.path:
        evidence += limit_evidence(observation, worst.path, which)
        evidence += host_has_room(observation)
    share = 100 * observation.share(worst.waited_ns)
    if worst.waited_ns:
        threshold = PRESSURE.value if share >= PRESSURE.value else None
        where = "memory.pressure" if worst.path else "/proc/pressure/memory"
        evidence.append(
            Evidence(
                "pressure", f"tasks waited for memory {share:.1f}% of the time", where, share, "percent", threshold
            )
        )
    if (observation.io_pressure or 0) >= PRESSURE.value:
        text = f"tasks waited for I/O {observation.io_pressure:.1f}% of the time"
        evidence.append(Evidence("io", text, "/proc/pressure/io", observation.io_pressure, "percent", PRESSURE.value))
    where = f"cgroup {worst.path}" if worst.path else "the host"
    bounded = f", whose limit is {observation.bytes(limit)}," if limit else ""
    remedy = (
        raise_limit(observation, worst.path)
        if worst.path
        else Remedy(
            "Add memory, or make the working set smaller; protect what matters with memory.low, and let the rest "
            "bypass the page cache.",
        )
    )
    if worst.soon is not None and worst.soon < LITTLE.value * worst.refaults:
        remedy = Remedy(
            "Somewhat more memory will not do, since what is read again comes back late. Give it as much as its tasks "
            "read over and over, or let them bypass the page cache, if they have a cache of their own (O_DIRECT).",
        )
    return Found(
        f"{what.format(where + bounded)} not stay in memory: {observation.pages(rate)} a second are read again. "
        + (
            f"{observation.names(worst.rows & observation.tasks)} spent {time(lost)} of "
            f"{time(observation.duration_ns)} in reclaim for it."
            if lost
            else "The reclaim itself is done by kswapd."
        ),
        tuple(evidence),
        cause,
        remedy,
        observation.claim(worst.rows),
        cgroups=(worst.path,) if worst.path else (),
        cost=(f"{observation.pages(worst.refaults)} of reads that enough memory would have spared",),
        cost_ns=max(worst.waited_ns - lost, 0),
        resolves=Resolves("file pages refaulted", "<", THRASH.value, "1/s", "bytes read"),
        next=f"mmwatch top -c {observation.quoted(worst.path)}" if worst.path else "mmwatch top --by cgroup",
    )
