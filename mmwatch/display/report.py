"""A recording as lines of plain text: ``mmwatch report``."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from statistics import median

from mmwatch.display.host import accounting_line, elsewhere_lines, filter_text, local_time
from mmwatch.display.table import Order, table_lines
from mmwatch.display.text import ASCII_BLOCKS, fit, join, spark
from mmwatch.model.accounting import Accounting
from mmwatch.model.arrangement import active_order
from mmwatch.model.columns import BY_KEY, Column
from mmwatch.model.course import Stretch
from mmwatch.model.snapshot import Snapshot, take
from mmwatch.units import clean, count_text, ratio_text

_TOTALS = "path reclaims_total reclaimed_total scanned_total efficiency priority overshoot stall_total p50 p99 longest"


def report_lines(
    snapshot: Snapshot,
    columns: Sequence[Column],
    order: Order,
    width: int | None,
    limit: int | None = None,
    course: Sequence[Stretch] = (),
) -> list[str]:
    """A recording: its session, its course, totals by path, the account, and the table of ``columns`` and ``order``."""
    session = snapshot.session
    by_path = take(session, snapshot.interval, "path")
    lines = join(
        [
            f"recorded {local_time(course[0].begin_s if course else session.start_s, zone=True)}",
            f"for {_duration(snapshot.duration_s)}",
            f"on {clean(session.hostname) or '?'}",
            f"kernel {clean(session.kernel) or '?'}",
            f"only {filter_text(session.filter)}" if session.filter else "no filter",
        ],
        width,
        ", ",
    )
    lines += [fit(line, width) for line in course_lines(course)]
    paths = active_order(by_path, BY_KEY["stall_total"])
    lines += ["", *table_lines(by_path, [BY_KEY[key] for key in _TOTALS.split()], paths, width, None, "recording")]
    lines += ["", *elsewhere_lines(snapshot, width), accounting_line(snapshot.accounting, width)]
    lines += refault_lines(snapshot.accounting, width)
    return [*lines, "", *table_lines(snapshot, columns, order, width, limit, "recording")]


def refault_lines(counts: Accounting, width: int | None) -> list[str]:
    """How many of the pages reclaimed on the host were refaulted soon after."""
    pages = counts.refaulted_pages
    if pages is None:
        return [fit("refaults unknown: /proc/vmstat does not count them", width)]
    taken = counts.vmstat_reclaimed_pages
    share = f", {ratio_text(pages / taken)}% of the pages reclaimed" if taken else ""
    line = f"refaults {pages} pages came back soon after they were reclaimed{share} (whole host)"
    return [line] if width is None else textwrap.wrap(line, max(width, 20))


def course_lines(course: Sequence[Stretch]) -> list[str]:
    """Rates over time, one mark per stretch. Nothing if there are fewer than two stretches."""
    if len(course) < 2:
        return []
    seconds = median(stretch.duration_s for stretch in course)
    shares = [stretch.stall_ns / 1e7 / max(stretch.duration_s, 1e-9) for stretch in course]
    begin, end = _clock(course[0].begin_s), _clock(course[-1].end_s)
    most = max(zip(shares, course), key=lambda pair: pair[0])[1]
    worst = f"most time in reclaim: {_clock(most.begin_s)} to {_clock(most.end_s)}"
    lines = ["", f"{begin} to {end}, {seconds:.3g}s each mark; {worst}"]
    if all(stretch.reclaimed_pages is not None for stretch in course):
        rates = [(stretch.reclaimed_pages or 0) / max(stretch.duration_s, 1e-9) for stretch in course]
        lines.append(f"RECL/s |{spark(rates, ASCII_BLOCKS)}| up to {count_text(max(rates))}")
    return [*lines, f"STALL% |{spark(shares, ASCII_BLOCKS)}| up to {max(shares):.1f}"]


def _clock(time_s: float) -> str:
    return local_time(time_s).partition(" ")[2]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}h{minutes % 60:02}m{rest:02}s" if minutes >= 60 else f"{minutes}m{rest:02}s"
