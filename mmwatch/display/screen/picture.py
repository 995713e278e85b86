"""The main screen as lines: everything around the table, as far as there is room."""

from __future__ import annotations

from mmwatch.display.host import NODES_MAX
from mmwatch.display.screen import lines as text
from mmwatch.display.screen.keys import FOOTER
from mmwatch.display.screen.layout import TREES_OF
from mmwatch.display.screen.position import position_line
from mmwatch.display.screen.state import State
from mmwatch.display.screen.view import Frame
from mmwatch.display.spans import Line, Span, Tone, fitted
from mmwatch.model.columns import Column
from mmwatch.model.history import History
from mmwatch.model.snapshot import Snapshot
from mmwatch.units import clean

ROWS_MIN = 6
"""Rows of the table that take precedence over lines about the host."""
WAIT_TOLD_S = 3.0
"""A start that takes longer says how long it has taken."""
ACCOUNT_LINES_MIN, ACCOUNT_MIN = 20, 8
"""Heights from which on the account has all its lines, or one."""


def waiting(state: State, width: int) -> tuple[list[Line], list[Line]]:
    """Head and foot before the first interval."""
    seconds = state.waited_s()
    what = "compiling the BPF programs" if state.feed.session is None else "waiting for the end of the first interval"
    if seconds >= WAIT_TOLD_S:
        what += f" for {seconds:.0f} s"
        # The compiler's hundred megabytes may have to be read from a busy disk.
        what += " (up to a minute, if memory is short)" if state.feed.session is None else ""
    head: list[Line] = [[Span(" mmwatch", Tone.TITLE), Span(f"  {state.headline}")], [Span(f" {what}; q quits")]]
    return [fitted(line, width) for line in head], [text.key_line(FOOTER[:2], width)]


def head(state: State, history: History, latest: Snapshot, width: int, room: int) -> list[Line]:
    """The host, in at most ``room`` lines but at least one; the least important go first."""
    flags = ["PAUSED (Space)"] if state.paused else []
    flags += [f"REC {state.services.recording()}"] if state.services.recording() else []
    first = [text.top_line(history.session, latest, flags, state.headline, width)]
    left = max(room - len(first), 0)
    judged = state.verdict()
    finding = text.finding_spans(judged[0] if judged else None, width)
    elsewhere = (finding or text.elsewhere_spans(latest, width))[:left]
    left -= len(elsewhere)
    facts, rates = text.state_spans(latest, width), text.rate_spans(history, width)
    rates = rates if left - len(facts) - len(rates) >= 3 else []
    nodes_room = min(NODES_MAX, max(left - len(facts) - len(rates), 2) - 1)
    nodes = text.node_spans(latest, width, nodes_room) if left >= 2 else []
    facts = facts[: max(left - len(nodes) - len(rates), 0)]
    return [*first, *nodes, *elsewhere, *facts, *rates]


def foot(state: State, history: History, latest: Snapshot, width: int, height: int, asking: bool) -> list[Line]:
    """The account, the place in a recording, and the keys or a notice; no keys while the user types.

    :param height: of the screen. On a low one the account has one line, or none.
    """
    if history.total is None:
        return []
    lines = text.health_spans(latest, history.total, history.session, state.services.bpf_ns(), width)
    lines = lines if height >= ACCOUNT_LINES_MIN else lines[:1] if height >= ACCOUNT_MIN else []
    lines += [position_line(state.controls, width)] if state.controls else []
    notice = fitted(state.notice_line(), width)
    return [*lines, *([notice] if notice else [] if asking else [text.key_line(FOOTER, width)])]


def mode(state: State, frame: Frame, wanted: str, shift: int, top: int, room: int, width: int) -> Line:
    """How the table is arranged, and which part of it is visible."""
    layout = state.layout
    parts = [f"by {layout.by}", f"sorted by {layout.sort_column().title}{' reversed' if layout.reverse else ''}"]
    seconds = frame.snapshot.duration_s
    parts.append(f"totals of {seconds:.0f}s" if layout.cumulative else f"per second, over {seconds:.2f}s")
    parts += [f"tree by {layout.tree}"] if layout.tree in TREES_OF.get(layout.by, ("",))[1:] else []
    parts += ["only active"] if layout.active else []
    found, of = frame.matching
    parts += [f"filter {clean(wanted)!r} {found} of {of}"] if wanted else []
    parts += [f"{shift} columns to the left"] if shift else []
    last = min(top + room, len(frame.order))
    parts += [f"{top + 1}-{last} of {len(frame.order)}"] if len(frame.order) > room else []
    return fitted([Span(f" {'  '.join(parts)}", Tone.DIM)], width)


def arranged(state: State, width: int) -> tuple[Column, ...]:
    """The columns of the layout."""
    history = state.shown
    if history is None or history.latest is None:
        return state.layout.shown(width)
    return state.layout.shown(width, history.cgroups_differ, len(history.latest.nodes) < 2)


def visible(columns: tuple[Column, ...], width: int, shift: int) -> tuple[tuple[Column, ...], int]:
    """The columns that are seen, and how many have scrolled out to the left. Those that identify a row never do."""
    first = sum(1 for column in columns if column.key in ("pid", "tid", "comm"))
    needed = sum(max(column.width, len(column.title)) + 1 for column in columns)
    shift = max(0, min(shift, len(columns) - first - 1)) if needed > width else 0
    return (*columns[:first], *columns[first + shift :]), shift
