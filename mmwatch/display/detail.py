"""Everything about one task, thread, path, cgroup or node: who it is, how it reclaims, and what that costs."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np

from mmwatch.display.charts import ladder, latency, orders
from mmwatch.display.spans import Line, Span, Tone, fitted, width_of
from mmwatch.display.table import matrix_lines
from mmwatch.display.text import cells, cut, field
from mmwatch.display.tones import FULL_SHARE, SHARE_BAD, alarming, tone_of_reclaim, tones_of
from mmwatch.model.accounting import is_known, total_of
from mmwatch.model.arrangement import active_order
from mmwatch.model.columns import BY_KEY, Column, system_share
from mmwatch.model.interval import Interval, Process, Session
from mmwatch.model.measures import PATH_HELP, PATHS, THROTTLE_REASONS
from mmwatch.model.records import Recent
from mmwatch.model.rows import Rows, active_rows
from mmwatch.model.snapshot import Snapshot, take
from mmwatch.units import ancestors, clean, count_text, ns_text, pages_text, ratio_text

COMMAND_LINES = 3
TASKS_SHOWN = 5
BESIDE_MIN = 120
"""From this width on, in cells, two charts stand side by side."""

_BY_PATH = "path reclaims_total asked_total reclaimed_total overshoot efficiency priority stall_total p50 p99 longest"
_BY_TASK = "pid comm reclaims_total reclaimed_total scanned_total efficiency priority stall_total longest"


def detail_lines(
    session: Session,
    interval: Interval,
    recent: Sequence[Recent],
    width: int,
    ascii_only: bool = False,
) -> list[Line]:
    """The view, section by section. What never happened is left out; what is unknown is ``?``.

    :param interval: its ``rows`` are those of the subject; everything else is of the host.
    :param recent: the subject's latest reclaims, oldest first; shown latest first.
    :param width: cells per line.
    :param ascii_only: draw with ASCII characters only.
    """
    rows = interval.rows
    lines = _who(session, interval, width)
    sections = [[[Span("no reclaim in this time", Tone.DIM)]]]
    if active_rows(rows).any():
        lines += _time(session, interval)
        sections = [
            _by_path(session, interval),
            _by_task(session, interval) if len(np.unique(rows["tgid"])) > 1 else [],
            _beside(
                lambda room: ladder(session, rows, room, ascii_only, alarming(session, interval)),
                lambda room: latency(session, interval, room, ascii_only),
                width,
            ),
            _pages(session, rows),
            _plain(matrix_lines(take(session, interval, "node"), width)),
            orders(session, rows, width, ascii_only),
        ]
    for section in [*sections, _other_work(session, rows), _recent(recent)]:
        if section:
            lines += [[], *section]
    return [fitted(line, width) for line in lines]


# ---- lines ----


def _plain(lines: list[str]) -> list[Line]:
    return [[Span(line, Tone.TITLE if not index else Tone.PLAIN)] for index, line in enumerate(lines)]


def _beside(left: Callable[[int], list[Line]], right: Callable[[int], list[Line]], width: int) -> list[Line]:
    """Two sections side by side if there is room, else one below the other."""
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


def _or_unknown(value: int | None, text: str = "{}") -> str:
    return "?" if value is None else text.format(count_text(value, 9))


# ---- who ----


def _who(session: Session, interval: Interval, width: int) -> list[Line]:
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
        lines += _limits(interval, name)
    elif cgroups:
        lines.append([Span("cgroup   ", Tone.DIM), Span(f"{len(cgroups)} different")])
    return [*lines, *_target(session, interval, cgroups)]


def _target(session: Session, interval: Interval, cgroups: list[int]) -> list[Line]:
    """The cgroup whose limit binds, if it is not the task's own."""
    targets = [number for number in np.unique(interval.rows["target_id"]).tolist() if number]
    if "target_id" in session.unknown or not targets or targets == cgroups:
        return []
    if len(targets) > 1:
        return [[Span("target   ", Tone.DIM), Span(f"{len(targets)} different")]]
    name, own = (interval.cgroups.get(number) for number in (targets[0], cgroups[0]))
    line: Line = [Span("target   ", Tone.DIM), Span(clean(name) if name else "?")]
    shown = len(cgroups) == 1 and name in ancestors(own or "")
    return [line] if shown or not name else [line, *_limits(interval, name)]


def _numbers(interval: Interval, tgid: int, process: Process | None, threads: list[int]) -> list[Span]:
    if not tgid:
        return [Span("  not attributed to a single process", Tone.WARN)]
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
    """The start of the text that fits ``room`` cells, at least one character."""
    end = min(len(text), room)
    while end > 1 and cells(text[:end]) > room:
        end -= 1
    return text[:end]


def _limits(interval: Interval, name: str | None) -> list[Line]:
    """The cgroup and those above it, with usage and limits. The one that is full is the reason for reclaim."""
    numbers = {path: number for number, path in interval.cgroups.items()}
    lines: list[Line] = []
    for path in (name, *ancestors(name)) if name else ():
        memory = interval.cgroup_memory.get(numbers.get(path, -1))
        if memory is None:
            continue
        used, limit, high = memory.usage_bytes, memory.limit_bytes, memory.high_bytes
        text = (
            f"{pages_text(used, 1)} of {pages_text(limit, 1)}"
            if limit is not None
            else f"{pages_text(used, 1)}, no limit"
        )
        text += f", high {pages_text(high, 1)}" if high is not None else ""
        text += (
            f", limit hit {count_text(memory.limit_hits, 9)} times" if memory.limit_hits and limit is not None else ""
        )
        again = sum(grown for name, grown in memory.grown.items() if name.startswith("workingset_refault"))
        text += f", {count_text(again, 9)} pages read again" if again else ""
        full = any(bound is not None and used >= FULL_SHARE * bound for bound in (limit, high))
        head = Span("         " if lines else "memory   ", Tone.DIM)
        lines.append(
            [head, Span(f"{text}  {clean(path)}{'  full !' if full else ''}", Tone.BAD if full else Tone.PLAIN)]
        )
    return lines or [[Span("memory   ", Tone.DIM), Span("?")]]


def _time(session: Session, interval: Interval) -> list[Line]:
    tgids = np.unique(interval.rows["tgid"]).tolist()
    process = interval.processes.get(tgids[0]) if len(tgids) == 1 else None
    stall_ns = total_of(session, interval.rows, "stall_ns")
    if stall_ns is None:
        return [[Span("time     ", Tone.DIM), Span("?")]]
    stall_ns = max(stall_ns, 0)
    share = stall_ns / max(interval.duration_ns, 1)
    kswapd = (interval.rows["path"] == PATHS.index("kswapd")).all()
    bad = share >= SHARE_BAD and not kswapd
    many = len(np.unique(interval.rows["tid"]))
    text = f"{ns_text(stall_ns)} in reclaim, {ratio_text(share)}% of the interval"
    text += f" ({many} threads add up)" if many > 1 else ""
    lines: list[Line] = [
        [Span("time     ", Tone.DIM), Span(f"{text}{' !' if bad else ''}", Tone.BAD if bad else Tone.PLAIN)]
    ]
    lines.append([Span("on a CPU ", Tone.DIM), Span(_on_cpu(session, interval, process))])
    lines.append([Span("off CPU  ", Tone.DIM), Span(_off_cpu(session, interval, stall_ns))])
    if process and process.freepages_delay_ns is not None:
        delay = f"{ns_text(process.freepages_delay_ns)} in direct reclaim, as the kernel's delay accounting has it"
        lines.append([Span("delays   ", Tone.DIM), Span(delay)])
    return lines


def _on_cpu(session: Session, interval: Interval, process: Process | None) -> str:
    cpu_ns = total_of(session, interval.rows, "cpu_ns")
    if cpu_ns is None:
        return "?"
    if process is None:
        return ns_text(cpu_ns)
    if not process.system_time_us:
        return f"{ns_text(cpu_ns)}; system time of the process: {'?' if process.system_time_us is None else '0'}"
    part = float(system_share(np.array(cpu_ns, float), np.array(process.system_time_us, float)))
    whole = ns_text(process.system_time_us * 1000)
    return f"{ns_text(cpu_ns)}, {ratio_text(part)}% of the process's system time ({whole})"


def _off_cpu(session: Session, interval: Interval, stall_ns: int) -> str:
    """Asleep, or waiting for a CPU; and how much of it reclaim itself asked for, by throttling."""
    cpu_ns, throttled_ns = (total_of(session, interval.rows, name) for name in ("cpu_ns", "throttled_ns"))
    text = "?" if cpu_ns is None else f"{ns_text(max(stall_ns - cpu_ns, 0))} asleep, or waiting for a CPU"
    if throttled_ns is None:
        return f"{text}; throttled ?"
    return f"{text}; throttled for {ns_text(throttled_ns)}" if throttled_ns else text


# ---- tables ----


def _by_path(session: Session, interval: Interval) -> list[Line]:
    return _table(take(session, interval, "path"), [BY_KEY[key] for key in _BY_PATH.split()])


def _by_task(session: Session, interval: Interval) -> list[Line]:
    snapshot = take(session, interval, "task")
    lines = _table(snapshot, [BY_KEY[key] for key in _BY_TASK.split()], TASKS_SHOWN)
    more = len(snapshot.rows) - TASKS_SHOWN
    return [*lines, [Span(f"... {more} more", Tone.DIM)]] if more > 0 else lines


def _table(snapshot: Snapshot, columns: Sequence[Column], limit: int | None = None) -> list[Line]:
    """Rows by time in reclaim; a row with a bad figure ends in ``!``."""
    shown = snapshot.select(active_order(snapshot, BY_KEY["stall_total"])[:limit])
    widths = [max(column.width, cells(column.title)) for column in columns]
    values = {column.key: column.of(shown).tolist() for column in columns}
    tones = {column.key: tones_of(column, shown, values[column.key]) for column in columns}
    titles = " ".join(field(c.title, width, c.left) for c, width in zip(columns, widths))
    lines: list[Line] = [[Span(titles, Tone.TITLE)]]
    for index in range(len(shown.rows)):
        line: Line = []
        for column, width in zip(columns, widths):
            value = values[column.key][index]
            text = field(column.text(value), width, column.left, column.keep_end)
            line += [Span(text, tones[column.key][index]), Span(" ")]
        bad = any(span.tone is Tone.BAD for span in line)
        lines.append([*line, Span("!", Tone.BAD)] if bad else line[:-1])
    return lines


# ---- sums ----


def _pages(session: Session, rows: Rows) -> list[Line]:
    lines: list[Line] = [[Span("PAGES   RECLAIMED   SCANNED   EFF%", Tone.TITLE)]]
    for kind in ("file", "anon"):
        reclaimed, scanned = (total_of(session, rows, f"{name}_{kind}_pages") for name in ("reclaimed", "scanned"))
        share = ratio_text(reclaimed / scanned) if reclaimed is not None and scanned else "-"
        quiet = not reclaimed and not scanned and reclaimed is not None
        text = f"{kind:6} {_or_unknown(reclaimed):>10} {_or_unknown(scanned):>9} {share:>6}"
        lines.append([Span(text, Tone.DIM if quiet else Tone.PLAIN)])
    kept = [
        (name, total_of(session, rows, f"{measure}_pages"))
        for name, measure in (
            ("dirty", "dirty"),
            ("under writeback", "writeback"),
            ("twice under writeback", "immediate"),
            ("activated", "activated"),
            ("referenced", "referenced"),
            ("could not be unmapped", "unmap_failed"),
        )
    ]
    told = [f"{name} {_or_unknown(count)}" for name, count in kept if count != 0]
    if all(count is None for _, count in kept):
        told = ["? (why pages were kept is not known)"]
    return [*lines, *([[Span("found  ", Tone.DIM), Span(", ".join(told))]] if told else [])]


def _other_work(session: Session, rows: Rows) -> list[Line]:
    lines: list[Line] = []

    def add(name: str, text: str, tone: Tone = Tone.PLAIN) -> None:
        lines.append([Span(f"{name:<9}  ", Tone.TITLE), Span(text, tone)])

    if not is_known(session, "throttled", "throttled_ns"):
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
    calls = total_of(session, rows, "shrinker_calls")
    if calls != 0:
        time_ns = total_of(session, rows, "shrinker_ns")
        freed = _or_unknown(total_of(session, rows, "shrinker_objects"), "{} objects freed")
        add("SHRINKERS", f"{_or_unknown(calls, '{} calls')}, {'?' if time_ns is None else ns_text(time_ns)}, {freed}")
    for name, measure, text in (
        ("WRITTEN", "written_pages", "{} pages by reclaim itself, to swap or file"),
        ("KSWAPD", "kswapd_wakeups", "woken {} times"),
        ("FUTILE", "reclaims_futile", "{} reclaims freed nothing"),
    ):
        count = total_of(session, rows, measure)
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
        numbers = "".join(
            f" {_or_unknown(value):>{width}}"
            for value, width in (
                (one.node, 4),
                (one.order, 5),
                (one.asked_pages or None, 6),
                (one.scanned_pages, 9),
                (one.reclaimed_pages, 9),
                (one.priority, 3),
            )
        )
        time = "?" if one.stall_ns is None else ns_text(one.stall_ns)
        bad = tone_of_reclaim(one) is Tone.BAD
        text = f"{_clock(one.time_s)}     {field(one.path, 9, left=True)}{numbers} {time:>7}"
        lines.append([Span(text), *([Span(" !", Tone.BAD)] if bad else [])])
    return lines


def _clock(time_s: float) -> str:
    return datetime.fromtimestamp(time_s).strftime("%H:%M:%S.%f")[:12]
