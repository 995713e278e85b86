"""A node is below its low watermark and kswapd sleeps: it has given up."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Resolves, Unknown
from mmwatch.diagnosis.observation import KSWAPD, Observation, count, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import COST_MIN, Threshold

SHORT = Threshold(
    0.5,
    "ratio",
    "readings in which the node was below its low watermark while kswapd slept or had given up",
    "kswapd may be seen asleep once, just before it wakes",
)


def judge(observation: Observation) -> Answer:
    if not observation.last.nodes:
        return Unknown("it needs /proc/zoneinfo")
    told = any(one.kswapd for one in observation.intervals)
    if not told:
        return Unknown("the state of kswapd is not known: a filter is on")
    latched = {}
    for number, _ in observation.nodes():
        asleep = 0
        for interval in observation.intervals:
            node = next((one for one in interval.nodes if one.node == number), None)
            if node is None or node.free_pages is None or node.low_pages is None:
                continue
            asleep += interval.kswapd.get(number) in ("gave up", "sleeping") and node.free_pages < node.low_pages
        ran = observation.lost_ns((observation.rows["path"] == KSWAPD) & (observation.rows["node"] == number))
        if asleep >= SHORT.value * len(observation.intervals) and observation.share(ran) < COST_MIN.value:
            latched[number] = asleep
    if not latched:
        return Clear("no node stayed below its low watermark while kswapd slept")
    direct = observation.on("direct")
    lost = observation.lost_ns(direct)
    number, readings = max(latched.items(), key=lambda one: one[1])
    node = observation.node(number)
    evidence = [
        Evidence(
            "kswapd",
            f"kswapd of node {number} slept in {readings} of {len(observation.intervals)} readings although the node "
            "was below its low watermark",
            "/proc/zoneinfo",
            readings / len(observation.intervals),
            "ratio",
            SHORT.value,
        ),
    ]
    gave_up = any(one.kswapd.get(number) == "gave up" for one in observation.intervals)
    if gave_up:
        evidence.append(
            Evidence("latch", "node_unreclaimable is set: kswapd failed too often", "node_unreclaimable", 1)
        )
    stalls = observation.grown_like("allocstall")
    if stalls:
        evidence.append(
            Evidence(
                "counter", f"tasks reclaim instead: allocstall grew by {count(stalls)}", "/proc/vmstat", stalls, "count"
            )
        )
    if observation.share(lost) >= COST_MIN.value:
        evidence.append(
            Evidence(
                "path",
                f"direct reclaim took {percent(observation.share(lost))} of the time",
                "reclaims",
                observation.share(lost),
                "ratio",
                COST_MIN.value,
            )
        )
    if not stalls and observation.share(lost) < COST_MIN.value:
        return Clear(f"kswapd of node {number} sleeps below the low watermark, but nobody waits for memory")
    for other in observation.elsewhere("direct").values():
        why = observation.restricted(direct, other.free_node)
        if why not in ("", "?"):
            text = f"node {other.free_node} had {observation.pages(other.free_pages)} free, but {why}"
            evidence.append(Evidence("policy", text, "/proc/PID/status"))
    assert node is not None
    return Found(
        f"Node {number} has {observation.pages(node.free_pages)} free, below its low watermark of "
        f"{observation.pages(node.low_pages)}, and kswapd sleeps. Tasks spent {time(lost)} of "
        f"{time(observation.duration_ns)} reclaiming instead.",
        tuple(evidence),
        "After 16 runs in a row that freed nothing (mm/vmscan.c, MAX_RECLAIM_RETRIES), kswapd no longer wakes. "
        "Kernels up to 6.12 wake it again once a task frees something on the node, 7.2 only once the node is balanced.",
        Remedy(
            "End, move or shrink what fills the node, or add swap. Dropping clean caches helps for the moment, if "
            "there are any.",
            ("sync; sysctl -w vm.drop_caches=1",),
            risk="files that are still in use are read again from disk, on all nodes",
        ),
        observation.claim(direct),
        nodes=tuple(sorted(latched)),
        resolves=Resolves("readings with kswapd asleep below the low watermark", "<", SHORT.value, "ratio"),
        next="grep -E 'Node|free |low |node_unreclaimable' /proc/zoneinfo",
    )


RULE = Rule(
    "kswapd-latched",
    "kswapd has given up",
    "After 16 failures kswapd no longer wakes, although its node is short of memory. Every allocation then reclaims "
    "directly.",
    judge,
    (SHORT, COST_MIN),
    limits="The state of kswapd is read once an interval.",
    yields_to=("no-swap-anon", "zram-spin", "swap-storm"),
    evidence="Free memory below the low watermark while kswapd sleeps, node_unreclaimable, allocstall, time in direct "
    "reclaim.",
    remedy="Free memory of the node, or add swap.",
)
