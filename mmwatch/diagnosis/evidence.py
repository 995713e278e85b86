"""Pieces of evidence that several rules rest on."""

from __future__ import annotations

from mmwatch.diagnosis.answers import Evidence
from mmwatch.diagnosis.observation import Mask, Observation, count, percent
from mmwatch.diagnosis.thresholds import HARM, PRESSURE


def of_path(observation: Observation, rows: Mask, what: str) -> Evidence:
    """How much time these rows took."""
    share = observation.share(observation.lost_ns(rows))
    calls = count(observation.sum(rows, "reclaims"))
    text = f"{what} took {percent(share)} of the time, summed over tasks, in {calls} calls"
    return Evidence("path", text, "reclaims", share, "ratio", HARM.value)


def of_counter(observation: Observation, name: str, meaning: str = "") -> list[Evidence]:
    """That a counter of /proc/vmstat grew; none if it did not. Counters per zone add up: allocstall."""
    grown = observation.grown_like(name)
    if not grown:
        return []
    return [Evidence("counter", f"{name} grew by {count(grown)}{meaning}", "/proc/vmstat", grown, "count")]


def of_priority(observation: Observation, rows: Mask) -> list[Evidence]:
    """How low the scan priority went; none if it is unknown."""
    priority = observation.priority(rows)
    if priority is None:
        return []
    return [Evidence("depth", f"scan priority fell to {priority}", "batches and passes", priority)]


def of_pressure(observation: Observation) -> list[Evidence]:
    """That tasks of the host waited for memory; none if they hardly did."""
    share = observation.pressure
    if share is None or share < PRESSURE.value:
        return []
    return [Evidence("pressure", observation.pressure_text, "/proc/pressure/memory", share, "percent", PRESSURE.value)]
