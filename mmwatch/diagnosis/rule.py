"""A rule: what it judges by, and what the manual says about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mmwatch.diagnosis.answers import Answer
from mmwatch.diagnosis.observation import Observation
from mmwatch.diagnosis.thresholds import Threshold


@dataclass(frozen=True)
class Rule:
    """A rule of the diagnosis: a pure function of an observation, and what the manual says about it.

    :param id: of its finding; part of the interface, never renamed.
    :param title: a few words.
    :param meaning: what happens, and why that is trouble.
    :param limits: what it cannot tell.
    :param needs: measures (:data:`mmwatch.model.measures.MEASURES`) without which it answers Unknown.
    :param yields_to: rules that explain the same time better: what they claim, this one does not.
    :param uncalibrated: why its thresholds have not been tried on a real case; empty if they have.
    :param evidence: what it looks at, for the manual.
    :param remedy: what it advises, for the manual.
    """

    id: str
    title: str
    meaning: str
    judge: Callable[[Observation], Answer]
    thresholds: tuple[Threshold, ...] = ()
    needs: tuple[str, ...] = ("stall_ns",)
    limits: str = ""
    yields_to: tuple[str, ...] = ()
    uncalibrated: str = ""
    evidence: str = ""
    remedy: str = ""
