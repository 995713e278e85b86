"""A node is short of memory while others have plenty, because its tasks may not use them."""

from __future__ import annotations

import numpy as np

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Resolves
from mmwatch.diagnosis.cgroups import BACK, THRASH, host_thrashing
from mmwatch.diagnosis.evidence import of_path, of_pressure
from mmwatch.diagnosis.observation import Observation, count, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.thresholds import HARM, PRESSURE, SPARE, Threshold

PART = Threshold(
    0.5,
    "ratio",
    "the share of direct reclaim that met free memory elsewhere, if no policy or cpuset is known to bind the tasks",
    "less is met by chance while all nodes are filled",
)

PREFER = "Prefer the node instead of binding to it (numactl --preferred, or --interleave for shared data)."
ALLOW = "allow more nodes in cpuset.mems of the cgroup (systemd: AllowedMemoryNodes=)"


def judge(observation: Observation) -> Answer:
    direct = observation.on("direct")
    pressed = observation.pressure is not None and observation.pressure >= PRESSURE.value
    if not observation.harmful(direct) and not pressed and host_thrashing(observation) is None:
        return Clear(f"direct reclaim took {percent(observation.share(observation.lost_ns(direct)))} of the time")
    if len(observation.last.nodes) < 2:
        return Clear("the host has one node")
    elsewhere = observation.elsewhere("direct", "kswapd")
    here = observation.on("direct", "kswapd") & np.isin(observation.rows["node"], sorted(elsewhere))
    if not (here & direct).any():
        return Clear("no other node had plenty above its high watermark meanwhile")
    lost = observation.lost_ns(here & direct)
    node, spare = max(elsewhere.items(), key=lambda one: one[1].stall_ns)
    why = observation.restricted(here & direct, spare.free_node)
    met = sum(one.stall_ns for one in observation.elsewhere("direct").values())
    part = met / max(observation.lost_ns(direct), 1)
    if (not observation.harmful(here & direct) or part < PART.value) and why in ("", "?"):
        return Clear(f"direct reclaim with free memory elsewhere took {percent(observation.share(met))} of the time")
    evidence = [
        of_path(observation, here & direct, f"direct reclaim on node {node}"),
        Evidence(
            "spare",
            f"node {spare.free_node} had {observation.pages(spare.free_pages)} free, above its high watermark, "
            "at the same time",
            "/proc/zoneinfo",
            spare.free_pages,
            "pages",
        ),
    ]
    against = []
    if why and why != "?":
        source = "/proc/PID/status" if "cpuset" in why else "/proc/PID/numa_maps"
        evidence.append(Evidence("policy", why, source))
    else:
        text = "which nodes its tasks may use could not be read" if why else "its tasks may use that node"
        against.append(Evidence("policy", text, "/proc/PID/status"))
    foreign = observation.grown("numa_foreign")
    if foreign is not None and foreign < observation.freed(here):
        grew = f"grew by only {count(foreign)}" if foreign else "did not grow"
        evidence.append(
            Evidence(
                "counter",
                f"numa_foreign {grew}: hardly any allocation fell back to another node",
                "/proc/vmstat",
                foreign,
                "pages",
            )
        )
    evidence += of_pressure(observation)
    if why in ("", "?"):
        binding, loosen = "A memory policy (numactl --membind) or a cpuset (cpuset.mems)", f"{PREFER} Or {ALLOW}."
    elif "cpuset" in why:
        binding, loosen = "A cpuset", f"{ALLOW[0].upper()}{ALLOW[1:]}."
    else:
        binding, loosen = "A memory policy (numactl --membind, mbind, set_mempolicy)", PREFER
    waited = int(part * observation.waited_ns) if pressed else 0
    return Found(
        f"{observation.names(here & direct)} spent {time(lost)} of {time(observation.duration_ns)} reclaiming node "
        f"{node}, while node {spare.free_node} had {observation.pages(spare.free_pages)} free"
        + (f": {why}." if why and why != "?" else "."),
        tuple(evidence),
        f"{binding} keeps the tasks on a node that is too small for them.",
        Remedy(loosen, risk="memory on other nodes is slower to reach"),
        observation.claim(here),
        tuple(against),
        nodes=(node,),
        cost_ns=max(waited - lost, 0),
        resolves=Resolves("share of the time in direct reclaim", "<", 0.01, "ratio", "pages allocated"),
        next="mmwatch top --by node",
    )


RULE = Rule(
    "node-bound",
    "a node is full, others are not",
    "Tasks that a memory policy or a cpuset binds to a node reclaim that node as if the host were full, although "
    "other nodes have free memory.",
    judge,
    (HARM, PRESSURE, SPARE, PART, THRASH, BACK),
    ("stall_ns",),
    "Policies are read from the first mappings of processes up to 4 GiB only, because the kernel walks their page "
    "tables for it.",
    yields_to=("high-order", "kswapd-latched", "writeback-throttle"),
    evidence="Direct reclaim on a node while another stood above its high watermark; Mems_allowed_list of status, "
    "numa_maps, numa_foreign.",
    remedy="Prefer instead of bind, or allow more nodes in cpuset.mems.",
)
