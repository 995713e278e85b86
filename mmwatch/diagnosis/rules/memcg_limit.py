"""A memory cgroup is at its limit, and its tasks reclaim."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Answer, Clear, Found, Remedy, Resolves, Unknown
from mmwatch.diagnosis.cgroups import host_has_room, limit_evidence, raise_limit, refault_evidence, refaults, waits_ns
from mmwatch.diagnosis.evidence import of_path
from mmwatch.diagnosis.observation import Observation, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import FULL, HARM, Threshold

STREAM = Threshold(
    0.05, "ratio", "pages refaulted for each page reclaimed", "below that, what was dropped is not missed: a stream"
)
STREAM_HARM = Threshold(
    0.2,
    "ratio",
    "the time that one task loses, or in which some task waits (PSI), if they stream",
    "each new page costs an old one: that is the price",
)
STREAM_ALL = Threshold(
    0.5, "ratio", "the time that all tasks lose, added up, if they stream", "half of a task's time is no small price"
)
PAST_THE_CACHE = Remedy(
    "Bypass the page cache (O_DIRECT), or drop pages after use (posix_fadvise DONTNEED). Or let an agent reclaim in "
    "time (memory.reclaim), so that the tasks need not."
)


def judge(observation: Observation) -> Answer:
    memcg = observation.on("memcg")
    lost = observation.lost_ns(memcg)
    if not observation.harmful(memcg):
        return Clear(f"reclaim at the limits of cgroups took {percent(observation.share(lost))} of the time")
    bound = observation.bound(memcg, "max")
    if not bound:
        if not observation.limited:
            return Unknown("limits and counters of the cgroups could not be read")
        return Clear("no cgroup hit its limit")
    path, rows = max(bound.items(), key=lambda one: observation.lost_ns(one[1]))
    if not observation.harmful(rows):
        return Clear(
            f"reclaim at the limit of {path} took {percent(observation.share(observation.lost_ns(rows)))} of the time"
        )
    lost, memory = observation.lost_ns(rows), observation.limited[path]
    again = refaults(observation, path)
    few = again is not None and again < STREAM.value * max(observation.freed(rows), 1)
    streams = few and not observation.of_anon(rows)
    worst = observation.who(observation.claim(rows), 1)
    waited = observation.share(waits_ns(observation, path))
    if streams and max(worst[0].share, waited) < STREAM_HARM.value and observation.share(lost) < STREAM_ALL.value:
        counted = ", as far as the multi-generational LRU counts it" if observation.lru_gen else ""
        return Clear(
            f"{path} streams through files at its limit: {percent(observation.share(lost))} of the time, and hardly "
            f"anything is read again{counted}",
            observation.claim(rows),
        )
    evidence = [
        of_path(observation, rows, "reclaim at the limit"),
        *limit_evidence(observation, path, "max"),
        *host_has_room(observation),
    ]
    evidence += refault_evidence(observation, path)
    own = {observation.whole.cgroups.get(int(number)) for number in observation.rows["cgroup_id"][rows]}
    above = f" They run below it, in {sorted(filter(None, own))[0]}." if path not in own and any(own) else ""
    return Found(
        f"{observation.names(rows)} spent {time(lost)} of {time(observation.duration_ns)} reclaiming because cgroup "
        f"{path} is at its limit of {observation.bytes(memory.limit_bytes)}.{above}",
        tuple(evidence),
        "The cgroup streams through files: hardly anything that it drops is read again, so a higher limit would not "
        "help; reclaim is the price of each new page."
        if streams
        else "What the cgroup's tasks use does not fit its limit, so each new page costs one of the old ones.",
        PAST_THE_CACHE if streams else raise_limit(observation, path),
        observation.claim(rows),
        cgroups=(path,),
        resolves=Resolves("share of the time in reclaim at the limit", "<", 0.01, "ratio", "pages charged"),
        next=f"mmwatch top -c {observation.quoted(path)}",
    )


RULE = Rule(
    "memcg-limit",
    "a cgroup at its limit",
    "A memory cgroup has used up its limit (memory.max, or memory.limit_in_bytes), or one above it has: then each "
    "allocation of its tasks first reclaims from it, although the host may have free memory.",
    judge,
    (HARM, FULL, STREAM, STREAM_HARM, STREAM_ALL),
    limits="Where the target of a reclaim is not known, the cgroup whose limit binds is inferred: the one whose own "
    "counter of hits grew. The multi-generational LRU does not count what is read again late, so a loop looks like a "
    "stream.",
    yields_to=(
        "memcg-high",
        "memcg-high-livelock",
        "memcg-dirty",
        "cache-thrash",
        "exec-thrash",
        "swap-storm",
        "zram-spin",
        "shrinker-stall",
        "proactive-agent",
        "writeback-throttle",
        "isolation-throttle",
        "no-progress-throttle",
        "slab-unreclaimable",
    ),
    evidence="Time in reclaim at limits, growth of max in memory.events.local (failcnt), usage against the limit, "
    "memory available on the host, refaults.",
    remedy="Raise the limit. If the cgroup streams through files, bypass the page cache instead.",
)
