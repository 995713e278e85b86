"""The screen people keep open: host, rates, table, account, keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from textual.binding import BindingType
from textual.screen import Screen
from textual.widgets import Input

from mmwatch.display import plain
from mmwatch.display.screen import lines as text
from mmwatch.display.screen.help import help_lines
from mmwatch.display.screen.keys import FOOTER, KEYS
from mmwatch.display.screen.layout import THEMES, TREES
from mmwatch.display.screen.position import position_line, share_of
from mmwatch.display.screen.subject import Subject
from mmwatch.display.screen.view import Frame, Key, build, matches
from mmwatch.display.screen.widgets import Lines, Menu, Pager, Table
from mmwatch.display.spans import Line, Span, Tone, fitted
from mmwatch.model.columns import BY_KEY, COLUMNS, RECORDED, Column
from mmwatch.model.measures import GROUPING_NAMES
from mmwatch.model.snapshot import Snapshot
from mmwatch.units import clean

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from mmwatch.display.screen.app import ScreenApp

INTERVALS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
ROWS_MIN = 6
"""Rows of the table for which lines about the host give way."""
SPEEDS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0)


class MainScreen(Screen[None]):
    """Draws what the application has taken from its feed."""

    DEFAULT_CSS = """
    MainScreen > Input { display: none; height: 1; }
    MainScreen > Input.open { display: block; }
    """
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = KEYS
    app: ScreenApp

    def __init__(self) -> None:
        super().__init__()
        self.frame: Frame | None = None
        self.wanted = ""
        self._sought = ""
        self._cursor: Key | None = None
        self._on_faded = False
        self._shift = 0
        self._at = 0
        self._top = 0
        self._asking = ""
        self._head, self._foot = Lines(own_height=True), Lines(own_height=True)
        self._table = Table(self._clicked, self._turned)
        self._input = Input(select_on_focus=False, compact=True)
        self._input.cursor_blink = False

    def compose(self) -> ComposeResult:
        """From the top."""
        yield self._head
        yield self._table
        yield self._foot
        yield self._input

    def on_mount(self) -> None:
        """Something is seen at once."""
        self.call_after_refresh(self.draw)

    def on_resize(self) -> None:
        """Everything depends on the size."""
        self.call_after_refresh(self.draw)

    # ---- drawing ----

    def rebuild(self) -> None:
        """The table of what was taken last, or as it is arranged now; then draw."""
        if self.app.shown is not None:
            self.frame = build(self.app.shown, self.app.layout, self.wanted, self.app.limit)
        self.draw()

    def draw(self) -> None:
        """What changed since the last time."""
        width = self.size.width
        if not width:
            return
        history = self.app.shown
        if history is None or history.by_path is None or self.frame is None or history.total is None:
            waiting = "waiting for the first interval" if self.app.feed.session else "compiling the probes; q ends it"
            self._head.show([[Span(" mmwatch", Tone.TITLE), Span(f"  {self.app.headline}  {waiting}")]])
            self._foot.show([text.key_line(FOOTER[:2], width)])
            return
        latest = history.by_path
        foot = text.health_spans(latest, history.total, history.session, self.app.services.bpf_ns(), width)
        foot += [position_line(self.app.controls, width)] if self.app.controls else []
        notice = fitted(self.app.notice_line(), width)
        foot += [notice] if notice else [] if self._asking else [text.key_line(FOOTER, width)]
        self._foot.show(foot)
        head = self._host(latest, width, self.size.height - len(foot) - bool(self._asking) - 1 - ROWS_MIN)
        room = self.size.height - len(foot) - bool(self._asking) - len(head) - 2
        table = self._rows(width, max(room, 1))
        self._head.show([*head, self._mode(max(room, 1), width)])
        marked = None if self._cursor is None else 1 + self._at - self._top
        self._table.show(table, marked)

    def _host(self, latest: Snapshot, width: int, room: int) -> list[Line]:
        """As many lines as there is room for; the least important go first."""
        history = self.app.shown
        assert history is not None
        flags = ["PAUSED (Space)"] if self.app.paused else []
        flags += [f"REC {self.app.services.recording()}"] if self.app.services.recording() else []
        first = [text.top_line(history.session, latest, flags, self.app.headline, width)]
        elsewhere = text.elsewhere_spans(latest, width)
        state, rates = text.state_spans(latest, width), text.rate_spans(history.rates, width)
        nodes_room = room - 1 - len(first) - len(elsewhere) - len(state) - len(rates)
        if nodes_room < 3:
            rates, nodes_room = [], nodes_room + len(rates)
        nodes = text.node_spans(latest, width, max(2, min(plain.NODES_MAX, nodes_room - 1)))
        return [*first, *nodes, *elsewhere, *state, *rates]

    def _mode(self, room: int, width: int) -> Line:
        frame, layout, history = self.frame, self.app.layout, self.app.shown
        assert frame is not None
        assert history is not None
        column = layout.sort_column()
        parts = [f"by {layout.by}", f"sorted by {column.title}{' reversed' if layout.reverse else ''}"]
        seconds = frame.snapshot.duration_s
        parts.append(f"totals of {seconds:.0f}s" if layout.cumulative else f"per second, each {seconds:.2f}s")
        parts += [f"tree by {layout.tree}"] if layout.tree and layout.by in ("task", "thread") else []
        parts += ["only active"] if layout.active else []
        found, of = frame.matching
        parts += [f"filter {clean(self.wanted)!r} {found} of {of}"] if self.wanted else []
        last = min(self._top + room, len(frame.order))
        parts += [f"{self._shift} columns to the left"] if self._shift else []
        parts += [f"{self._top + 1}-{last} of {len(frame.order)}"] if len(frame.order) > room else []
        return fitted([Span(f" {'  '.join(parts)}", Tone.DIM)], width)

    def _rows(self, width: int, room: int) -> list[Line]:
        frame, layout = self.frame, self.app.layout
        assert frame is not None
        found = frame.find(self._cursor)
        if found is not None and (self._on_faded or not self._is_faded(found)):
            self._at = found
        elif self._cursor is not None and len(frame.order):
            self._at = min(self._at, len(frame.order) - 1)
            self._cursor = frame.key(self._at)
        if self._cursor is not None:
            self._top = max(min(self._top, self._at), self._at - room + 1)
        self._top = max(0, min(self._top, len(frame.order) - room))
        columns = self._columns(width)
        widths = plain.column_widths(columns, width - 1)
        shown = [text.title_spans(columns, layout.sort_column(), widths)]
        shown += text.row_spans(frame, columns, widths, self._top, room, self.app.services.exited)
        if not len(frame.order):
            stretch = "session" if layout.cumulative else "interval"
            empty = plain.empty_line(frame.snapshot, stretch) if not self.wanted else "no row has this text; Esc"
            shown.append([Span(f" {empty}", Tone.DIM)])
        if layout.by == "node" and len(shown) + 2 < room:
            shown += [[], *([Span(f" {line}")] for line in plain.matrix_lines(frame.snapshot, width - 1))]
        return [fitted(line, width) for line in shown]

    def _columns(self, width: int) -> tuple[Column, ...]:
        """Those that are shown; of more than fit, some are moved out to the left, but not who a row is."""
        columns = self.app.layout.shown(width)
        first = sum(1 for column in columns if column.key in ("pid", "tid", "comm"))
        needed = sum(max(column.width, len(column.title)) + 1 for column in columns)
        self._shift = max(0, min(self._shift, len(columns) - first - 1)) if needed > width else 0
        return (*columns[:first], *columns[first + self._shift :])

    # ---- the cursor ----

    def _clicked(self, x: int, y: int, chain: int) -> None:
        if self.frame is None:
            return
        if y == 0:
            columns = self._columns(self.size.width)
            column = text.column_at(columns, plain.column_widths(columns, self.size.width - 1), x)
            if column is not None:
                self._sort_by(column)
        elif self._top + y - 1 < len(self.frame.order):
            self._to(self._top + y - 1)
            if chain > 1:
                self.action_detail()

    def _turned(self, lines: int) -> None:
        if self._cursor is not None:
            self.action_move(lines)
        else:
            self._top += lines
            self.draw()

    def _to(self, line: int) -> None:
        frame = self.frame
        if frame is not None and len(frame.order):
            self._at = max(0, min(len(frame.order) - 1, line))
            self._cursor, self._on_faded = frame.key(self._at), self._is_faded(self._at)
            self.draw()

    def _is_faded(self, line: int) -> bool:
        """It goes down to the end, and the cursor with it only where it was faded already."""
        frame = self.frame
        assert frame is not None
        row = int(frame.order[line])
        return row >= 0 and not frame.active[row]

    def action_move(self, lines: int) -> None:
        """The cursor; the first time it comes to where the table begins."""
        self._to(self._at + lines if self._cursor is not None else self._top)

    def action_page(self, pages: int) -> None:
        """By what is seen."""
        height = max(1, self._table.size.height - 2)
        self._to((self._at if self._cursor is not None else self._top) + pages * height)

    def action_end(self, end: int) -> None:
        """First or last."""
        self._to(len(self.frame.order) if end and self.frame is not None else 0)

    def action_back(self) -> None:
        """Out of the input line; out of the filter; no cursor."""
        if self._asking:
            self._close_input()
        elif self.wanted:
            self.wanted = ""
            self.rebuild()
        else:
            self._cursor, self._top, self._at = None, 0, 0
            self.draw()

    # ---- arranging ----

    def _sort_by(self, column: Column) -> None:
        layout = self.app.layout
        back = {total: rate for rate, total in RECORDED.items()}
        key = back.get(column.key, column.key)
        layout.reverse = not layout.reverse if layout.sort == key else False
        layout.sort = key
        self.rebuild()

    def action_sort(self) -> None:
        """A menu of all columns."""
        columns = [column for column in COLUMNS if column.key not in RECORDED.values()]
        choices = [(f"{column.title:8} {column.help}", column.key == self.app.layout.sort) for column in columns]
        self.app.push_screen(Menu("sort by", choices, lambda number: self._sort_by(columns[number])))

    def action_sort_next(self, step: int) -> None:
        """The column beside the one the table is sorted by."""
        columns = self.app.layout.shown(self.size.width)
        now = self.app.layout.sort_column()
        at = columns.index(now) + step if now in columns else 0
        if 0 <= at < len(columns) and columns[at] is not now:
            self._sort_by(columns[at])

    def action_reverse(self) -> None:
        """The other way round."""
        self.app.layout.reverse = not self.app.layout.reverse
        self.rebuild()

    def action_columns(self) -> None:
        """A menu of all columns, several at a time."""
        layout = self.app.layout
        shown = [column.key for column in layout.shown(self.size.width)]

        def switch(number: int) -> None:
            key = COLUMNS[number].key
            if key in shown:
                shown.remove(key)
            else:  # before the first that is declared later
                later = (at for at, one in enumerate(shown) if COLUMNS.index(BY_KEY[one]) > number)
                shown.insert(next(later, len(shown)), key)
            layout.columns[layout.by] = list(shown) or [COLUMNS[0].key]
            self.rebuild()

        choices = [(f"{column.title:8} {column.help}", column.key in shown) for column in COLUMNS]
        self.app.push_screen(Menu(f"columns by {layout.by}", choices, switch, several=True))

    def action_view(self, step: int) -> None:
        """Another grouping."""
        at = GROUPING_NAMES.index(self.app.layout.by) + step
        self._view(GROUPING_NAMES[at % len(GROUPING_NAMES)])

    def _view(self, by: str) -> None:
        self.app.layout.by = by
        self._cursor, self._top, self._at = None, 0, 0
        self.rebuild()

    def action_threads(self) -> None:
        """Threads, and back."""
        self._view("task" if self.app.layout.by == "thread" else "thread")

    def action_cumulative(self) -> None:
        """Sums since the start, and back."""
        self.app.layout.cumulative = not self.app.layout.cumulative
        self.rebuild()

    def action_active(self) -> None:
        """Without what did nothing in the interval, and back."""
        self.app.layout.active = not self.app.layout.active
        self.rebuild()

    def action_tree(self) -> None:
        """The next kind of tree."""
        layout = self.app.layout
        if layout.by not in ("task", "thread"):
            self.app.tell("a tree is of tasks or threads: Tab changes the view")
            return
        layout.tree = TREES[(TREES.index(layout.tree) + 1) % len(TREES)]
        self.rebuild()

    def action_theme(self) -> None:
        """The next theme."""
        self.app.set_theme(THEMES[(THEMES.index(self.app.layout.theme) + 1) % len(THEMES)])
        self.app.tell(f"theme {self.app.layout.theme}")

    # ---- typing ----

    def _ask(self, what: str, placeholder: str, value: str = "") -> None:
        self._asking = what
        self._input.placeholder = placeholder
        self._input.value = value
        self._input.cursor_position = len(value)
        self._input.add_class("open")
        self._input.focus()
        self.draw()

    def _close_input(self) -> None:
        self._asking = ""
        self._input.remove_class("open")
        self.set_focus(None)
        self.call_after_refresh(self.draw)

    def action_filter(self) -> None:
        """Type what rows must contain."""
        self._ask("filter", "only rows with this text: name, PID, path, cgroup, command; Enter keeps it", self.wanted)

    def action_search(self) -> None:
        """Type where to go."""
        self._ask("search", "jump to a row with this text; n to the next one")

    def action_seek(self) -> None:
        """Type a time."""
        if self.app.controls is not None:
            self._ask("seek", "go to a time of the recording: HH:MM:SS, or a share such as 50%")

    def on_input_changed(self, event: Input.Changed) -> None:
        """At once, while it is typed."""
        if self._asking == "filter" and event.value != self.wanted:
            self.wanted = event.value
            self.rebuild()
        elif self._asking == "search":
            self._sought = event.value
            self._seek(0)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """That was it."""
        asked = self._asking
        self._close_input()
        if asked == "seek" and self.app.controls is not None:
            _, _, begin_s, _, end_s = self.app.controls.position()
            share = share_of(event.value.strip(), begin_s, end_s)
            if share is None:
                self.app.tell(f"not a time of this recording: {clean(event.value)}")
            else:
                self.app.controls.seek(share)

    def action_again(self) -> None:
        """The next row with what was searched."""
        self._seek(1)

    def _seek(self, skip: int) -> None:
        frame = self.frame
        if frame is None or not self._sought or not len(frame.order):
            return
        lines = np.flatnonzero(frame.order >= 0)
        lines = lines[matches(frame.snapshot, frame.order[lines], self._sought)]
        if not len(lines):
            self.app.tell(f"no row has {clean(self._sought)!r}")
            return
        after = lines[lines >= (self._at + skip if self._cursor is not None else 0)]
        self._to(int(after[0] if len(after) else lines[0]))

    # ---- other things ----

    def action_help(self) -> None:
        """The keys, what the signs mean, and what holds for this session."""
        self.app.push_screen(Pager(lambda width: help_lines(self._notes(), self.app.controls, width), leave="?h"))

    def _notes(self) -> list[str]:
        session = self.app.feed.session
        probes = session.probes if session else ()
        notes = [f"{one.need}: {one.state}. {one.reason}" for one in probes if one.state not in ("attached", "off")]
        return [*self.app.services.notes(), *map(clean, notes)]

    def action_pause(self) -> None:
        """Nothing is drawn until it is pressed again; a recording stands still."""
        if self.app.controls is not None:
            self.app.controls.paused = not self.app.controls.paused
        else:
            self.app.pause()
        self.rebuild()

    def action_interval(self, step: int) -> None:
        """The next one of some."""
        if self.app.controls is not None:
            self.app.tell("intervals are as they were recorded; [ and ] change the speed")
            return
        now = self.app.interval_s
        other = [one for one in INTERVALS_S if (one - now) * step > now / 100]
        if other:
            self.app.set_interval_of_feed(min(other, key=lambda one: abs(one - now)))

    def action_save(self) -> None:
        """For the next start."""
        save = self.app.services.save
        self.app.tell(save(self.app.layout) if save else "the layout cannot be saved here")

    def action_export(self) -> None:
        """As it is seen."""
        export = self.app.services.export
        if export:
            # Whoever looks at the picture shall not have to fetch a font for it.
            svg = re.sub(r"@font-face\s*{[^}]*}\s*", "", self.app.export_screenshot(title="mmwatch"))
            self.app.tell(export(svg, self.app.screen_text()))

    def action_record(self) -> None:
        """From here, or up to here."""
        if self.app.services.record is None:
            self.app.tell("what is played is recorded already")
        else:
            self.app.services.record()

    def action_detail(self) -> None:
        """All about the row at the cursor, or the first one."""
        frame = self.frame
        if frame is None or not len(frame.order):
            return
        if self._cursor is None:
            self._to(self._top)
        if self._cursor is None or self._cursor[0] == "heading":
            self.app.tell("this line is a sum: go to one of the rows below it")
        else:
            self.app.push_screen(Subject(self.app, frame.snapshot.by, self._cursor).pager())

    # ---- replay ----

    def action_step(self, step: int) -> None:
        """Intervals of the recording; without one, columns that do not fit."""
        if self.app.controls is not None:
            self.app.controls.step(step)
        else:
            self._shift += step
            self.draw()

    def action_jump(self, seconds: int) -> None:
        """Of the recording; without one, j goes down as k goes up."""
        if self.app.controls is not None:
            self.app.controls.jump_s(float(seconds))
        elif seconds > 0:
            self.action_move(1)

    def action_worst(self) -> None:
        """To where the trouble is."""
        if self.app.controls is not None and not self.app.controls.worst():
            self.app.tell("nobody spent time in reclaim in this recording")

    def action_speed(self, step: int) -> None:
        """Of the recording."""
        controls = self.app.controls
        if controls is not None:
            other = [one for one in SPEEDS if (one - controls.speed) * step > 0]
            if other:
                controls.speed = min(other) if step > 0 else max(other)
                self.draw()
