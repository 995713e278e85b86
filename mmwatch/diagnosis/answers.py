"""What a rule answers, and the figures of a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

import numpy as np
import numpy.typing as npt

Claim = npt.NDArray[np.int64]
"""Nanoseconds per row of the whole observation, at most the row's own time in reclaim."""


@dataclass(frozen=True)
class Evidence:
    """One observed fact.

    :param label: one word: ``path``, ``depth``, ``spare``, ``config`` and so on.
    :param text: a sentence with the figure.
    :param source: where the figure was read; two pieces of evidence are independent if their sources differ.
    :param observed: the figure, in ``unit``; None if the fact is not a number.
    :param threshold: what it was compared with; None if with nothing.
    """

    label: str
    text: str
    source: str
    observed: float | None = None
    unit: str = ""
    threshold: float | None = None


@dataclass(frozen=True)
class Remedy:
    """What to change. Nothing is changed by mmwatch.

    :param advice: a sentence.
    :param commands: exact commands; empty if no command does it.
    :param undo: commands that put the old values back.
    :param persistent: how to make it last.
    :param risk: what it may cost.
    """

    advice: str
    commands: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()
    persistent: str = ""
    risk: str = ""


@dataclass(frozen=True)
class Resolves:
    """When the trouble counts as cured: what a proof measures.

    :param metric: its name.
    :param op: ``<`` or ``>``.
    :param normaliser: at the same rate of what.
    """

    metric: str
    op: str
    value: float
    unit: str
    normaliser: str = ""


@dataclass(frozen=True)
class Found:
    """A rule's finding.

    :param summary: the claim in one or two sentences: who, what, how much.
    :param evidence: what speaks for it.
    :param cause: the usual cause.
    :param claim: the time in reclaim that this explains.
    :param against: what speaks against it.
    :param nodes: where.
    :param cgroups: whose limit, or whose memory.
    :param cost: what it costs beside time in reclaim, one sentence each.
    :param cost_ns: time lost by tasks outside of reclaim, where it is known. It ranks the findings.
    :param next: a command that tells more.
    """

    summary: str
    evidence: tuple[Evidence, ...]
    cause: str
    remedy: Remedy
    claim: Claim
    against: tuple[Evidence, ...] = ()
    nodes: tuple[int, ...] = ()
    cgroups: tuple[str, ...] = ()
    cost: tuple[str, ...] = ()
    cost_ns: int = 0
    resolves: Resolves | None = None
    next: str = ""


@dataclass(frozen=True)
class Clear:
    """The rule looked, and this is not the trouble.

    :param ordinary: time in reclaim that is the price of ordinary work: nobody need explain it. None: no time.
    """

    reason: str
    ordinary: Claim | None = None


@dataclass(frozen=True)
class Unknown:
    """The rule could not tell.

    :param reason: what it needs.
    """

    reason: str


Answer = Union[Found, Clear, Unknown]


@dataclass(frozen=True)
class Who:
    """A task that suffers or causes.

    :param tgid: 0 if it was not attributed to a process.
    :param stall_ns: its part of the time that a finding claims.
    """

    tgid: int
    comm: str
    path: str
    cgroup: str | None
    stall_ns: int
    share: float


@dataclass(frozen=True)
class Account:
    """How much of the time in reclaim is explained, in nanoseconds. Each is claimed once.

    :param total_ns: that tasks spent in reclaim, kswapd left out.
    :param claimed_ns: the sum of what the findings claim.
    :param ordinary_ns: what rules took for the price of ordinary work.
    :param kswapd_ns: that kswapd spent, which no task waited for.
    """

    total_ns: int
    claimed_ns: int
    kswapd_ns: int
    kswapd_claimed_ns: int
    ordinary_ns: int = 0

    @property
    def unexplained_ns(self) -> int:
        return self.total_ns - self.claimed_ns - self.ordinary_ns

    @property
    def unexplained(self) -> float:
        """As a share of the total; 0 if there was no reclaim."""
        return self.unexplained_ns / self.total_ns if self.total_ns else 0.0


@dataclass(frozen=True)
class Avoidable:
    """Reclaim from a node while another allowed node stood above its high watermark.

    :param futile: reclaims that freed nothing.
    """

    reclaimed_pages: int = 0
    stall_ns: int = 0
    futile: int = 0
