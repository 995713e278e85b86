"""From the answers of the rules to a verdict: each claim is granted once, findings are ranked by cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmwatch.diagnosis.answers import Account, Claim, Clear, Evidence, Found, Unknown
from mmwatch.diagnosis.observation import Observation, percent, time
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.rules import all_rules
from mmwatch.diagnosis.signs import signs
from mmwatch.diagnosis.thresholds import COST_MIN, HARM, LONG, LOST_MAX, PRESSURE, UNEXPLAINED
from mmwatch.diagnosis.verdict import Finding, Rejected, Verdict
from mmwatch.units import number_text

CRITICAL_SHARE = 0.5
"""A finding that costs half of a task's time is critical."""
ENOUGH = 2
"""Independent pieces of evidence without which there is no finding."""
LEFT_MIN = 0.5
"""A finding of whose claim others explain more than all but this share is theirs."""


@dataclass(frozen=True)
class _Granted:
    rule: Rule
    found: Found
    claim: Claim


def judge(observation: Observation, rules: Sequence[Rule] | None = None) -> Verdict:
    """The verdict on an observation.

    :param rules: all by default, each after those it yields to.
    """
    granted: list[_Granted] = []
    rejected: list[Rejected] = []
    left, ordinary = observation.stalls_ns.copy(), np.zeros(len(observation.rows), np.int64)
    lossy = lost_share(observation) > LOST_MAX.value
    for rule in all_rules() if rules is None else rules:
        answer = _ask(rule, observation)
        if isinstance(answer, Clear) and lossy:
            answer = Unknown("too many events were lost to rule it out")
        if isinstance(answer, Clear) and answer.ordinary is not None:
            usual = np.minimum(answer.ordinary, left)
            left -= usual
            ordinary += usual
        if not isinstance(answer, Found):
            rejected.append(Rejected(rule, "unknown" if isinstance(answer, Unknown) else "clear", answer.reason))
            continue
        claim = np.minimum(answer.claim, left)
        # What kswapd does is nobody's wait, so it does not save a finding about tasks.
        of = observation.tasks if answer.claim[observation.tasks].any() else ~observation.tasks
        better = [one.rule.id for one in granted if one.rule.id in rule.yields_to]
        if (
            answer.claim.any()
            and claim[of].sum() < LEFT_MIN * answer.claim[of].sum()
            and (better or not answer.cost_ns)
        ):
            if not better:
                better = [one.rule.id for one in granted]
            rejected.append(Rejected(rule, "explained", f"explained by {', '.join(better)}"))
            continue
        left -= claim
        granted.append(_Granted(rule, answer, claim))
    findings = [_finding(observation, one, lossy) for one in granted]
    findings.sort(key=lambda one: -max(one.claims_ns, one.found.cost_ns, one.kswapd_claims_ns // 4))
    return _verdict(observation, findings, rejected, ordinary, lossy)


def _ask(rule: Rule, observation: Observation) -> Found | Clear | Unknown:
    missing = [name for name in rule.needs if name in observation.session.unknown]
    if missing:
        return Unknown("it needs tracing" if not observation.traced else f"no probe for {', '.join(missing)}")
    answer = rule.judge(observation)
    if isinstance(answer, Found) and independent(answer.evidence) < ENOUGH:
        return Unknown(f"only one piece of evidence: {answer.evidence[0].text}" if answer.evidence else "no evidence")
    return answer


def independent(evidence: Sequence[Evidence]) -> int:
    """How many pieces of evidence come from different sources."""
    return len({one.source for one in evidence})


def _finding(observation: Observation, one: _Granted, lossy: bool) -> Finding:
    kswapd = int(one.claim[~observation.tasks].sum())
    tasks = int(one.claim.sum()) - kswapd
    cost = max(int(one.claim[observation.waiting].sum()), one.found.cost_ns)
    for_it, against = independent(one.found.evidence), len(one.found.against)
    confidence = "high" if for_it >= 3 and not against else "medium" if for_it - against >= 1 else "low"
    if one.rule.uncalibrated or lossy:
        confidence = "low"
    return Finding(
        one.rule,
        one.found,
        "critical" if observation.share(cost) >= CRITICAL_SHARE else "warning",
        confidence,
        tasks,
        kswapd,
        observation.who(one.claim),
    )


def lost_share(observation: Observation) -> float:
    """Events known to be missing, as a share of all reclaims."""
    loss = observation.whole.loss
    lost = (loss.missed_runs or 0) + loss.unmatched_begin + loss.unmatched_end + loss.table_full
    return lost / max(int(observation.rows["reclaims"].sum()) + lost, 1)


def _verdict(
    observation: Observation, findings: list[Finding], rejected: list[Rejected], ordinary: Claim, lossy: bool
) -> Verdict:
    account = Account(
        total_ns=observation.lost_ns(observation.tasks),
        claimed_ns=sum(one.claims_ns for one in findings),
        kswapd_ns=observation.lost_ns(~observation.tasks),
        kswapd_claimed_ns=sum(one.kswapd_claims_ns for one in findings),
        ordinary_ns=int(ordinary[observation.tasks].sum()),
    )
    verdict = Verdict(
        "healthy",
        "",
        account,
        tuple(findings),
        tuple(rejected),
        observation.avoidable,
        tuple(_caveats(observation, lossy)),
        traced=observation.traced,
        signs=signs(observation),
    )
    harm = "" if not observation.traced else _harm(observation, ordinary)
    if findings:
        return replace(verdict, status="finding", summary=_explained(observation, account, findings))
    if lossy:
        return replace(
            verdict,
            status="degraded",
            summary=f"Too much was lost to judge: {percent(lost_share(observation))} of the events.",
            next="mmwatch doctor",
        )
    if harm:
        return replace(verdict, status="inconclusive", summary=f"{harm} No rule explains it.", next=_next(observation))
    if not observation.traced and verdict.signs:
        text = f"{number_text(len(verdict.signs), 'sign')} of trouble; only tracing tells who suffers, and how much."
        return replace(verdict, status="inconclusive", summary=text, next=_next(observation))
    if not observation.traced:
        return replace(verdict, summary="No counter of reclaim shows trouble.", next=_next(observation))
    if not observation.known("stall_ns"):
        return replace(
            verdict, status="degraded", summary="No probe tells how long reclaim takes.", next="mmwatch doctor"
        )
    text = f"Tasks spent {time(account.total_ns)} of {time(observation.duration_ns)} in reclaim, all together."
    return replace(verdict, summary=text if account.total_ns else "No task spent time in reclaim.")


def _explained(observation: Observation, account: Account, findings: Sequence[Finding]) -> str:
    numbers = ", ".join(str(number) for number in range(1, len(findings) + 1))
    which = f"finding {numbers}" if len(findings) == 1 else f"findings {numbers}"
    if not account.total_ns:
        return f"Tasks spent no time in reclaim itself; see {which}."
    share = (account.claimed_ns + account.ordinary_ns) / account.total_ns
    text = f"Tasks spent {time(account.total_ns)} in reclaim; {which} and ordinary work explain {percent(share)} of it."
    if not account.ordinary_ns:
        explain = "explains" if len(findings) == 1 else "explain"
        text = f"Tasks spent {time(account.total_ns)} in reclaim; {which} {explain} {percent(share)} of it."
    if account.unexplained > UNEXPLAINED.value and observation.share(account.unexplained_ns) >= HARM.value:
        text = f"{percent(account.unexplained)} of {time(account.total_ns)} in reclaim is not explained. {text}"
    return text


def _harm(observation: Observation, ordinary: Claim) -> str:
    """What is bad, whatever the cause; empty if nothing is."""
    if observation.share(observation.nowhere_ns) >= HARM.value:
        return "The cgroup of many tasks is not known."
    tasks = observation.waiting & (ordinary < observation.stalls_ns)
    if observation.known("stall_ns") and observation.harmful(tasks):
        lost = observation.lost_ns(tasks)
        if observation.share(lost) >= HARM.value:
            return f"Tasks spent {time(lost)} of {time(observation.duration_ns)} in reclaim."
        return f"One reclaim took {time(observation.longest_ns(tasks))} (threshold {time(LONG.value)})."
    # Of what is ordinary, tasks waited at most as long.
    waited = 100 * observation.share(observation.waited_ns - int(ordinary[observation.tasks].sum()))
    if waited >= PRESSURE.value and not observation.session.filter:
        return f"Tasks waited for memory {waited:.1f}% of the time (PSI)."
    return ""


def _next(observation: Observation) -> str:
    if not observation.traced:
        return "sudo mmwatch diagnose"
    if observation.share(observation.lost_ns(observation.tasks)) < COST_MIN.value:
        return "mmwatch diagnose -d 60s"
    return "mmwatch record -d 60s --detail passes, then mmwatch report"


def _caveats(observation: Observation, lossy: bool) -> list[str]:
    found = []
    if not observation.traced:
        found.append("without tracing: counters tell what happened, but not to whom and for how long")
    if lossy and observation.traced:
        found.append(f"{percent(lost_share(observation))} of the events were lost")
    if observation.session.filter:
        found.append("a filter is on: tasks it leaves out were not judged")
    if observation.nowhere_ns:
        found.append(f"tasks whose cgroup is not known spent {time(observation.nowhere_ns)} in reclaim; left out")
    account = observation.account
    if observation.traced and account.ratio is not None and abs(account.ratio - 1) > LOST_MAX.value:
        seen, counted = account.reclaimed_pages or 0, account.vmstat_reclaimed_pages or 0
        if abs(seen - counted) > account.edge_pages:
            found.append(f"only {percent(account.ratio)} of the reclaimed pages are accounted for")
    missing = [probe.need for probe in observation.session.probes if probe.state == "missing" and probe.need in _NEEDED]
    if missing:
        found.append(f"no probe for {', '.join(missing)}: mmwatch doctor says why")
    return found


_NEEDED = frozenset({"direct", "memcg", "node", "kswapd", "batches", "passes", "throttling", "shrinkers", "cpu"})
