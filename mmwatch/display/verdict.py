"""A verdict as text of 80 columns: the answer first, then why, what was ruled out, what to change, how to undo it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from mmwatch.diagnosis.answers import Evidence, Remedy
from mmwatch.diagnosis.observation import Observation
from mmwatch.diagnosis.subject import Subject
from mmwatch.diagnosis.thresholds import HARM, LONG
from mmwatch.diagnosis.verdict import Finding, Rejected, Verdict
from mmwatch.display.host import accounting_line, filter_text, local_time
from mmwatch.display.look import look_lines
from mmwatch.display.text import fit
from mmwatch.model.interval import Inside
from mmwatch.units import clean, count_text, ns_text, number_text, pages_text, ratio_text

WIDTH = 80
_HEAD = 9
INSIDE_MAX, NAMED_MAX = 5, 6
EVIDENCE_MAX = 6
"""So many pieces of evidence are shown for a finding unless all are asked for."""
_TELLING = ("direct-reclaim", "memcg-limit", "cache-thrash", "swap-storm", "zone-reclaim-thrash", "kswapd-hopeless")
"""What a reader suspects first: these are named among what was ruled out."""


def verdict_lines(
    verdict: Verdict,
    observation: Observation,
    verbose: bool = False,
    width: int = WIDTH,
    of: Subject | None = None,
) -> list[str]:
    """The whole text.

    :param verbose: all findings in full, and all rules.
    :param width: cells of a line, at least 60.
    :param of: the process or cgroup that the user asked about.
    """
    width = max(width, 60)
    lines = _head(verdict, observation, width)
    if of is not None:
        lines += ["", *_subject(of, width)]
    look = _labelled("SIGNS", [(one.label, one.text) for one in verdict.signs], width, 21) if verdict.signs else []
    look += ["", *(fit(line, width) for line in look_lines(observation))]
    if not verdict.traced:
        lines += look
    for number, finding in enumerate(verdict.findings, 1):
        lines.append("")
        if number == 1 or verbose:
            lines += _finding(verdict, finding, number, verbose, width)
        else:
            lines += _short(finding, number, width)
    if verdict.traced and verbose:
        lines += ["", *look]
    lines += ["", *_tail(verdict, observation, verbose, width)]
    return lines


def headline(verdict: Verdict) -> str:
    """The verdict in one line."""
    if not verdict.findings:
        return f"{verdict.status}: {verdict.summary}"
    first = verdict.findings[0]
    more = f" (and {len(verdict.findings) - 1} more)" if len(verdict.findings) > 1 else ""
    return f"{first.rule.id}{more}: {first.found.summary}"


def finding_line(verdict: Verdict | None) -> str:
    """The first finding in one line; empty if there is none."""
    return f"! {headline(verdict)}" if verdict is not None and verdict.findings else ""


def _head(verdict: Verdict, observation: Observation, width: int) -> list[str]:
    session = observation.session
    host = clean(session.hostname) or "?"
    looked = f"{ns_text(observation.duration_ns)} until {local_time(observation.whole.end_s, zone=True)}"
    by = "" if verdict.traced else ", as far as counters tell,"
    lines = _wrapped("", f"{verdict.status.upper()}{by} on {host}, kernel {clean(session.kernel) or '?'}", width)
    lines += _wrapped("", f"looked at for {looked}", width)
    if session.filter:
        lines += _wrapped("", f"only {filter_text(session.filter)}", width)
    lines += _wrapped("", verdict.summary, width)
    if verdict.avoidable.stall_ns or verdict.avoidable.futile:
        pages = pages_text(verdict.avoidable.reclaimed_pages, session.page_size)
        freed = f" and {pages} reclaimed by tasks" if verdict.avoidable.reclaimed_pages else ""
        lines += _wrapped(
            "",
            f"Avoidable: {ns_text(verdict.avoidable.stall_ns)} in reclaim{freed}, because another node was above its "
            "high watermark at the time.",
            width,
        )
    return lines


def _subject(of: Subject, width: int) -> list[str]:
    """How much of its time went to reclaim, and what else it waited for."""
    share = of.stall_ns / max(of.duration_ns, 1)
    parts = []
    if of.on_cpu_ns is not None:
        parts.append(f"{ns_text(of.on_cpu_ns)} of it on a CPU, {ns_text(max(of.stall_ns - of.on_cpu_ns, 0))} asleep")
    if of.throttled_ns:
        parts.append(f"{ns_text(of.throttled_ns)} throttled")
    lines = _wrapped(
        "",
        f"{of.name} spent {ns_text(of.stall_ns)} of {ns_text(of.duration_ns)} ({ratio_text(share)}%) in reclaim"
        + (f", with {of.tasks} threads" if of.tasks > 1 else "")
        + (f": {', '.join(parts)}." if parts and of.stall_ns else "."),
        width,
    )
    other = [
        f"{what} {ns_text(value)}"
        for what, value in (
            ("user CPU", of.user_ns),
            ("system CPU", of.system_ns),
            ("waits for block I/O", of.io_wait_ns),
            ("of that for page cache reclaimed before", of.refault_wait_ns),
            ("of that for swap", of.swap_wait_ns),
            ("waits for memory (PSI)", of.memory_wait_ns),
        )
        if value is not None
    ]
    other += [f"{count_text(of.major_faults, 9)} major faults"] if of.major_faults is not None else []
    other += [f"{count_text(of.refaults, 9)} pages refaulted"] if of.refaults is not None else []
    if other:
        lines += _wrapped("", f"Besides: {', '.join(other)}.", width)
    if of.io_wait_ns is None:
        lines += _wrapped("", "How long it waited for I/O is not known: mmwatch doctor says why.", width)
    if share < HARM.value:
        lines += _wrapped("", "Reclaim itself is not what makes it slow.", width)
    return lines


def _finding(verdict: Verdict, finding: Finding, number: int, verbose: bool, width: int) -> list[str]:
    found = finding.found
    for_it, against = len(found.evidence), len(found.against)
    title = f"{number}  {finding.rule.id}: {finding.rule.title}"
    sure = f"{finding.severity}; confidence {finding.confidence}: {for_it} signs for it, {against or 'none'} against"
    if finding.rule.uncalibrated:
        sure += f", but the rule is not calibrated ({finding.rule.uncalibrated})"
    lines = [*_wrapped("", title, width, 3), *_wrapped("   ", sure, width)]
    lines += _wrapped("   ", found.summary, width)
    if finding.claims_ns and verdict.account.total_ns and len(verdict.findings) > 1:
        share = ratio_text(finding.claims_ns / verdict.account.total_ns)
        lines += _wrapped("   ", f"This explains {share}% of the time that tasks spent in reclaim.", width)
    shown = found.evidence if verbose else found.evidence[:EVIDENCE_MAX]
    lines += _labelled("WHY", [(one.label, _text(one, verbose)) for one in shown], width)
    lines += _labelled("AGAINST", [(one.label, _text(one, verbose)) for one in found.against], width)
    lines += _labelled("COST", [("", cost) for cost in found.cost], width)
    if verbose or number == 1:
        lines += _labelled("CAUSE", [("", found.cause)], width)
    lines += _labelled("EXCLUDED", [(one.rule.id, one.reason) for one in _ruled_out(verdict.rejected)], width, 20)
    lines += _fix(found.remedy, width)
    if found.resolves:
        one = found.resolves
        value = f"{100 * one.value:g}%" if one.unit == "ratio" and one.value <= 1 else f"{one.value:g}"
        value += "/s" if one.unit == "1/s" else ""
        same = f", with as many {one.normaliser} a second" if one.normaliser else ""
        lines += _labelled("FIXED IF", [("", f"{one.metric} {one.op} {value}{same}")], width)
    if found.next:
        lines += _labelled("MORE", [("", found.next)], width)
    return lines


def _fix(remedy: Remedy, width: int) -> list[str]:
    """Commands stand on lines of their own, whole, so that they can be copied."""
    lines = _labelled("FIX", [("", remedy.advice)], width)
    lines += [f"{'':{_HEAD}}  {command}" for command in remedy.commands]
    if remedy.undo:
        lines += [f"{'':{_HEAD}}undo:", *(f"{'':{_HEAD}}  {command}" for command in remedy.undo)]
    if remedy.persistent:
        text = f"permanent: {remedy.persistent}"
        lines += [f"{'':{_HEAD}}{text}"] if ">/etc/" in text else _wrapped(" " * _HEAD, text, width)
    return lines + (_wrapped(" " * _HEAD, f"risk: {remedy.risk}", width) if remedy.risk else [])


def _short(finding: Finding, number: int, width: int) -> list[str]:
    lines = _wrapped(f"{number}  ", f"{finding.rule.id}: {finding.found.summary}", width)
    return lines + [f"   fix: {command}" for command in finding.found.remedy.commands]


def _text(one: Evidence, verbose: bool) -> str:
    return f"{one.text} ({one.source})" if verbose else one.text


def _ruled_out(rejected: Sequence[Rejected]) -> list[Rejected]:
    """What a reader would ask about."""
    clear = {one.rule.id: one for one in rejected if one.state == "clear"}
    return [clear[name] for name in _TELLING if name in clear][:3]


def _tail(verdict: Verdict, observation: Observation, verbose: bool, width: int) -> list[str]:
    lines: list[str] = []
    for title, state in (("CHECKED", "clear"), ("OTHERWISE", "explained"), ("UNKNOWN", "unknown")):
        of_state = [one for one in verdict.rejected if one.state == state]
        if verbose:
            lines += _labelled(title, [(one.rule.id, one.reason) for one in of_state], width, 22)
        elif of_state and (state == "unknown" or not verdict.findings):
            names = ", ".join(one.rule.id for one in of_state)
            if len(of_state) > NAMED_MAX:
                traced = state == "clear" or verdict.traced
                names = "-v shows what each saw" if traced else "they need tracing"
            lines += _labelled(title, [("", f"{number_text(len(of_state), 'rule')}: {names}")], width)
    inside = [one for one in observation.last.inside if verbose or one.age_ns >= LONG.value][:INSIDE_MAX]
    lines += _labelled("NOW", [("", _inside(one)) for one in inside], width)
    for caveat in verdict.caveats:
        lines += _labelled("CAVEAT", [("", caveat)], width)
    if verdict.traced:
        lines += _labelled("DATA", [("", accounting_line(observation.account, None))], width)
    if verdict.next:
        lines += _labelled("NEXT", [("", verdict.next)], width)
    return [*lines, "mmwatch changed nothing on this host."]


def _inside(one: Inside) -> str:
    """A reclaim that was under way at the end."""
    node = "" if one.node is None else f" on node {one.node}"
    return f"{one.comm or '?'}[{one.tgid}] has been in {one.path} reclaim{node} for {ns_text(one.age_ns)}"


def _labelled(title: str, entries: Sequence[tuple[str, str]], width: int, label_width: int = 11) -> list[str]:
    """Entries below each other, the first one beside the title."""
    lines: list[str] = []
    for label, text in entries:
        head = f"{'' if lines else title:<{_HEAD}}" + (f"{label:<{label_width}}" if label else "")
        lines += _wrapped(head, text, width, min(len(head), width // 2))
    return lines


def _wrapped(head: str, text: str, width: int, indent: int | None = None) -> list[str]:
    """Wrapped, never cut: the end matters. Commands stay whole words, so that they can be copied."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=head,
        subsequent_indent=" " * (len(head) if indent is None else indent),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [head.rstrip()]
