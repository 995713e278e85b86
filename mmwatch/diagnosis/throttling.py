"""What the rules about throttled reclaim share: it sleeps, for a reason that the kernel names (5.16 on)."""

from __future__ import annotations

import numpy as np

from mmwatch.abi import THROTTLE_HELP
from mmwatch.diagnosis.answers import Clear, Evidence, Found, Remedy, Resolves
from mmwatch.diagnosis.observation import Mask, Observation, percent, time
from mmwatch.diagnosis.thresholds import HARM, Threshold
from mmwatch.model.measures import THROTTLE_REASONS

PART = Threshold(
    0.3, "ratio", "time asleep for that reason, as a share of a row's time in reclaim", "then the sleep is what costs"
)


def throttled(observation: Observation, *reasons: str) -> tuple[Mask, int] | Clear:
    """The rows of tasks that mostly slept for these reasons, and for how long."""
    columns = [THROTTLE_REASONS.index(reason) for reason in reasons]
    slept = observation.rows["throttled_ns"][:, columns].sum(axis=1)
    rows = observation.tasks & (slept >= PART.value * np.maximum(observation.stalls_ns, 1))
    total = observation.throttled_ns(rows, *reasons)
    if observation.share(total) < HARM.value:
        every = observation.throttled_ns(observation.tasks, *reasons)
        return Clear(f"tasks slept {percent(observation.share(every))} of the time for that")
    return rows, total


def dirty_limits(observation: Observation, *names: str) -> str:
    """The command that sets limits on dirty memory (``dirty_background``, ``dirty``) to what they were.

    Of each, bytes and ratio exclude each other (mm/page-writeback.c): setting one makes the other 0.
    """
    defaults, words = {"dirty_background": 10, "dirty": 20}, []
    for name in names:
        limit, ratio = observation.setting(f"{name}_bytes"), observation.setting(f"{name}_ratio")
        words.append(
            f"vm.{name}_bytes={limit}" if limit else f"vm.{name}_ratio={defaults[name] if ratio is None else ratio}"
        )
    return " ".join(("sysctl -w", *words))


def throttle_found(
    observation: Observation,
    rows: Mask,
    slept: int,
    reasons: tuple[str, ...],
    evidence: tuple[Evidence, ...],
    cause: str,
    remedy: Remedy,
) -> Found:
    """The finding for :func:`throttled`."""
    lost = observation.lost_ns(rows)
    why = THROTTLE_HELP[reasons[0]]
    return Found(
        f"{observation.names(rows)} slept {time(slept)} of {time(observation.duration_ns)} in reclaim: {why}.",
        (
            Evidence(
                "throttle",
                f"{percent(slept / max(lost, 1))} of {time(lost)} in reclaim was sleep ({', '.join(reasons)})",
                "throttling",
                observation.share(slept),
                "ratio",
                HARM.value,
            ),
            *evidence,
        ),
        cause,
        remedy,
        observation.claim(rows),
        resolves=Resolves(f"time throttled ({', '.join(reasons)})", "<", 0.01, "ratio"),
        next="mmwatch top --columns +throttled,+dirty,+written",
    )
