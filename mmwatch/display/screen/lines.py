"""The table and the lines around it, as spans. Pure: no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import numpy as np

from mmwatch.diagnosis.observation import Observation
from mmwatch.diagnosis.verdict import Verdict
from mmwatch.display import host
from mmwatch.display.screen.view import Frame
from mmwatch.display.spans import Line, Span, Tone, fitted, width_of
from mmwatch.display.text import cells, field, spark
from mmwatch.display.tones import tones_of
from mmwatch.display.verdict import finding_line, verdict_lines
from mmwatch.model.accounting import Accounting
from mmwatch.model.columns import Column
from mmwatch.model.history import History
from mmwatch.model.interval import Session
from mmwatch.model.measures import PATHS
from mmwatch.model.snapshot import Snapshot
from mmwatch.units import cgroup_text, clean, count_text, pages_text

SIGNS = {Tone.BAD: "!", Tone.WARN: "~"}
"""Signs for the first cell of a line, with the same meaning as the tone's colour."""

_FINDING_MIN = 30

# ---- the table ----


def title_spans(columns: Sequence[Column], sort: Column, widths: Sequence[int]) -> Line:
    """The titles; the column the table is sorted by stands out."""
    line: Line = [Span(" ", Tone.TITLE)]
    for number, (column, width) in enumerate(zip(columns, widths)):
        gap = Span(" ", Tone.TITLE)
        line += [gap] * (number > 0)
        line.append(Span(field(column.title, width, column.left), Tone.GOOD if column is sort else Tone.TITLE))
    return line


def column_at(columns: Sequence[Column], widths: Sequence[int], x: int) -> Column | None:
    """The column at a cell of the table. The gap after a column belongs to it."""
    end = 1
    for column, width in zip(columns, widths):
        end += width + 1
        if x < end:
            return column
    return None


def row_spans(
    frame: Frame,
    columns: Sequence[Column],
    widths: Sequence[int],
    first: int,
    count: int,
    exited: Callable[[int], bool | None],
) -> list[Line]:
    """The visible lines.

    :param exited: whether a process is gone; asked only for rows that did nothing in the interval.
    """
    seen = frame.select(first, count)
    rows = [row for row, _ in seen if row >= 0]
    texts = dict(zip(rows, _cells(frame.snapshot.select(np.array(rows, np.intp)), columns)))
    if frame.headings is not None:
        heads = [row for row, _ in seen if row < 0]
        texts.update(zip(heads, _cells(frame.headings.select(np.array([-1 - row for row in heads], np.intp)), columns)))
    lines = []
    for row, depth in seen:
        cells_of = texts[row]
        if row < 0:
            lines.append(_heading("  " * depth + cgroup_text(frame.names[-1 - row]), cells_of, columns, widths))
            continue
        faded = not frame.active[row]
        gone = faded and exited(int(frame.snapshot.rows["tgid"][row]))
        lines.append(_row(cells_of, columns, widths, depth, "x" if gone else "", faded))
    return lines


def _cells(snapshot: Snapshot, columns: Sequence[Column]) -> list[list[tuple[str, Tone]]]:
    """Text and tone of each cell, one list per row."""
    texts = []
    for column in columns:
        values = column.of(snapshot).tolist()
        texts.append([(column.text(value), tone) for value, tone in zip(values, tones_of(column, snapshot, values))])
    return [list(row) for row in zip(*texts)] or [[] for _ in snapshot.rows]


def _row(
    texts: list[tuple[str, Tone]],
    columns: Sequence[Column],
    widths: Sequence[int],
    depth: int,
    sign: str,
    faded: bool,
) -> Line:
    worst = Tone.DIM if faded else _worst(texts)
    line: Line = [Span(sign or SIGNS.get(worst, " "), worst)]
    indented = next((index for index, column in enumerate(columns) if column.left), -1) if depth else -1
    for index, ((text, tone), column, width) in enumerate(zip(texts, columns, widths)):
        if index == indented:
            text = "  " * min(depth, width // 4) + text
        shown = field(text, width, column.left, column.keep_end)
        line.append(Span(f" {shown}" if index else shown, Tone.DIM if faded else tone))
    return _joined(line)


def _worst(texts: list[tuple[str, Tone]]) -> Tone:
    tones = [tone for _, tone in texts]
    return next((tone for tone in (Tone.BAD, Tone.WARN) if tone in tones), Tone.PLAIN)


def _heading(name: str, texts: list[tuple[str, Tone]], columns: Sequence[Column], widths: Sequence[int]) -> Line:
    """The name replaces the columns that say who a row is."""
    who = 0
    while who < len(columns) and columns[who].key in ("pid", "tid", "comm", "path", "cgroup", "target", "command"):
        who += 1
    who = max(who, 1)
    worst = _worst(texts)
    name = field(name, sum(widths[:who]) + who - 1, left=True)
    line: Line = [Span(SIGNS.get(worst, " "), worst), Span(name, Tone.TITLE)]
    for (text, tone), column, width in list(zip(texts, columns, widths))[who:]:
        line.append(Span(" " + field(text, width, column.left), tone))
    return _joined(line)


def _joined(line: Line) -> Line:
    """Join neighbours of the same tone: fewer spans to draw."""
    joined: Line = []
    for span in line:
        if joined and joined[-1].tone == span.tone:
            joined[-1] = Span(joined[-1].text + span.text, span.tone)
        else:
            joined.append(span)
    return joined


# ---- the host ----


def node_spans(snapshot: Snapshot, width: int, most: int) -> list[Line]:
    """A line for each NUMA node, with a sign in the first cell."""
    return [fitted(_signed(line), width) for line in host.node_lines(snapshot, most)]


def _signed(line: Line) -> Line:
    """The line with its leading blank replaced by the sign of the first span's tone."""
    (first, *rest) = line
    sign = SIGNS.get(first.tone)
    return [Span(sign + first.text[1:], first.tone), *rest] if sign else line


def elsewhere_spans(snapshot: Snapshot, width: int) -> list[Line]:
    """Lines for nodes that were reclaimed while another had memory to spare."""
    return [[Span(text, Tone.BAD)] for text in host.elsewhere_lines(snapshot, width)]


def finding_spans(verdict: Verdict | None, width: int) -> list[Line]:
    """The first finding of the last seconds, and the key that opens the verdict."""
    line = finding_line(verdict)
    if not line or width < _FINDING_MIN:
        return []
    key = "  v: why"
    return [[Span(field(line, width - len(key), left=True), Tone.BAD), Span(key, Tone.TITLE)]]


def verdict_spans(judged: tuple[Verdict, Observation] | None, width: int) -> list[Line]:
    """The whole verdict on the last seconds."""
    if judged is None:
        return [[Span(" no interval is over yet", Tone.DIM)]]
    return [[Span(line)] for line in verdict_lines(*judged, verbose=True, width=min(width, 100))]


def state_spans(snapshot: Snapshot, width: int) -> list[Line]:
    """What controls reclaim, with a sign before each fact that is bad or worth a look."""
    facts = host.state_facts(snapshot)
    return _beside([fact._replace(text=f"{SIGNS.get(fact.tone, '')}{fact.text}") for fact in facts], width)


def rate_spans(history: History, width: int) -> list[Line]:
    """Time in reclaim by path over time, the newest at the right, each scaled to its own highest; and since when."""
    rates = history.rates
    paths = [path for path in PATHS if any(path in rate for rate in rates)]
    if not paths:
        return []
    beside = max(1, min(len(paths), width // 40))
    lines: list[Line] = []
    for start in range(0, len(paths), beside):
        line: Line = []
        for path in paths[start : start + beside]:
            bars = width // beside - 32
            values = [rate.get(path, 0.0) for rate in list(rates)[-bars:]] if bars > 0 else []
            text = f"{100 * rates[-1].get(path, 0.0):6.1f}% stall {_lasting(history.lasts_s(path)):7}"
            line += [Span(f" {path:9}", Tone.DIM), Span(spark(values).rjust(bars), Tone.BAR), Span(text)]
        lines.append(fitted(line, width))
    return lines


def _lasting(found: tuple[float, bool] | None) -> str:
    """``12s``, or ``12s+`` if it may have begun before mmwatch did."""
    if found is None:
        return ""
    seconds, at_least = found
    text = (
        f"{seconds:.0f}s" if seconds < 100 else f"{seconds / 60:.0f}m" if seconds < 6000 else f"{seconds / 3600:.0f}h"
    )
    return f"{text}+" if at_least else text


# ---- the account ----


def health_spans(snapshot: Snapshot, total: Accounting, session: Session, bpf_ns: int | None, width: int) -> list[Line]:
    """How much of the kernel's count was seen, what is missing, and mmwatch's cost; shorter if that saves a line."""
    loss, counts = total.loss, snapshot.accounting
    share = host.share_text(counts.reclaimed_pages, counts.vmstat_reclaimed_pages)
    so_far = host.share_text(total.reclaimed_pages, total.vmstat_reclaimed_pages)
    if total.incomparable:
        accounted = Span(f"accounted: {clean(total.incomparable)}", Tone.DIM)
    else:
        off = abs((total.reclaimed_pages or 0) - (total.vmstat_reclaimed_pages or 0)) > total.edge_pages
        tone = Tone.WARN if off else Tone.GOOD
        accounted = Span(f"{SIGNS.get(tone, '')}accounted {so_far}", tone)
    single = sum(loss.lost.values()) + sum(loss.suppressed.values())
    kinds = (
        (loss.table_full, "not attributed: the table was full"),
        (loss.unmatched_begin, "reclaims without an end"),
        (loss.unmatched_end, "reclaims without a begin"),
        (loss.missed_runs, "program runs missed"),
    )
    lost = [Span(f"!{number} {what}", Tone.BAD) for number, what in kinds if number]
    lost = lost or [Span("nothing lost" if loss.missed_runs is not None else "nothing lost, missed ?")]
    lost += [Span(f"{loss.under_way} under way at the start", Tone.DIM)] if loss.under_way else []
    probes = [f"{probe.need} {probe.state}" for probe in session.probes if probe.state in ("degraded", "missing")]
    cost = snapshot.interval.cost
    percent = 100 / max(snapshot.interval.duration_ns, 1)
    known = cost.cpu_ns or cost.rss_bytes
    own = f"{cost.cpu_ns * percent:.1f}% {pages_text(cost.rss_bytes, 1)}" if known else "?"
    bpf = "?" if bpf_ns is None else f"{bpf_ns * percent:.2f}%"
    parts = [
        accounted,
        *lost,
        *([Span(f"~single records lost {single}", Tone.WARN)] if single else []),
        Span(", ".join(probes) or "probes ok", Tone.WARN if probes else Tone.PLAIN),
        Span(f"self {own}  BPF {bpf}", Tone.DIM),
    ]
    if total.incomparable:
        return _beside(parts, width)
    edge = ""
    if so_far != "100.00%" and total.edge_pages and not off:  # read at two instants, so no page is known to be missing
        edge = f" (±{count_text(total.edge_pages)} pages)"
    more = accounted._replace(text=f"{accounted.text}{edge} since the start, {share} of this interval")
    long = _beside([more, *parts[1:]], width)
    return long if len(long) == 1 else _beside(parts, width)


def _beside(parts: Sequence[Span], width: int) -> list[Line]:
    """Spans side by side, on as many lines as needed."""
    lines: list[Line] = [[]]
    for part in parts:
        if lines[-1] and width_of(lines[-1]) + 2 + cells(part.text) > width:
            lines.append([])
        lines[-1] += [Span("  " if lines[-1] else " "), part]
    return [fitted(line, width) for line in lines]


# ---- first and last line ----


def top_line(session: Session, snapshot: Snapshot, flags: Iterable[str], headline: str, width: int) -> Line:
    """Time and host, and anything unusual. What may change (paused, recording) comes first."""
    when = datetime.fromtimestamp(snapshot.interval.end_s).strftime("%Y-%m-%d %H:%M:%S")
    line: Line = [Span(" mmwatch", Tone.TITLE), Span(f"  {when}  {clean(session.hostname) or '?'}")]
    if session.filter:
        line.append(Span(f"  only {host.filter_text(session.filter)}", Tone.WARN))
    for flag in (*flags, headline):
        line += [Span(f"  {flag}", Tone.WARN)] if flag else []
    line.append(Span(f"  {clean(session.kernel) or '?'}", Tone.DIM))
    return fitted(line, width)


def key_line(keys: Sequence[tuple[str, str]], width: int) -> Line:
    """Keys and what they do, as many as fit."""
    line: Line = []
    for key, what in keys:
        more = [Span(f" {key}", Tone.TITLE), Span(f" {what} ", Tone.DIM)]
        if width_of(line) + width_of(more) > width:
            break
        line += more
    return line
