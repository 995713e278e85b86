"""The JSON of ``diagnose --json`` and ``report --verdict --json``, and the verdict in that of ``top`` and ``replay``;
tests/contract/test_json.py pins its keys."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mmwatch.diagnosis.answers import Evidence
from mmwatch.diagnosis.judge import lost_share
from mmwatch.diagnosis.observation import Observation
from mmwatch.diagnosis.subject import Subject
from mmwatch.diagnosis.verdict import Finding, Verdict
from mmwatch.model.json import accounting_json, shrinkers_json

SCHEMA = 1


def to_json(verdict: Verdict, observation: Observation, of: Subject | None = None) -> dict[str, Any]:
    """A verdict as one object; every figure of the text is in it.

    :param of: the process or cgroup that the user asked about.
    """
    session, whole, account = observation.session, observation.whole, verdict.account
    return {
        "schema": SCHEMA,
        "status": verdict.status,
        "summary": verdict.summary,
        "traced": verdict.traced,
        "begin": observation.begin_s,
        "end": whole.end_s,
        "duration_ns": whole.duration_ns,
        "account": {
            "total_ns": account.total_ns,
            "claimed_ns": account.claimed_ns,
            "ordinary_ns": account.ordinary_ns,
            "unexplained_ns": account.unexplained_ns,
            "kswapd_ns": account.kswapd_ns,
            "kswapd_claimed_ns": account.kswapd_claimed_ns,
        },
        "findings": [_finding(finding) for finding in verdict.findings],
        "rejected": [{"id": one.rule.id, "state": one.state, "reason": one.reason} for one in verdict.rejected],
        "signs": [_evidence(one) for one in verdict.signs],
        "avoidable": asdict(verdict.avoidable),
        "quality": {
            "lost_ratio": lost_share(observation) if verdict.traced else None,
            "caveats": list(verdict.caveats),
            "paths": [probe.need for probe in session.probes if probe.state == "attached"],
            "accounting": accounting_json(observation.account),
        },
        "next": verdict.next or None,
        "subject": asdict(of) if of else None,
        "inside": [asdict(one) for one in observation.last.inside],
        "shrinkers": shrinkers_json(whole.shrinkers),
        "counters": {"since_boot": dict(session.since_boot), "grown": dict(whole.vmstat)},
        "pressure": dict(whole.pressure) or None,
        "memory": dict(whole.memory),
        "nodes": [{**asdict(node), "kswapd": whole.kswapd.get(node.node)} for node in whole.nodes],
        "cgroups": [{"cgroup": path, **asdict(memory)} for path, memory in sorted(observation.limited.items())],
        "host": {
            "topology": {str(node): asdict(place) for node, place in session.topology.items()},
            "uptime_s": session.uptime_s,
            "hostname": session.hostname,
            "kernel": session.kernel,
            "version": session.version,
            "filter": dict(session.filter),
            "settings": {**session.settings, **observation.last.settings},
        },
    }


def brief(verdict: Verdict, observation: Observation) -> dict[str, Any]:
    """``verdict`` of ``top --json`` and ``replay --json``: what the last seconds show, without the evidence."""
    return {
        "status": verdict.status,
        "summary": verdict.summary,
        "begin": observation.begin_s,
        "end": observation.whole.end_s,
        "findings": [_brief(finding) for finding in verdict.findings],
    }


def _brief(finding: Finding) -> dict[str, Any]:
    return {
        "id": finding.rule.id,
        "title": finding.rule.title,
        "severity": finding.severity,
        "confidence": finding.confidence,
        "uncalibrated": finding.rule.uncalibrated or None,
        "summary": finding.found.summary,
        "claims_ns": finding.claims_ns,
        "kswapd_claims_ns": finding.kswapd_claims_ns,
        "cost_ns": finding.found.cost_ns,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    found = finding.found
    return {
        **_brief(finding),
        "cost": list(found.cost),
        "evidence": [_evidence(one) for one in found.evidence],
        "against": [_evidence(one) for one in found.against],
        "who": [asdict(one) for one in finding.who],
        "nodes": list(found.nodes),
        "cgroups": list(found.cgroups),
        "cause": found.cause,
        "remedy": {
            "advice": found.remedy.advice,
            "commands": list(found.remedy.commands),
            "undo": list(found.remedy.undo),
            "persistent": found.remedy.persistent or None,
            "risk": found.remedy.risk or None,
        },
        "resolves": asdict(found.resolves) if found.resolves else None,
        "next": found.next or None,
    }


def _evidence(one: Evidence) -> dict[str, Any]:
    return {
        "label": one.label,
        "text": one.text,
        "observed": one.observed,
        "threshold": one.threshold,
        "unit": one.unit or None,
        "source": one.source,
    }
