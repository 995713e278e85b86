"""The main screen: host, rates, table, account, keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from textual.binding import BindingType
from textual.screen import Screen
from textual.widgets import Input

from mmwatch.display.screen import lines as text
from mmwatch.display.screen import picture
from mmwatch.display.screen.cursor import Cursor
from mmwatch.display.screen.help import help_lines, notes_of
from mmwatch.display.screen.keys import KEYS
from mmwatch.display.screen.layout import THEMES, TREES_OF
from mmwatch.display.screen.position import go_to
from mmwatch.display.screen.state import State
from mmwatch.display.screen.subject import Subject
from mmwatch.display.screen.theme import TEXTUAL
from mmwatch.display.screen.view import Frame, build, matches
from mmwatch.display.screen.widgets import Lines, Menu, Pager, Table, screen_text
from mmwatch.display.spans import Line, Span, Tone, fitted
from mmwatch.display.table import column_widths, empty_line, matrix_lines
from mmwatch.model.arrangement import RECORDED
from mmwatch.model.columns import BY_KEY, COLUMNS, Column
from mmwatch.model.groupings import GROUPINGS
from mmwatch.units import clean

if TYPE_CHECKING:
    from textual.app import ComposeResult

INTERVALS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
SPEEDS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0)


class MainScreen(Screen[None]):
    """Draws what the application took from the feed."""

    DEFAULT_CSS = """
    MainScreen > Input { display: none; height: 1; }
    MainScreen > Input.open { display: block; }
    """
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = KEYS

    def __init__(self, state: State) -> None:
        super().__init__()
        self._state = state
        self.frame: Frame | None = None
        self.wanted = ""
        self._sought = ""
        self._cursor = Cursor()
        self._shift = 0
        self._asking = ""
        self._head, self._foot = Lines(state, own_height=True), Lines(state, own_height=True)
        self._table = Table(state, self._clicked, self._turned)
        self._input = Input(select_on_focus=False, compact=True)
        self._input.cursor_blink = False

    def compose(self) -> ComposeResult:
        yield self._head
        yield self._table
        yield self._foot
        yield self._input

    def on_mount(self) -> None:
        self.call_after_refresh(self.draw)

    def on_resize(self) -> None:
        self.call_after_refresh(self.draw)

    # ---- drawing ----

    def rebuild(self) -> None:
        """Rebuild the table from the newest interval and the current arrangement, then draw."""
        state = self._state
        if state.shown is not None:
            self.frame = build(state.shown, state.layout, self.wanted, state.limit, state.services.exited)
        self.draw()

    def draw(self) -> None:
        width, height = self.size
        if not width:
            return
        state, frame, asking = self._state, self.frame, bool(self._asking)
        history = state.shown
        if history is None or history.by_path is None or frame is None:
            head, foot = picture.waiting(state, width)
            self._head.show(head)
            self._foot.show(foot)
            return
        foot = picture.foot(state, history, history.by_path, width, height, asking)
        self._foot.show(foot)
        head = picture.head(state, history, history.by_path, width, height - len(foot) - asking - 1 - picture.ROWS_MIN)
        room = max(height - len(foot) - asking - len(head) - 2, 1)
        table = self._rows(frame, width, room)
        mode = picture.mode(state, frame, self.wanted, self._shift, self._cursor.top, room, width)
        self._head.show([*head, mode])
        self._table.show(table, None if self._cursor.key is None else 1 + self._cursor.at - self._cursor.top)

    def _rows(self, frame: Frame, width: int, room: int) -> list[Line]:
        layout = self._state.layout
        self._cursor.follow(frame, room)
        columns = self._columns(width)
        widths = column_widths(columns, width - 1)
        shown = [text.title_spans(columns, layout.sort_column(), widths)]
        shown += text.row_spans(frame, columns, widths, self._cursor.top, room, self._state.services.exited)
        if not len(frame.order):
            stretch = "session" if layout.cumulative else "interval"
            empty = empty_line(frame.snapshot, stretch) if not self.wanted else "no row contains this text; Esc: all"
            shown.append([Span(f" {empty}", Tone.DIM)])
        if layout.by == "node" and len(shown) + 2 < room:
            shown += [[], *([Span(f" {line}")] for line in matrix_lines(frame.snapshot, width - 1))]
        return [fitted(line, width) for line in shown]

    def _columns(self, width: int) -> tuple[Column, ...]:
        """The visible columns."""
        columns, self._shift = picture.visible(picture.arranged(self._state, width), width, self._shift)
        return columns

    # ---- the cursor ----

    def _clicked(self, x: int, y: int, chain: int) -> None:
        if self.frame is None:
            return
        line = self._cursor.top + y - 1
        if y == 0:
            columns = self._columns(self.size.width)
            column = text.column_at(columns, column_widths(columns, self.size.width - 1), x)
            if column is not None:
                self._sort_by(column)
        elif line < len(self.frame.order):
            self._to(line)
            if chain > 1:
                self.action_detail()

    def _turned(self, lines: int) -> None:
        if self._cursor.key is not None:
            self.action_move(lines)
        else:
            self._cursor.top += lines
            self.draw()

    def _to(self, line: int) -> None:
        if self.frame is not None and len(self.frame.order):
            self._cursor.go(self.frame, line)
            self.draw()

    def action_move(self, lines: int) -> None:
        """Move the cursor. On the first call it appears at the top."""
        self._to(self._cursor.at + lines if self._cursor.key is not None else self._cursor.top)

    def action_page(self, pages: int) -> None:
        height = max(1, self._table.size.height - 2)
        self._to((self._cursor.at if self._cursor.key is not None else self._cursor.top) + pages * height)

    def action_end(self, end: int) -> None:
        self._to(len(self.frame.order) if end and self.frame is not None else 0)

    def action_back(self) -> None:
        """Close the input line, else remove the filter, else the cursor."""
        if self._asking:
            self._close_input()
        elif self.wanted:
            self.wanted = ""
            self.rebuild()
        else:
            self._cursor.clear()
            self.draw()

    # ---- arranging ----

    def _sort_by(self, column: Column) -> None:
        layout = self._state.layout
        back = {total: rate for rate, total in RECORDED.items()}
        key = back.get(column.key, column.key)
        layout.reverse = not layout.reverse if layout.sort == key else False
        layout.sort = key
        self.rebuild()

    def action_sort(self) -> None:
        columns = [column for column in COLUMNS if column.key not in RECORDED.values()]
        choices = [(f"{column.title:8} {column.help}", column.key == self._state.layout.sort) for column in columns]
        self.app.push_screen(Menu(self._state, "sort by", choices, lambda number: self._sort_by(columns[number])))

    def action_sort_key(self, key: str) -> None:
        self._sort_by(BY_KEY[key])

    def action_foreign(self, instead: str) -> None:
        self._state.tell(instead)

    def action_sort_next(self, step: int) -> None:
        columns = picture.arranged(self._state, self.size.width)
        now = self._state.layout.sort_column()
        at = columns.index(now) + step if now in columns else 0
        if 0 <= at < len(columns) and columns[at] is not now:
            self._sort_by(columns[at])

    def action_reverse(self) -> None:
        self._state.layout.reverse = not self._state.layout.reverse
        self.rebuild()

    def action_columns(self) -> None:
        layout = self._state.layout
        shown = [column.key for column in picture.arranged(self._state, self.size.width)]

        def switch(number: int) -> None:
            key = COLUMNS[number].key
            if key in shown:
                shown.remove(key)
            else:  # insert before the first column that is declared later
                later = (at for at, one in enumerate(shown) if COLUMNS.index(BY_KEY[one]) > number)
                shown.insert(next(later, len(shown)), key)
            layout.columns[layout.by] = list(shown) or [COLUMNS[0].key]
            self.rebuild()

        choices = [(f"{column.title:8} {column.help}", column.key in shown) for column in COLUMNS]
        self.app.push_screen(Menu(self._state, f"columns by {layout.by}", choices, switch, several=True))

    def action_view(self, step: int) -> None:
        views = tuple(GROUPINGS)
        self._view(views[(views.index(self._state.layout.by) + step) % len(views)])

    def _view(self, by: str) -> None:
        self._state.layout.by = by
        self._cursor.clear()
        self.rebuild()

    def action_group(self, by: str) -> None:
        self._view("task" if self._state.layout.by == by else by)

    def action_cumulative(self) -> None:
        self._state.layout.cumulative = not self._state.layout.cumulative
        self.rebuild()

    def action_active(self) -> None:
        self._state.layout.active = not self._state.layout.active
        self.rebuild()

    def action_tree(self) -> None:
        layout = self._state.layout
        trees = TREES_OF.get(layout.by, ())
        if not trees:
            self._state.tell("only tasks, threads and cgroups have a tree; Tab changes the view")
            return
        layout.tree = trees[(trees.index(layout.tree) + 1) % len(trees)] if layout.tree in trees else trees[1]
        self.rebuild()

    def action_theme(self) -> None:
        state = self._state
        state.set_theme(THEMES[(THEMES.index(state.layout.theme) + 1) % len(THEMES)])
        self.app.theme = TEXTUAL[state.layout.theme]
        self.app.refresh(layout=True)
        state.tell(f"theme {state.layout.theme}")

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
        self._ask("filter", "only rows with this text: name, PID, path, cgroup, command; Enter keeps it", self.wanted)

    def action_search(self) -> None:
        self._ask("search", "go to a row with this text; n goes to the next")

    def action_seek(self) -> None:
        if self._state.controls is not None:
            self._ask("seek", "go to a time in the recording: HH:MM:SS, or a share such as 50%")

    def on_input_changed(self, event: Input.Changed) -> None:
        if self._asking == "filter" and event.value != self.wanted:
            self.wanted = event.value
            self.rebuild()
        elif self._asking == "search":
            self._sought = event.value
            self._seek(0)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        asked = self._asking
        self._close_input()
        controls = self._state.controls
        if asked == "seek" and controls is not None and not go_to(controls, event.value.strip()):
            self._state.tell(f"not a time in this recording: {clean(event.value)}")

    def action_again(self) -> None:
        self._seek(1)

    def _seek(self, skip: int) -> None:
        frame = self.frame
        if frame is None or not self._sought or not len(frame.order):
            return
        lines = np.flatnonzero(frame.order >= 0)
        lines = lines[matches(frame.snapshot, frame.order[lines], self._sought)]
        if not len(lines):
            self._state.tell(f"no row contains {clean(self._sought)!r}")
            return
        after = lines[lines >= (self._cursor.at + skip if self._cursor.key is not None else 0)]
        self._to(int(after[0] if len(after) else lines[0]))

    # ---- other things ----

    def action_help(self) -> None:
        state = self._state
        self.app.push_screen(Pager(state, lambda width: help_lines(notes_of(state), state.controls, width), leave="?h"))

    def action_pause(self) -> None:
        """Stop drawing, or pause a recording; then continue."""
        if self._state.controls is not None:
            self._state.controls.paused = not self._state.controls.paused
        else:
            self._state.pause()
        self.rebuild()

    def action_interval(self, step: int) -> None:
        if self._state.controls is not None:
            self._state.tell("the intervals of a recording are fixed; [ and ] change the speed")
            return
        now = self._state.interval_s
        other = [one for one in INTERVALS_S if (one - now) * step > now / 100]
        if other:
            self._state.set_interval_s(min(other, key=lambda one: abs(one - now)))

    def action_save(self) -> None:
        save = self._state.services.save
        self._state.tell(save(self._state.layout) if save else "the layout cannot be saved here")

    def action_export(self) -> None:
        export = self._state.services.export
        if export:
            # A viewer should not have to download a font.
            svg = re.sub(r"@font-face\s*{[^}]*}\s*", "", self.app.export_screenshot(title="mmwatch"))
            self._state.tell(export(svg, screen_text(self)))

    def action_record(self) -> None:
        if self._state.services.record is None:
            self._state.tell("this is a recording already")
        else:
            self._state.services.record()

    def action_verdict(self) -> None:
        state = self._state
        self.app.push_screen(Pager(state, lambda width: text.verdict_spans(state.verdict(True), width), leave="v"))

    def action_detail(self) -> None:
        frame = self.frame
        if frame is None or not len(frame.order):
            return
        if self._cursor.key is None:
            self._to(self._cursor.top)
        if self._cursor.key is None or self._cursor.key[0] == "heading":
            self._state.tell("this line is a sum: go to one of the rows below it")
        else:
            self.app.push_screen(Subject(self._state, frame.snapshot.by, self._cursor.key).pager())

    # ---- replay ----

    def action_step(self, step: int) -> None:
        """Step in a recording; in a live session, move to columns that do not fit."""
        if self._state.controls is not None:
            self._state.controls.step(step)
        else:
            self._shift += step
            self.draw()

    def action_jump(self, seconds: int) -> None:
        """Move by seconds in a recording; in a live session, j moves down as k moves up."""
        if self._state.controls is not None:
            self._state.controls.jump_s(float(seconds))
        elif seconds > 0:
            self.action_move(1)

    def action_worst(self) -> None:
        if self._state.controls is not None and not self._state.controls.worst():
            self._state.tell("no task spent time in reclaim in this recording")

    def action_speed(self, step: int) -> None:
        controls = self._state.controls
        if controls is not None:
            other = [one for one in SPEEDS if (one - controls.speed) * step > 0]
            if other:
                controls.speed = min(other) if step > 0 else max(other)
                self.draw()
