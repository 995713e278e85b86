"""The verdict: findings in their order, and everything that was ruled out."""

from __future__ import annotations

from dataclasses import dataclass, field

from mmwatch.diagnosis.answers import Account, Avoidable, Evidence, Found, Who
from mmwatch.diagnosis.rule import Rule


@dataclass(frozen=True)
class Finding:
    """A finding with its place in the verdict.

    :param severity: ``critical`` or ``warning``.
    :param confidence: ``high``, ``medium`` or ``low``.
    :param claims_ns: time that tasks spent in reclaim which this finding explains, no other claims it;
        ``kswapd_claims_ns`` likewise of kswapd.
    :param who: the tasks with the most of it.
    """

    rule: Rule
    found: Found
    severity: str
    confidence: str
    claims_ns: int
    kswapd_claims_ns: int
    who: tuple[Who, ...] = ()


@dataclass(frozen=True)
class Rejected:
    """A rule that found nothing (``clear``), could not tell (``unknown``), or whose time others explain better."""

    rule: Rule
    state: str
    reason: str


@dataclass(frozen=True)
class Verdict:
    """The whole answer.

    :param status: ``finding``, ``healthy``, ``inconclusive`` or ``degraded``.
    :param summary: one or two sentences.
    :param next: what to do next if the answer is not enough.
    :param caveats: what limits the answer.
    :param traced: whether probes were attached; without them there are only counters.
    :param signs: what counters alone show; each is labelled with the rule that it makes suspect.
    """

    status: str
    summary: str
    account: Account
    findings: tuple[Finding, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    avoidable: Avoidable = field(default_factory=Avoidable)
    caveats: tuple[str, ...] = ()
    next: str = ""
    traced: bool = True
    signs: tuple[Evidence, ...] = ()
