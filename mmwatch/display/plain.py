"""The header and the table of ``mmwatch top`` and ``mmwatch report``, as lines of plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from mmwatch.display.text import ASCII_BLOCKS, cells, field, fit, join, spark
from mmwatch.model.columns import BY_KEY, Column, active_order
from mmwatch.model.interval import Node, Stretch
from mmwatch.model.nodes import elsewhere, matrix
from mmwatch.model.snapshot import SUMS, Accounting, Snapshot, take
from mmwatch.units import clean, count_text, ns_text, pages_text

NODES_MAX = 8
"""More nodes than this are folded to the worst ones, in as many lines."""
TEXT_MIN = 6
"""Cells below which no column of text shrinks."""

_ENDLESS = 0
"""A column's width: as long as its text."""

Order = npt.NDArray[np.intp]


# ---- header ----


def host_lines(snapshot: Snapshot, width: int | None, cumulative: Accounting | None = None) -> list[str]:
    """The host: when and where, its nodes, what decides about reclaim, and how complete the figures are.

    :param width: of the terminal; None for no limit.
    :param cumulative: since the start; shown below the interval's.
    """
    session = snapshot.session
    parts = [_local_time(snapshot.interval.end_s), clean(session.hostname) or "?", clean(session.kernel) or "?"]
    parts.append(f"interval {snapshot.duration_s:.2f}s")
    cost = snapshot.interval.cost
    if cost.cpu_ns or cost.rss_bytes:
        share = 100 * cost.cpu_ns / max(snapshot.interval.duration_ns, 1)
        parts.append(f"mmwatch {_percent(share)} {pages_text(cost.rss_bytes, 1)}")
    lines = join(parts, width)
    if session.filter:
        lines.append(fit(f"only {filter_text(session.filter)}", width))
    lines += node_lines(snapshot, width)
    lines += elsewhere_lines(snapshot, width)
    lines += join(state_parts(snapshot), width)
    lines.append(accounting_line(snapshot.accounting, width))
    if cumulative is not None:
        lines.append(accounting_line(cumulative, width, "so far  "))
    return lines


def _local_time(time_s: float, zone: bool = False) -> str:
    local = datetime.fromtimestamp(time_s).astimezone()
    return local.strftime("%Y-%m-%d %H:%M:%S %z" if zone else "%Y-%m-%d %H:%M:%S")


def filter_text(chosen: Mapping[str, Any]) -> str:
    """``pid 123 children, comm python3``; what was asked for, clean."""
    words = []
    for name, value in chosen.items():
        if value is True:
            words.append(clean(name))
        elif value not in (None, False, "", [], ()):
            values = value if isinstance(value, (list, tuple)) else [value]
            words.append(f"{clean(name)} {','.join(clean(str(one)) for one in values)}")
    return ", ".join(words) or "a part"


# ---- nodes ----

_SEGMENT = 4  # cells of the gauge between two watermarks
_GAUGE_TITLE = "0   min  low  high   "


def gauge(node: Node) -> str:
    """Where free memory stands between the watermarks, 21 cells: ``[####m####l##..h....]``.

    Filled up to free; each of the four stretches (to min, low, high, twice high) has the same width, so the marks
    stand still. Empty where the kernel does not tell.
    """
    height = free_height(node)
    if height is None:
        return ""
    filled = height * _SEGMENT
    bars = ["".join("#" if s * _SEGMENT + c + 0.5 <= filled else "." for c in range(_SEGMENT)) for s in range(4)]
    return f"[{bars[0]}m{bars[1]}l{bars[2]}h{bars[3]}]"


def free_height(node: Node) -> float | None:
    """How high free memory stands, in watermarks: 1 at min, 2 at low, 3 at high, 4 at twice high and above."""
    if node.free_pages is None or node.min_pages is None or node.low_pages is None or node.high_pages is None:
        return None
    marks = (0, node.min_pages, node.low_pages, node.high_pages, 2 * node.high_pages)
    for below, (start, end) in enumerate(zip(marks, marks[1:])):
        if node.free_pages < end:
            return below + (node.free_pages - start) / (end - start)
    return 4.0


def node_lines(snapshot: Snapshot, width: int | None, most: int = NODES_MAX) -> list[str]:
    """A title and a line for each NUMA node; of more than ``most``, the worst ones."""
    interval, size = snapshot.interval, snapshot.session.page_size
    if not interval.nodes:
        return [fit("NODE  not known: no /proc/zoneinfo", width)]
    rates = node_rates(snapshot)
    shown = list(interval.nodes)
    if len(shown) > most:
        # The least free; where all have plenty, those most is taken from. Then by number, so that lines stand still.
        shown.sort(key=lambda node: (_or_high(free_height(node)), -(rates[node.node] or 0), node.node))
        shown = sorted(shown[: most - 1], key=lambda node: node.node)
    lines = [f"NODE  FREE  {_GAUGE_TITLE}   MIN   LOW  HIGH  FILE  ANON RECL/s" + "  KSWAPD" * bool(interval.kswapd)]
    for node in shown:
        pages = (node.min_pages, node.low_pages, node.high_pages, node.file_pages, node.anon_pages)
        lines.append(
            f"{node.node:4}  {pages_text(node.free_pages, size):>4}  {gauge(node):{len(_GAUGE_TITLE)}}"
            + "".join(f"  {pages_text(value, size):>4}" for value in pages)
            + f" {count_text(rates[node.node]):>6}"
            + (f"  {clean(interval.kswapd.get(node.node, '-'))}" if interval.kswapd else "")
        )
    rest = [node for node in interval.nodes if node not in shown]
    if rest:
        low = sum(1 for node in rest if _or_high(free_height(node)) < 3)
        lines.append(f" ... {len(rest)} more nodes, {low or 'none'} of them below the high watermark")
    return [fit(line, width) for line in lines]


def _or_high(height: float | None) -> float:
    return 5.0 if height is None else height


def node_rates(snapshot: Snapshot) -> dict[int, float | None]:
    """Pages reclaimed a second, by node."""
    rows, nodes = snapshot.interval.rows, [node.node for node in snapshot.interval.nodes]
    if snapshot.session.unknown.intersection(SUMS["reclaimed_pages"]):
        return dict.fromkeys(nodes)
    pages = np.asarray(sum(rows[name] for name in SUMS["reclaimed_pages"]))
    sums = np.bincount(rows["node"] + 1, pages, max(nodes) + 2)  # node -1: not known
    return {node: float(sums[node + 1]) / max(snapshot.duration_s, 1e-9) for node in nodes}


def elsewhere_lines(snapshot: Snapshot, width: int | None) -> list[str]:
    """What one node gave up while another had plenty: the sentence an incident report needs."""
    size = snapshot.session.page_size
    lines: list[str] = []
    for node, found in sorted(elsewhere(snapshot.interval).items()):
        had = f"node {found.free_node} had {pages_text(found.free_pages, size)} free while node {node}"
        if found.reclaimed_pages:
            line = f"! {had} gave up {found.reclaimed_pages} pages in {ns_text(found.stall_ns)}"
        else:
            line = f"! {had} was searched {found.futile} times in {ns_text(found.stall_ns)}, for nothing"
        # Whole, on as many lines as it takes: it ends in what matters most.
        lines += [line] if width is None else textwrap.wrap(line, max(width, 20), subsequent_indent="  ")
    return lines if width is None else [fit(line, width) for line in lines]


def matrix_lines(snapshot: Snapshot, width: int | None) -> list[str]:
    """The node a task ran on x the node it took from; nothing to tell on a host of one node."""
    cells = matrix(snapshot.interval.rows)
    if len(snapshot.interval.nodes) < 2 or not cells:
        return []
    lines = ["RAN ON  TOOK FROM  RECLAIMS    PAGES  SCANNED   TIME"]
    for cell in cells:
        ran_on, took_from = (str(node) if node >= 0 else "-" for node in (cell.cpu_node, cell.node))
        counts = "".join(
            f"  {count_text(value, 7):>7}" for value in (cell.reclaims, cell.reclaimed_pages, cell.scanned_pages)
        )
        lines.append(f"{ran_on:>6}  {took_from:>9} {counts} {ns_text(cell.stall_ns):>6}")
    return [fit(line, width) for line in lines]


# ---- what decides about reclaim ----


def state_parts(snapshot: Snapshot) -> list[str]:
    """What of the host decides about reclaim."""
    session, interval = snapshot.session, snapshot.interval
    settings = {**session.settings, **interval.settings}
    parts = [f"zone_reclaim_mode {_setting(settings, 'zone_reclaim_mode', 'none')}", f"LRU {_lru(settings)}"]
    if "some_avg10" in interval.pressure:
        some, full = (interval.pressure.get(name) for name in ("some_avg10", "full_avg10"))
        parts.append(f"PSI some {_percent(some)} full {_percent(full)}")
    else:
        parts.append("PSI off")
    parts.append(f"kswapd {_kswapd(snapshot)}")
    return parts


def _setting(settings: Mapping[str, Any], name: str, absent: str) -> str:
    """``absent`` where the kernel has no such switch, ``?`` where nobody looked."""
    value = settings.get(name, "?")
    return absent if value is None else clean(str(value))


def _lru(settings: Mapping[str, Any]) -> str:
    enabled = settings.get("lru_gen_enabled", "?")
    if enabled == "?":
        return "?"
    return "MGLRU" if isinstance(enabled, int) and enabled & 1 else "classic"


def _percent(value: float | None) -> str:
    return "?" if value is None else f"{value:.1f}%"


def _kswapd(snapshot: Snapshot) -> str:
    """By /proc/vmstat, which counts it whatever the filter (per zone up to 4.8, hence the prefix)."""
    steals, scans = (
        [grown for name, grown in snapshot.interval.vmstat.items() if name.startswith(prefix)]
        for prefix in ("pgsteal_kswapd", "pgscan_kswapd")
    )
    if not steals or not scans:
        return "?"
    if not sum(scans):
        return "idle"
    return f"frees {count_text(sum(steals) / max(snapshot.duration_s, 1e-9))}/s"


# ---- the account ----


def accounting_line(accounting: Accounting, width: int | None, label: str = "") -> str:
    """How complete the figures are: seen, of what /proc/vmstat counted, and everything known to be missing.

    What was lost is named; where all of it is known to be zero, that is ``nothing lost``. A narrow terminal gets less
    text, never another claim: exact digits go.
    """
    for long, digits in ((True, 20), (False, 20), (False, 5)):
        line = f"{label}{_shares(accounting, long, digits)}  {_losses(accounting)}"
        if width is None or cells(line) <= width:
            return line
    return fit(line, width)


def _shares(accounting: Accounting, long: bool, digits: int) -> str:
    if accounting.incomparable:
        return f"accounted: not comparable ({clean(accounting.incomparable)})"
    seen, counted = accounting.reclaimed_pages, accounting.vmstat_reclaimed_pages
    pages = f"{_number(seen, digits)} of {_number(counted, digits)}{' pages,' if long else ''}"
    scanned = share_text(accounting.scanned_pages, accounting.vmstat_scanned_pages)
    edge = f"±{_number(accounting.edge_pages, digits)}"
    if seen is not None and counted is not None and 0 < abs(seen - counted) <= accounting.edge_pages:
        edge = f"within {edge}"  # read at two instants: no page is known to be missing
    return f"accounted {share_text(seen, counted)} ({pages} {edge})  scanned {scanned}"


def _number(value: int | None, digits: int = 20) -> str:
    return "?" if value is None else count_text(value, digits)


def share_text(part: int | None, whole: int | None) -> str:
    """Percent with two decimals, but 100.00 only for the whole of it: a single page missing, or too many, shows."""
    if part is None or whole is None:
        return "?"
    if not whole:
        return "-"
    hundredths = 10_000 * part // whole if part <= whole else -(-10_000 * part // whole)
    return f"{hundredths // 100}.{hundredths % 100:02}%"


def _losses(accounting: Accounting) -> str:
    loss = accounting.loss
    counts: list[tuple[str, list[int | None]]] = [
        ("lost", [sum(loss.lost.values())]),
        ("suppressed", [sum(loss.suppressed.values())]),
        ("missed", [loss.missed_runs]),
        ("unmatched", [loss.unmatched_begin, loss.unmatched_end]),
        ("table-full", [loss.table_full]),
    ]
    shown = [
        f"{name} {'/'.join(map(_number, values))}" for name, values in counts if any(value != 0 for value in values)
    ]
    return " ".join(shown) or "nothing lost"


# ---- the table ----


def table_lines(
    snapshot: Snapshot,
    columns: Sequence[Column],
    order: Order,
    width: int | None,
    limit: int | None = None,
    stretch: str = "interval",
) -> list[str]:
    """A title and a line for each row of ``order``; never mute when there is none.

    :param order: row indices, as :func:`mmwatch.model.columns.sort_order` gives them.
    :param limit: rows at most; a last line says how many more there are.
    """
    widths = column_widths(columns, width)
    shown = snapshot.select(order if limit is None else order[:limit])
    texts = [[column.text(value) for value in column.of(shown).tolist()] for column in columns]
    lines = [_line([column.title for column in columns], columns, widths)]
    lines += [_line(row, columns, widths) for row in zip(*texts)]
    if not len(order):
        lines.append(empty_line(snapshot, stretch))
    elif len(order) > len(shown.rows):
        lines.append(f"... {len(order) - len(shown.rows)} more")
    between = matrix_lines(snapshot, width) if snapshot.by == "node" else []
    return [*(fit(line, width) for line in lines), *([""] if between else []), *between]


def column_widths(columns: Sequence[Column], width: int | None) -> list[int]:
    """In cells, as declared, whatever the rows hold, so that nothing jumps; text gives way on a narrow terminal, widest
    first, and a last column of text gets what is left of a wide one, and all it takes where there is no limit."""
    widths = [max(column.width, cells(column.title)) for column in columns]
    if not columns:
        return widths
    if width is None:
        return [*widths[:-1], _ENDLESS] if columns[-1].left else widths
    spare = width - sum(widths) - (len(widths) - 1)
    text = [index for index, column in enumerate(columns) if column.left and column.width > TEXT_MIN]
    while spare < 0 and text and max(widths[index] for index in text) > TEXT_MIN:
        widths[max(text, key=lambda index: widths[index])] -= 1
        spare += 1
    if spare > 0 and columns[-1].left:
        widths[-1] += spare
    return widths


def _line(texts: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    return " ".join(
        field(text, width, column.left) if width != _ENDLESS else clean(text)
        for text, column, width in zip(texts, columns, widths)
    )


def empty_line(snapshot: Snapshot, stretch: str = "interval") -> str:
    """What an empty table means; ``stretch`` is what it is of."""
    counted = snapshot.accounting.vmstat_reclaimed_pages
    if snapshot.session.filter:
        others = "" if counted is None else f"; the whole host: {counted} pages"
        return f"no reclaim in this {stretch} by what the filter lets through{others}"
    if counted:
        return f"nothing seen, but the kernel counted {counted} pages: see `mmwatch doctor`"
    if counted is None:
        return f"no reclaim in this {stretch} was seen"
    return f"no reclaim in this {stretch}: nobody had to free memory"


# ---- a recording ----

_TOTALS = "path reclaims_total reclaimed_total scanned_total efficiency priority overshoot stall_total p50 p99 longest"


def report_lines(
    snapshot: Snapshot,
    columns: Sequence[Column],
    order: Order,
    width: int | None,
    limit: int | None = None,
    course: Sequence[Stretch] = (),
) -> list[str]:
    """A recording: its session, its course, totals by path, the account, and the table ``columns`` and ``order``
    describe."""
    session = snapshot.session
    by_path = take(session, snapshot.interval, "path")
    lines = join(
        [
            f"recorded {_local_time(session.start_s, zone=True)}",
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
    return [*lines, "", *table_lines(snapshot, columns, order, width, limit, "recording")]


def course_lines(course: Sequence[Stretch]) -> list[str]:
    """When it happened, a mark for each stretch; nothing to tell of fewer than two."""
    if len(course) < 2:
        return []
    seconds = max(stretch.duration_s for stretch in course)
    shares = [stretch.stall_ns / 1e7 / max(stretch.duration_s, 1e-9) for stretch in course]
    begin, end = (_clock(course[index].begin_s) for index in (0, -1))
    lines = ["", f"{begin} to {end}, {seconds:.3g}s each mark; most time in reclaim: {_clock(_most(course, shares))}"]
    if all(stretch.reclaimed_pages is not None for stretch in course):
        rates = [(stretch.reclaimed_pages or 0) / max(stretch.duration_s, 1e-9) for stretch in course]
        lines.append(f"RECL/s |{spark(rates, ASCII_BLOCKS)}| up to {count_text(max(rates))}")
    return [*lines, f"STALL% |{spark(shares, ASCII_BLOCKS)}| up to {max(shares):.1f}"]


def _clock(time_s: float) -> str:
    return _local_time(time_s).partition(" ")[2]


def _most(course: Sequence[Stretch], values: Sequence[float]) -> float:
    return max(zip(values, course), key=lambda pair: pair[0])[1].begin_s


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}h{minutes % 60:02}m{rest:02}s" if minutes >= 60 else f"{minutes}m{rest:02}s"
