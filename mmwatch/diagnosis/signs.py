"""What counters alone tell: signs of trouble, and whether tracing is worth it. They name suspects, not findings."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Evidence
from mmwatch.diagnosis.cgroups import THRASH, hits_file, refaults
from mmwatch.diagnosis.observation import Observation, count, percent
from mmwatch.diagnosis.rules.kswapd_hopeless import EFFICIENCY_MAX
from mmwatch.diagnosis.rules.swap_storm import BOTH_WAYS
from mmwatch.diagnosis.thresholds import PRESSURE, Threshold

OFTEN = Threshold(
    1.0, "1/s", "events that make a task reclaim", "once in a while is ordinary; once a second is worth a closer look"
)
SCANS = Threshold(1000.0, "1/s", "pages scanned by kswapd", "below that, its efficiency says little")


def signs(observation: Observation) -> tuple[Evidence, ...]:
    """Each is labelled with the rule that it makes suspect."""
    found = [
        *_often(observation),
        *_kswapd(observation),
        *_cgroups(observation),
    ]
    again = observation.grown("workingset_refault_file", "workingset_refault")
    steal = observation.grown("pgsteal_file")
    if observation.rate(again if steal is None else min(again or 0, steal)) >= THRASH.value:
        text = f"{count(observation.rate(again))} file pages a second are read again after they were reclaimed"
        found.append(_sign("cache-thrash", text, observation.rate(again), THRASH))
    into, out = observation.grown("pswpin"), observation.grown("pswpout")
    if min(observation.rate(into), observation.rate(out)) >= BOTH_WAYS.value:
        text = f"{count(observation.rate(out))} pages a second go out to swap, {count(observation.rate(into))} return"
        found.append(_sign("swap-storm", text, observation.rate(into), BOTH_WAYS))
    if observation.pressure is not None and observation.pressure >= PRESSURE.value:
        share = observation.pressure
        text = observation.pressure_text
        found.append(Evidence("pressure", text, "/proc/pressure/memory", share, "percent", PRESSURE.value))
    return tuple(found)


def _sign(rule: str, text: str, rate: float, threshold: Threshold, source: str = "/proc/vmstat") -> Evidence:
    return Evidence(rule, text, source, rate, threshold.unit, threshold.value)


def _often(observation: Observation) -> list[Evidence]:
    found = []
    failed, success = observation.grown("zone_reclaim_failed"), observation.grown("zone_reclaim_success")
    rate = observation.rate((failed or 0) + (success or 0))
    if rate >= OFTEN.value:
        mode = observation.setting("zone_reclaim_mode")
        futile = success is not None and (failed or 0) > 9 * success
        rule = "zone-reclaim-futile" if futile else "zone-reclaim-thrash"
        which = "failed node reclaims a second" if success is None else "node reclaims a second"
        of = "" if success is None else f", {count(failed or 0)} failed"
        text = f"{count(rate)} {which}{of}; vm.zone_reclaim_mode is {mode}"
        found.append(_sign(rule, text, rate, OFTEN))
    for rule, prefix, what in (
        ("direct-reclaim", "allocstall", "direct reclaims"),
        ("high-order", "compact_stall", "direct compactions"),
        ("pfmemalloc-throttle", "pgscan_direct_throttle", "tasks put to sleep before reclaim"),
        ("drop-caches", "drop_", "writes to vm.drop_caches"),
    ):
        rate = observation.rate(observation.grown_like(prefix))
        if rate >= OFTEN.value or (rate and rule in ("pfmemalloc-throttle", "drop-caches")):
            found.append(_sign(rule, f"{count(rate)} {what} a second", rate, OFTEN))
    return found


def _kswapd(observation: Observation) -> list[Evidence]:
    found = []
    scan, steal = observation.grown_like("pgscan_kswapd"), observation.grown_like("pgsteal_kswapd")
    if observation.rate(scan) >= SCANS.value and (steal or 0) <= EFFICIENCY_MAX.value * (scan or 1):
        freed = percent((steal or 0) / (scan or 1))
        text = f"kswapd scans {count(observation.rate(scan))} pages a second and frees {freed}"
        found.append(_sign("kswapd-hopeless", text, observation.rate(scan), SCANS))
    for node in observation.last.nodes:
        if observation.last.kswapd.get(node.node) == "gave up":
            text = f"kswapd of node {node.node} has given up (node_unreclaimable)"
            found.append(Evidence("kswapd-latched", text, "/proc/zoneinfo"))
        if node.boost_pages:
            text = f"the watermarks of node {node.node} are boosted by {observation.pages(node.boost_pages)}"
            found.append(Evidence("watermark-boost", text, "/proc/zoneinfo", node.boost_pages, "pages"))
    return found


def _cgroups(observation: Observation) -> list[Evidence]:
    """The cgroup that hit its limit the most, and the one that went above memory.high the most."""
    found = []
    for rule, which, what in (
        ("memcg-limit", "max", "hits its limit"),
        ("memcg-high", "high", "goes above memory.high"),
    ):
        hits = {path: memory.grown.get(which, 0) for path, memory in observation.limited.items()}
        worst = max(hits, key=lambda path: hits[path], default=None)
        if worst is not None and observation.rate(hits[worst]) >= OFTEN.value:
            text = f"{worst} {what} {count(observation.rate(hits[worst]))} times a second"
            again = refaults(observation, worst)
            text += f", and {count(observation.rate(again))} pages a second are read again" if again else ""
            found.append(_sign(rule, text, observation.rate(hits[worst]), OFTEN, hits_file(observation)))
    return found
