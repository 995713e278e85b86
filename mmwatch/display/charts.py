"""Bar charts of a task: its priority ladder, the times of its reclaims, their allocation orders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmwatch.display.spans import Line, Span, Tone
from mmwatch.display.text import cells, field, join
from mmwatch.display.tones import PRIORITY_BAD
from mmwatch.model.accounting import is_known
from mmwatch.model.columns import BY_KEY
from mmwatch.model.interval import Interval, Session
from mmwatch.model.records import gfp_names
from mmwatch.model.rows import Rows, bucket_edges_ns
from mmwatch.model.snapshot import Snapshot, take
from mmwatch.units import count_text, ns_text, ratio_text

LATENCY_LINES = 12
"""If there are more octaves than this, a line covers several."""

_EDGES_NS = bucket_edges_ns()
_EIGHTHS = " ▏▎▍▌▋▊▉"


def heading(text: str, explained: str = "") -> Line:
    """The title of a section."""
    return [Span(text, Tone.TITLE), *([Span(f"  {explained}", Tone.DIM)] if explained else [])]


def _bar(share: float, width: int, ascii_only: bool) -> str:
    """A bar that covers ``share`` of ``width`` cells. Any share above 0 is visible."""
    if share <= 0:
        return ""
    if ascii_only:
        return "#" * max(1, round(share * width))
    whole, eighths = divmod(max(1, round(share * width * 8)), 8)
    return "█" * whole + _EIGHTHS[eighths].strip()


def _chart(
    labels: Sequence[str], counts: Sequence[int], width: int, ascii_only: bool, bad: Sequence[bool] = ()
) -> list[Line]:
    """A bar for each count, with its number and share. ``bad`` lines have a ``!``."""
    total, most = sum(counts), max(counts)
    room = max(8, width - max(map(cells, labels)) - 18)
    lines: list[Line] = []
    for index, (label, count) in enumerate(zip(labels, counts)):
        is_bad = bool(bad) and bad[index] and count > 0
        bar = field(_bar(count / most, room, ascii_only), room, left=True)
        share = f"{ratio_text(count / total)}%" if count else "-"
        lines.append(
            [
                Span(f"{label}{'!' if is_bad else ' '} ", Tone.BAD if is_bad else Tone.PLAIN),
                Span(bar, Tone.BAD if is_bad else Tone.BAR),
                Span(f" {count_text(count, 7) if count else '-':>7} {share:>6}", Tone.PLAIN if count else Tone.DIM),
            ]
        )
    return lines


def ladder(session: Session, rows: Rows, width: int, ascii_only: bool, marked: bool) -> list[Line]:
    """Passes at each scan priority, or batches where passes are not seen.

    :param marked: mark the low priorities as bad.
    """
    for name, what in (("pass_histogram", "passes"), ("priority_histogram", "batches")):
        counts = rows[name].sum(axis=0).tolist()
        if not is_known(session, name) or not any(counts):
            continue
        seen = [priority for priority, count in enumerate(counts) if count]
        rungs = list(range(max(seen), min(seen) - 1, -1))
        chart = _chart(
            [f"{rung:3}" for rung in rungs],
            [counts[rung] for rung in rungs],
            width,
            ascii_only,
            [marked and rung <= PRIORITY_BAD for rung in rungs],
        )
        return [heading("PRIORITY", f"{what} at each priority; 0 scans the whole list"), *chart]
    known = is_known(session, "pass_histogram") or is_known(session, "priority_histogram")
    return [[*heading("PRIORITY"), Span(f"  {'-' if known else '?'}")]]


def latency(session: Session, interval: Interval, width: int, ascii_only: bool) -> list[Line]:
    """Reclaims by how long they took, and percentiles."""
    if not is_known(session, "stall_histogram"):
        return [[*heading("TIME OF A RECLAIM"), Span("  ?")]]
    counts = interval.rows["stall_histogram"].sum(axis=0)
    seen = np.flatnonzero(counts)
    if not len(seen):
        return []
    whole = _whole(session, interval)
    marks = [f"{key} {BY_KEY[key].text(BY_KEY[key].of(whole)[0])}" for key in ("p50", "p99", "longest")]
    # Octaves begin at bucket 1; bucket 0 stands alone.
    first, last = (int(seen[0]) + 3) // 4, (int(seen[-1]) + 3) // 4
    many = -(-(last - first + 1) // LATENCY_LINES)
    labels, sums = [], []
    for octave in range(first, last + 1, many):
        begin, end = max(0, 4 * octave - 3), min(4 * (octave + many) - 3, len(counts))
        labels.append(f"from {ns_text(float(_EDGES_NS[begin])):>6}")
        sums.append(int(counts[begin:end].sum()))
    return [heading("TIME OF A RECLAIM", "  ".join(marks)), *_chart(labels, sums, width, ascii_only)]


def _whole(session: Session, interval: Interval) -> Snapshot:
    """Everything as one row of a snapshot by path, for columns that are not sums."""
    rows = interval.rows.copy()
    rows["path"] = rows["path"][0]
    return take(session, Interval(interval.end_s, interval.duration_ns, rows), "path")


def orders(session: Session, rows: Rows, width: int, ascii_only: bool) -> list[Line]:
    """Reclaims by allocation order, and the gfp flags of the latest."""
    if not is_known(session, "order_histogram"):
        return [[*heading("ORDER"), Span("  ?")]]
    counts = rows["order_histogram"].sum(axis=0).tolist()
    seen = [order for order, count in enumerate(counts) if count]
    if not seen:
        return []
    if seen == [0]:
        lines: list[Line] = [[Span("ORDER", Tone.TITLE), Span(f"  0 in all {counts[0]} reclaims")]]
    else:
        chart = _chart([f"{order:3}" for order in seen], [counts[order] for order in seen], width, ascii_only)
        lines = [heading("ORDER", "reclaims for 2^order contiguous pages"), *chart]
    label = "gfp flags of the latest "
    names = ["?"]
    if is_known(session, "gfp_flags"):
        names = gfp_names(int(rows["gfp_flags"][np.argmax(rows["start_ns"])]), session.gfp_flags)
    for index, part in enumerate(join(names, max(20, width - len(label)), " ")):
        lines.append([Span(" " * len(label) if index else label), Span(part)])
    return lines
