"""Node reclaim takes a node's pages again and again, although another node has free memory."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Resolves
from mmwatch.diagnosis.cgroups import BACK, THRASH, host_thrashing
from mmwatch.diagnosis.observation import Mask, Observation, count, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import HARM, OVERSHOOT, PRIORITY_LOW, Threshold

FUTILE_SHARE = Threshold(
    0.9,
    "ratio",
    "node reclaims that freed nothing, as a share of all",
    "above that, the time is spent for nothing: zone-reclaim-futile",
)
FIRST_PRIORITY = 4
"""NODE_RECLAIM_PRIORITY, mm/vmscan.c."""


def judge(observation: Observation) -> Answer:
    node = observation.on("node")
    lost = observation.lost_ns(node)
    worst = host_thrashing(observation)
    missed = worst is not None and 2 * observation.freed(node) >= worst.reclaimed_pages
    if not observation.harmful(node) and not missed:
        return Clear(f"node reclaim took {percent(observation.share(lost))} of the time")
    if futile_share(observation, node) >= FUTILE_SHARE.value:
        return Clear("node reclaim freed nothing: see zone-reclaim-futile")
    if asked_for_by_write(observation):
        return Clear("the kernel counts none of it as node reclaim: it was requested by a write to nodeN/reclaim")
    elsewhere = observation.elsewhere("node")
    if not elsewhere:
        return Clear("no other node had free memory above its high watermark meanwhile")
    freed, asked = observation.freed(node), observation.sum(node, "asked_pages")
    evidence = node_evidence(observation, node)
    longest = int(observation.rows["reclaimed_max_pages"][node].max(initial=0))
    if longest >= OVERSHOOT.value * 32:
        text = f"one reclaim freed {count(longest)} pages; an allocation asks for 32 at most unless it is larger"
        evidence.append(Evidence("excess", text, "reclaims", longest, "pages", OVERSHOOT.value * 32))
    steal, stalls = observation.grown_like("pgsteal_direct"), observation.grown_like("allocstall")
    if steal and stalls is not None:
        text = f"pgsteal_direct grew by {count(steal)}, allocstall by {count(stalls)}: only the first has node reclaim"
        evidence.append(Evidence("steal", text, "/proc/vmstat", steal, "pages"))
    return Found(
        f"{observation.names(node)} spent {time(lost)} of {time(observation.duration_ns)} freeing memory of node "
        f"{', '.join(map(str, sorted(elsewhere)))} while another node had plenty: {count(freed)} pages, "
        f"where {count(asked)} were asked for.",
        tuple(evidence),
        "vm.zone_reclaim_mode makes a task reclaim its own node before it allocates on another. That pays only if all "
        "data of a task fits one node.",
        remedy(observation),
        observation.claim(node),
        nodes=tuple(sorted(elsewhere)),
        cost=(f"{count(freed)} pages were evicted{_came_back(observation, freed)}",),
        resolves=Resolves("share of the time in node reclaim", "<", 0.01, "ratio", "pages allocated"),
        next="mmwatch top --by node",
    )


def _came_back(observation: Observation, freed: int) -> str:
    """How many of the evicted pages were read again, on the whole host."""
    again = observation.grown("workingset_refault_file", "workingset_refault")
    if again is None or not freed:
        return ""
    if not again:
        return "; none was read again meanwhile"
    return f", and {percent(min(again / freed, 1))} as many were read again meanwhile"


def futile_share(observation: Observation, node: Mask) -> float:
    reclaims = observation.sum(node, "reclaims")
    return observation.sum(node, "reclaims_futile") / reclaims if reclaims else 0.0


def asked_for_by_write(observation: Observation) -> bool:
    """A write to nodeN/reclaim uses the same function, but zone_reclaim_success and _failed do not count it (6.17 on:
    mm/vmscan.c, user_proactive_reclaim)."""
    counted = observation.grown("zone_reclaim_success", "zone_reclaim_failed")
    both = {"zone_reclaim_success", "zone_reclaim_failed"} <= observation.whole.vmstat.keys()
    return both and counted == 0


def node_evidence(observation: Observation, node: Mask) -> list[Evidence]:
    """What both kinds of node reclaim trouble rest on."""
    tasks = observation.tasks
    lost, total = observation.lost_ns(node), observation.lost_ns(tasks)
    calls = observation.sum(node, "reclaims")
    found = [
        Evidence(
            "path",
            f"node reclaim is {observation.part(lost, total)} of the time in reclaim, {count(calls)} calls",
            "reclaims",
            observation.share(lost),
            "ratio",
            HARM.value,
        )
    ]
    priority = observation.priority(node)
    if priority is not None and priority < FIRST_PRIORITY:
        text = f"scan priority fell from {FIRST_PRIORITY}, where node reclaim begins, to {priority}"
        threshold = PRIORITY_LOW.value if priority <= PRIORITY_LOW.value else None
        found.append(Evidence("depth", text, "batches and passes", priority, "", threshold))
    for number, spare in sorted(observation.elsewhere("node").items()):
        distance = observation.distance(number, spare.free_node)
        far = f", at distance {distance}" if distance is not None else ""
        text = (
            f"node {spare.free_node} had {observation.pages(spare.free_pages)} free, above its high watermark{far}, "
            f"while node {number} was scanned"
        )
        found.append(Evidence("spare", text, "/proc/zoneinfo", spare.free_pages, "pages"))
    mode = observation.setting("zone_reclaim_mode")
    if isinstance(mode, int) and mode:
        text = f"vm.zone_reclaim_mode is {mode}; the kernel's default is 0 (since 3.16)"
        found.append(Evidence("config", text, "vm.zone_reclaim_mode", mode, "", 0))
    failed, success = observation.grown("zone_reclaim_failed"), observation.grown("zone_reclaim_success")
    if failed or success:
        succeeded = f"zone_reclaim_success by {count(success)}" if success is not None else "successes are not counted"
        text = f"zone_reclaim_failed grew by {count(failed or 0)}, {succeeded}"
        found.append(Evidence("counter", text, "/proc/vmstat", (failed or 0) + (success or 0), "count"))
    return found


def remedy(observation: Observation) -> Remedy:
    mode = observation.setting("zone_reclaim_mode")
    before = mode if isinstance(mode, int) else 1
    return Remedy(
        "Let tasks use the free memory of other nodes.",
        ("sysctl -w vm.zone_reclaim_mode=0",),
        (f"sysctl -w vm.zone_reclaim_mode={before}",),
        "echo vm.zone_reclaim_mode=0 >/etc/sysctl.d/90-zone-reclaim.conf",
        "more accesses to remote memory; watch numa_miss and numa_foreign of numastat",
    )


RULE = Rule(
    "zone-reclaim-thrash",
    "node reclaim with free memory elsewhere",
    "With vm.zone_reclaim_mode above 0, a task whose node is full frees pages of that node before it allocates on "
    "another one. If the node stays full, every allocation does so: the task burns system time, and the page cache of "
    "the node is thrown away, while other nodes have free memory.",
    judge,
    (HARM, FUTILE_SHARE, THRASH, BACK),
    ("stall_ns", "reclaims", "reclaims_futile"),
    "Kernels before 5.2 have no event for it. It does not know whether remote memory would be slower for this load.",
    evidence="Time in node reclaim, zone_reclaim_failed and _success, scan priority, free memory of other nodes and "
    "their distance, vm.zone_reclaim_mode.",
    remedy="Set vm.zone_reclaim_mode to 0.",
)
