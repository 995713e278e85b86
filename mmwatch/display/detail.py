"""All that is known of one task, thread, path, cgroup or node: who it is, how it reclaims, and what that costs it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from mmwatch.display.plain import matrix_lines
from mmwatch.display.spans import Line, Span, Tone, fitted, width_of
from mmwatch.display.text import cells, cut, field, join
from mmwatch.display.trace import RECLAIM
from mmwatch.model.columns import BY_KEY, Column, active_order, active_rows
from mmwatch.model.interval import Interval, Process, Rows, Session
from mmwatch.model.measures import NODE_UNKNOWN, PATH_HELP, PATHS, PRIORITY_UNKNOWN, THROTTLE_REASONS
from mmwatch.model.snapshot import Snapshot, bucket_edges_ns, take
from mmwatch.units import NS_PER_S, clean, count_text, ns_text, ratio_text

PRIORITY_BAD = 2
"""Reclaim that went so low looked at a quarter of the lists or more in one pass."""
OVERSHOOT_BAD = 8.0
"""Pages freed for each page asked for, from which on reclaim is out of proportion."""
COMMAND_LINES = 3
TASKS_SHOWN = 5
LATENCY_LINES = 12
"""More buckets than this are folded."""
BESIDE_MIN = 120
"""Cells from which on two charts stand beside each other."""

_EDGES_NS = bucket_edges_ns()
_BY_PATH = "path reclaims_total asked_total reclaimed_total overshoot efficiency priority stall_total p50 p99 longest"
_BY_TASK = "pid comm reclaims_total reclaimed_total scanned_total efficiency priority stall_total longest"
_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True)
class Recent:
    """One reclaim that ended. None: not known, or (``asked_pages``) nothing was asked for.

    :param time_s: Unix time of its end.
    :param path: one of :data:`mmwatch.model.measures.PATHS`.
    :param priority: the lowest it came to.
    """

    time_s: float
    path: str
    node: int | None
    order: int | None
    asked_pages: int | None
    scanned_pages: int | None
    reclaimed_pages: int | None
    priority: int | None
    stall_ns: int | None


def recents(records: npt.NDArray[np.void], monotonic_s: float) -> list[Recent]:
    """The reclaims among single records, in their order.

    :param records: an array of ``struct record`` (``bpf/abi.h``), or of a recording.
    :param monotonic_s: Unix time when CLOCK_MONOTONIC was 0.
    """
    names = ("time_ns", "path", "node", "order", "asked_pages", "scanned_pages", "reclaimed_pages", "priority")
    mine = records[records["kind"] == RECLAIM]
    return [
        Recent(
            monotonic_s + time_ns / NS_PER_S,
            PATHS[path] if path < len(PATHS) else "other",
            None if node == NODE_UNKNOWN else node,
            order,
            asked or None,
            scanned,
            reclaimed,
            None if priority == PRIORITY_UNKNOWN else priority,
            stall_ns,
        )
        for time_ns, path, node, order, asked, scanned, reclaimed, priority, stall_ns in zip(
            *(mine[name].tolist() for name in (*names, "duration_ns"))
        )
    ]


def detail_lines(
    session: Session,
    interval: Interval,
    recent: Sequence[Recent],
    limits: Mapping[str, str],
    width: int,
    ascii_only: bool = False,
) -> list[Line]:
    """The whole view, a section after the other; what never happened is left out, what nobody tells is ``?``.

    :param interval: ``rows`` holds those of the subject only; everything else is the host's.
    :param recent: its latest reclaims, in order; shown latest first. Empty where none is kept.
    :param limits: of its cgroup, such as ``memory.max`` -> ``64M``; empty when not known.
    :param width: cells of a line, at most.
    :param ascii_only: the terminal has no other characters.
    """
    rows = interval.rows
    lines = _who(session, interval, limits, width)
    sections = [[[Span("no reclaim in this time", Tone.DIM)]]]
    if active_rows(rows).any():
        lines += _time(session, interval)
        sections = [
            _by_path(session, interval),
            _by_task(session, interval) if len(np.unique(rows["tgid"])) > 1 else [],
            _beside(
                lambda room: _ladder(session, rows, room, ascii_only),
                lambda room: _latency(session, interval, room, ascii_only),
                width,
            ),
            _pages(session, rows),
            _plain(matrix_lines(take(session, interval, "node"), width)),
            _orders(session, rows, width, ascii_only),
        ]
    for section in [*sections, _other_work(session, rows), _recent(recent)]:
        if section:
            lines += [[], *section]
    return [fitted(line, width) for line in lines]


# ---- lines ----


def _title(text: str, explained: str = "") -> Line:
    return [Span(text, Tone.TITLE), *([Span(f"  {explained}", Tone.DIM)] if explained else [])]


def _plain(lines: list[str]) -> list[Line]:
    return [[Span(line, Tone.TITLE if not index else Tone.PLAIN)] for index, line in enumerate(lines)]


def _beside(left: Callable[[int], list[Line]], right: Callable[[int], list[Line]], width: int) -> list[Line]:
    """Two sections beside each other where there is room, else one below the other."""
    if width < BESIDE_MIN:
        below = right(width)
        return [*left(width), *([[]] if below else []), *below]
    half = (width - 3) // 2
    first, second = [fitted(line, half) for line in left(half)], right(half)
    height = max(len(first), len(second))
    padded = [*first, *([[]] * (height - len(first)))]
    return [
        [*line, Span(" " * (half + 3 - width_of(line))), *other]
        for line, other in zip(padded, [*second, *([[]] * (height - len(second)))])
    ]


def _bar(share: float, width: int, ascii_only: bool) -> str:
    """Filled for ``share`` of ``width`` cells; anything above 0 shows."""
    if share <= 0:
        return ""
    if ascii_only:
        return "#" * max(1, round(share * width))
    whole, eighths = divmod(max(1, round(share * width * 8)), 8)
    return "█" * whole + _EIGHTHS[eighths].strip()


def _chart(
    labels: Sequence[str], counts: Sequence[int], width: int, ascii_only: bool, bad: Sequence[bool] = ()
) -> list[Line]:
    """A bar for each count, its number and its share. A line that is ``bad`` has a ``!``."""
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


def _known(session: Session, *names: str) -> bool:
    return not session.unknown.intersection(names)


def _total(session: Session, rows: Rows, *names: str) -> int | None:
    """None where nobody counts it."""
    return sum(int(rows[name].sum()) for name in names) if _known(session, *names) else None


def _or_unknown(value: int | None, text: str = "{}") -> str:
    return "?" if value is None else text.format(count_text(value, 9))


# ---- who ----


def _who(session: Session, interval: Interval, limits: Mapping[str, str], width: int) -> list[Line]:
    rows = interval.rows
    tgids, paths, cgroups = (np.unique(rows[name]).tolist() for name in ("tgid", "path", "cgroup_id"))
    threads, nodes = np.unique(rows["tid"]).tolist(), [n for n in np.unique(rows["node"]).tolist() if n >= 0]
    lines: list[Line] = []
    if len(tgids) == 1:
        who = take(session, interval, "task").identity(0)
        process = interval.processes.get(tgids[0])
        lines.append([Span(who["comm"] or "?", Tone.TITLE), *_numbers(interval, tgids[0], process, threads)])
        lines += _command(process, width)
    elif tgids:
        lines.append([Span(f"{len(tgids)} tasks", Tone.TITLE), Span(f", {len(threads)} threads")])
    where = [f"path {', '.join(PATHS[path] for path in paths)}" if paths else ""]
    where.append(f"node {', '.join(map(str, nodes)) or '?'}" if paths else "")
    where.append(f"in {interval.duration_ns / 1e9:.2f}s up to {_clock(interval.end_s)[:8]}")
    lines.append([Span("  ".join(filter(None, where)))])
    if len(paths) == 1:
        lines += [[Span(part, Tone.DIM)] for part in textwrap.wrap(PATH_HELP[PATHS[paths[0]]], max(width, 20))]
    if len(cgroups) == 1:
        name = interval.cgroups.get(cgroups[0])
        lines.append([Span("cgroup   ", Tone.DIM), Span(clean(name) if name else "?")])
        lines += _limits(limits, width)
    elif cgroups:
        lines.append([Span("cgroup   ", Tone.DIM), Span(f"{len(cgroups)} of them")])
    return lines


def _numbers(interval: Interval, tgid: int, process: Process | None, threads: list[int]) -> list[Span]:
    if not tgid:
        return [Span("  counted without a row of its own", Tone.WARN)]
    parent = interval.processes.get(process.ppid) if process and process.ppid else None
    ppid = "?" if process is None or process.ppid is None else str(process.ppid)
    by = f"{ppid} ({clean(parent.comm)})" if parent and parent.comm else ppid
    many = f"{len(threads)} threads" if len(threads) > 1 else f"thread {threads[0]}" if threads != [tgid] else ""
    return [Span(f"  PID {tgid}  parent {by}" + (f"  {many}" if many else ""))]


def _command(process: Process | None, width: int) -> list[Line]:
    text = clean(process.cmdline) if process and process.cmdline else "?"
    room = max(16, width - 9)
    pieces: list[str] = []
    while text and len(pieces) < COMMAND_LINES:
        last = len(pieces) == COMMAND_LINES - 1
        piece = cut(text, room) if last else _head(text, room)
        pieces.append(piece)
        text = "" if last else text[len(piece) :]
    return [[Span("         " if index else "command  ", Tone.DIM), Span(piece)] for index, piece in enumerate(pieces)]


def _head(text: str, room: int) -> str:
    """As much from the start as there is room for, and at least a character."""
    end = min(len(text), room)
    while end > 1 and cells(text[:end]) > room:
        end -= 1
    return text[:end]


def _limits(limits: Mapping[str, str], width: int) -> list[Line]:
    lines: list[Line] = []
    for name, value in limits.items() or {"": "?"}.items():
        part = f"{clean(name)} {clean(value)}".strip()
        if lines and width_of(lines[-1]) + 2 + cells(part) <= width:
            lines[-1].append(Span(f"  {part}"))
        else:
            lines.append([Span("         " if lines else "limits   ", Tone.DIM), Span(part)])
    return lines


def _time(session: Session, interval: Interval) -> list[Line]:
    tgids = np.unique(interval.rows["tgid"]).tolist()
    process = interval.processes.get(tgids[0]) if len(tgids) == 1 else None
    stall_ns = _total(session, interval.rows, "stall_ns")
    if stall_ns is None:
        return [[Span("time     ", Tone.DIM), Span("?")]]
    stall_ns = max(stall_ns, 0)
    share = stall_ns / max(interval.duration_ns, 1)
    text = f"{ns_text(stall_ns)} in reclaim, {ratio_text(share)}% of one CPU's time"
    asleep_ns = _total(session, interval.rows, "throttled_ns")
    text += f", asleep for {ns_text(asleep_ns)} of it" if asleep_ns else ", asleep ?" if asleep_ns is None else ""
    lines: list[Line] = [
        [
            Span("time     ", Tone.DIM),
            Span(f"{text}{' !' if share >= 1 else ''}", Tone.BAD if share >= 1 else Tone.PLAIN),
        ]
    ]
    if process:
        system = process.system_time_us
        of = "? of the process's system time: that is not known"
        if system:
            part = stall_ns / 1000 / system
            of = f"{ratio_text(part)}% of the process's system time ({ns_text(system * 1000)})"
            of += ": it slept, or waited" if part > 1 else ""
        elif system == 0:
            of = "the process used no system time that the kernel counted"
        delay = process.freepages_delay_ns
        if delay is not None:
            of += f"; delay accounting: {ns_text(delay)}"
        lines.append([Span("         "), Span(of)])
    return lines


# ---- tables ----


def _by_path(session: Session, interval: Interval) -> list[Line]:
    return _table(take(session, interval, "path"), [BY_KEY[key] for key in _BY_PATH.split()])


def _by_task(session: Session, interval: Interval) -> list[Line]:
    snapshot = take(session, interval, "task")
    lines = _table(snapshot, [BY_KEY[key] for key in _BY_TASK.split()], TASKS_SHOWN)
    more = len(snapshot.rows) - TASKS_SHOWN
    return [*lines, [Span(f"... {more} more", Tone.DIM)]] if more > 0 else lines


def _table(snapshot: Snapshot, columns: Sequence[Column], limit: int | None = None) -> list[Line]:
    """Those with most time first; rows that came to a low priority or far too many pages end in ``!``."""
    shown = snapshot.select(active_order(snapshot, BY_KEY["stall_total"])[:limit])
    widths = [max(column.width, cells(column.title)) for column in columns]
    values = {column.key: column.of(shown).tolist() for column in columns}
    titles = " ".join(field(c.title, width, c.left) for c, width in zip(columns, widths))
    lines: list[Line] = [[Span(titles, Tone.TITLE)]]
    for index in range(len(shown.rows)):
        line: Line = []
        for column, width in zip(columns, widths):
            value = values[column.key][index]
            text = field(column.text(value), width, column.left)
            line.append(Span(text, Tone.BAD if _is_bad(column.key, value) else Tone.PLAIN))
            line.append(Span(" "))
        bad = any(_is_bad(column.key, values[column.key][index]) for column in columns)
        lines.append([*line, Span("!", Tone.BAD)] if bad else line[:-1])
    return lines


def _is_bad(key: str, value: Any) -> bool:
    if key == "priority":
        return bool(value <= PRIORITY_BAD)  # NaN is not
    return key == "overshoot" and bool(value >= OVERSHOOT_BAD)


# ---- charts ----


def _ladder(session: Session, rows: Rows, width: int, ascii_only: bool) -> list[Line]:
    for name, what in (("pass_histogram", "passes"), ("priority_histogram", "batches")):
        counts = rows[name].sum(axis=0).tolist()
        if not _known(session, name) or not any(counts):
            continue
        seen = [priority for priority, count in enumerate(counts) if count]
        rungs = list(range(max(seen), min(seen) - 1, -1))
        chart = _chart(
            [f"{rung:3}" for rung in rungs],
            [counts[rung] for rung in rungs],
            width,
            ascii_only,
            [rung <= PRIORITY_BAD for rung in rungs],
        )
        return [_title("PRIORITY", f"{what} at each; 0 searches the whole list"), *chart]
    known = _known(session, "pass_histogram") or _known(session, "priority_histogram")
    return [[*_title("PRIORITY"), Span(f"  {'-' if known else '?'}")]]


def _latency(session: Session, interval: Interval, width: int, ascii_only: bool) -> list[Line]:
    if not _known(session, "stall_histogram"):
        return [[*_title("TIME OF A RECLAIM"), Span("  ?")]]
    counts = interval.rows["stall_histogram"].sum(axis=0)
    seen = np.flatnonzero(counts)
    if not len(seen):
        return []
    whole = _whole(session, interval)
    marks = [f"{key} {BY_KEY[key].text(BY_KEY[key].of(whole)[0])}" for key in ("p50", "p99", "longest")]
    # Octaves begin at bucket 1; the first bucket of all is one of its own.
    first, last = (int(seen[0]) + 3) // 4, (int(seen[-1]) + 3) // 4
    many = -(-(last - first + 1) // LATENCY_LINES)
    labels, sums = [], []
    for octave in range(first, last + 1, many):
        begin, end = max(0, 4 * octave - 3), min(4 * (octave + many) - 3, len(counts))
        labels.append(f"from {ns_text(float(_EDGES_NS[begin])):>6}")
        sums.append(int(counts[begin:end].sum()))
    return [_title("TIME OF A RECLAIM", "  ".join(marks)), *_chart(labels, sums, width, ascii_only)]


def _whole(session: Session, interval: Interval) -> Snapshot:
    """Everything as one row of a snapshot by path, for columns that are no sums."""
    rows = interval.rows.copy()
    rows["path"] = rows["path"][0]
    return take(session, Interval(interval.end_s, interval.duration_ns, rows), "path")


def _orders(session: Session, rows: Rows, width: int, ascii_only: bool) -> list[Line]:
    if not _known(session, "order_histogram"):
        return [[*_title("ORDER"), Span("  ?")]]
    counts = rows["order_histogram"].sum(axis=0).tolist()
    orders = [order for order, count in enumerate(counts) if count]
    if not orders:
        return []
    if orders == [0]:
        lines: list[Line] = [[Span("ORDER", Tone.TITLE), Span(f"  0 in all {counts[0]} reclaims")]]
    else:
        chart = _chart([f"{order:3}" for order in orders], [counts[order] for order in orders], width, ascii_only)
        lines = [_title("ORDER", "reclaims for 2^order pages in one piece"), *chart]
    label = "gfp flags of the latest "
    names = ["?"]
    if _known(session, "gfp_flags"):
        names = _gfp(int(rows["gfp_flags"][np.argmax(rows["start_ns"])]), session)
    for index, part in enumerate(join(names, max(20, width - len(label)), " ")):
        lines.append([Span(" " * len(label) if index else label), Span(part)])
    return lines


def _gfp(flags: int, session: Session) -> list[str]:
    """By name, as the kernel prints them; what has none, in hex."""
    names = []
    for name, bits in session.gfp_flags.items():
        if bits and flags & bits == bits:
            names.append(name)
            flags &= ~bits
    return [*names, *([f"{flags:#x}"] if flags or not names else [])]


# ---- sums ----


def _pages(session: Session, rows: Rows) -> list[Line]:
    lines: list[Line] = [[Span("PAGES   RECLAIMED   SCANNED   EFF%", Tone.TITLE)]]
    for kind in ("file", "anon"):
        reclaimed, scanned = (_total(session, rows, f"{name}_{kind}_pages") for name in ("reclaimed", "scanned"))
        share = ratio_text(reclaimed / scanned) if reclaimed is not None and scanned else "-"
        quiet = not reclaimed and not scanned and reclaimed is not None
        text = f"{kind:6} {_or_unknown(reclaimed):>10} {_or_unknown(scanned):>9} {share:>6}"
        lines.append([Span(text, Tone.DIM if quiet else Tone.PLAIN)])
    kept = [
        (name, _total(session, rows, f"{measure}_pages"))
        for name, measure in (
            ("dirty", "dirty"),
            ("under writeback", "writeback"),
            ("met twice under writeback", "immediate"),
            ("activated", "activated"),
            ("referenced", "referenced"),
            ("not unmapped", "unmap_failed"),
        )
    ]
    told = [f"{name} {_or_unknown(count)}" for name, count in kept if count != 0]
    if all(count is None for _, count in kept):
        told = ["what was kept, and why: ?"]
    return [*lines, *([[Span("met  ", Tone.DIM), Span(", ".join(told))]] if told else [])]


def _other_work(session: Session, rows: Rows) -> list[Line]:
    lines: list[Line] = []

    def add(name: str, text: str, tone: Tone = Tone.PLAIN) -> None:
        lines.append([Span(f"{name:<9}  ", Tone.TITLE), Span(text, tone)])

    if not _known(session, "throttled", "throttled_ns"):
        add("ASLEEP", "?")
    else:
        times, slept_ns = rows["throttled"].sum(axis=0).tolist(), rows["throttled_ns"].sum(axis=0).tolist()
        reasons = [
            f"{reason} {count_text(count, 9)} times, {ns_text(ns)}"
            for reason, count, ns in zip(THROTTLE_REASONS, times, slept_ns)
            if count or ns
        ]
        if reasons:
            add("ASLEEP", f"{'; '.join(reasons)} !", Tone.WARN)
    calls = _total(session, rows, "shrinker_calls")
    if calls != 0:
        time_ns = _total(session, rows, "shrinker_ns")
        freed = _or_unknown(_total(session, rows, "shrinker_objects"), "{} objects freed")
        add("SHRINKERS", f"{_or_unknown(calls, '{} calls')}, {'?' if time_ns is None else ns_text(time_ns)}, {freed}")
    for name, measure, text in (
        ("WRITTEN", "written_pages", "{} pages by reclaim itself, to swap or file"),
        ("KSWAPD", "kswapd_wakeups", "woken {} times"),
        ("FUTILE", "reclaims_futile", "{} reclaims freed nothing"),
    ):
        count = _total(session, rows, measure)
        if count != 0:
            add(name, _or_unknown(count, text))
    return lines


# ---- single reclaims ----


def _recent(recent: Sequence[Recent]) -> list[Line]:
    if not recent:
        return []
    lines: list[Line] = [
        [Span("LATEST RECLAIMS  PATH      NODE ORDER  ASKED   SCANNED RECLAIMED PRI    TIME", Tone.TITLE)]
    ]
    for one in reversed(recent):
        asked = one.asked_pages if one.asked_pages else None
        over = asked is not None and one.reclaimed_pages is not None and one.reclaimed_pages >= OVERSHOOT_BAD * asked
        low = one.priority is not None and one.priority <= PRIORITY_BAD
        numbers = "".join(
            f" {_or_unknown(value):>{width}}"
            for value, width in (
                (one.node, 4),
                (one.order, 5),
                (asked, 6),
                (one.scanned_pages, 9),
                (one.reclaimed_pages, 9),
                (one.priority, 3),
            )
        )
        time = "?" if one.stall_ns is None else ns_text(one.stall_ns)
        bad = over or low
        text = f"{_clock(one.time_s)}     {field(one.path, 9, left=True)}{numbers} {time:>7}"
        lines.append([Span(text), *([Span(" !", Tone.BAD)] if bad else [])])
    return lines


def _clock(time_s: float) -> str:
    return datetime.fromtimestamp(time_s).strftime("%H:%M:%S.%f")[:12]
