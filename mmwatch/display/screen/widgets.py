"""Spans on a terminal: tables, pages and menus that draw only what changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.screen import ModalScreen, Screen
from textual.strip import Strip
from textual.widget import Widget

from mmwatch.display.screen.lines import key_line
from mmwatch.display.screen.state import State
from mmwatch.display.spans import Line, Span, Tone, fitted
from mmwatch.display.text import to_ascii

if TYPE_CHECKING:
    from textual.app import ComposeResult

WHEEL_LINES = 3


class Lines(Widget):
    """Lines one below the other. Those that do not fit are cut off.

    :param own_height: the widget is as high as it has lines, instead of taking all the room.
    """

    DEFAULT_CSS = "Lines { height: 1fr; width: 1fr; }"
    ALLOW_SELECT = False

    def __init__(self, state: State, own_height: bool = False) -> None:
        super().__init__()
        self._state = state
        self.lines: list[Line] = []
        self.marked: int | None = None
        self._own_height = own_height
        if own_height:
            self.styles.height = 1

    def show(self, lines: list[Line], marked: int | None = None) -> None:
        """Draw the lines that changed.

        :param marked: the line with the cursor.
        """
        before, before_marked = self.lines, self.marked
        self.lines, self.marked = lines, marked
        if self._own_height and len(lines) != len(before):
            self.styles.height = len(lines)
            self.refresh()
            return
        for y in range(max(len(lines), len(before))):
            same = y < len(lines) and y < len(before) and lines[y] == before[y]
            if not same or (y == marked) != (y == before_marked):
                self.refresh(Region(0, y, self.size.width, 1))

    def render_line(self, y: int) -> Strip:
        """One line, as Textual asks for it."""
        width = self.size.width
        base = self.rich_style
        if y >= len(self.lines):
            return Strip.blank(width, base)
        looks = self._state.tones
        text = to_ascii if self._state.ascii_only else str
        over = Style(reverse=True) if y == self.marked else Style()
        strip = Strip([Segment(text(span.text), base + looks[span.tone] + over) for span in self.lines[y]])
        return strip.adjust_cell_length(width, base + over)


def screen_text(screen: Screen[Any]) -> str:
    """The visible part of the screen, as plain text."""
    return "".join(f"{strip.text.rstrip()}\n" for strip in screen._compositor.render_strips())


class Table(Lines):
    """Lines that react to clicks and the wheel.

    :param clicked: called with x, y and the number of clicks.
    :param turned: called with the number of lines to scroll.
    """

    def __init__(self, state: State, clicked: Callable[[int, int, int], None], turned: Callable[[int], None]) -> None:
        super().__init__(state)
        self._clicked, self._turned = clicked, turned

    def on_click(self, event: events.Click) -> None:
        self._clicked(event.x, event.y, event.chain)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self._turned(WHEEL_LINES)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self._turned(-WHEEL_LINES)


class Pager(Screen[None]):
    """A page to scroll.

    :param make: makes the lines for a width; called again for each interval.
    :param closed: called when the page is closed.
    :param keys: keys besides those that scroll: key, description, action.
    :param leave: characters that close it, in addition to Esc, such as the one that opened it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter", "leave", "back"),
        Binding("up,k", "move(-1)", "up"),
        Binding("down,j", "move(1)", "down"),
        Binding("pageup", "page(-1)", "page up"),
        Binding("pagedown", "page(1)", "page down"),
        Binding("home,g", "end(0)", "to the top"),
        Binding("end,G", "end(1)", "to the end"),
    ]

    def __init__(
        self,
        state: State,
        make: Callable[[int], list[Line]],
        closed: Callable[[], None] = lambda: None,
        keys: Sequence[tuple[str, str, Callable[[], None]]] = (),
        leave: str = "",
    ) -> None:
        super().__init__()
        self._state = state
        self._make, self._left, self._more_keys, self._leaving = make, closed, keys, leave
        self._top = 0
        self._body, self._foot = Table(state, lambda x, y, chain: None, self._turn), Lines(state, own_height=True)

    def compose(self) -> ComposeResult:
        """The text, and the keys below it."""
        yield self._body
        yield self._foot

    def on_mount(self) -> None:
        self.call_after_refresh(self.draw)

    def on_resize(self) -> None:
        self.call_after_refresh(self.draw)

    def on_key(self, event: events.Key) -> None:
        if event.character and event.character in self._leaving:
            event.stop()
            self.action_leave()
        for key, _, do in self._more_keys:
            if event.key == key:
                event.stop()
                do()

    def draw(self) -> None:
        """Make the lines again and draw them."""
        width, height = self._body.size
        if not width:
            return
        lines = self._make(width)
        self._top = max(0, min(self._top, len(lines) - height))
        self._body.show(lines[self._top : self._top + height])
        keys = [("Esc", "back"), *((key, what) for key, what, _ in self._more_keys), ("q", "quit")]
        line = key_line(keys, width)
        if len(lines) > height:
            line = [Span(f" {self._top + 1}-{min(self._top + height, len(lines))} of {len(lines)} "), *line]
        self._foot.show([fitted(self._state.notice_line() or line, width)])

    def _turn(self, lines: int) -> None:
        self._top = max(0, self._top + lines)
        self.draw()

    def action_move(self, lines: int) -> None:
        self._turn(lines)

    def action_page(self, pages: int) -> None:
        """Scroll by the number of visible lines."""
        self._turn(pages * max(1, self._body.size.height - 1))

    def action_end(self, end: int) -> None:
        self._turn(1_000_000 if end else -1_000_000)

    def action_leave(self) -> None:
        self._left()
        self.dismiss()


class Menu(ModalScreen[None]):
    """A list to choose one entry from, or to switch several.

    :param choices: the text of each entry, and whether it is chosen.
    :param chosen: called with the number of an entry; with ``several`` each time one is switched.
    """

    DEFAULT_CSS = "Menu { align: center middle; } Menu Lines { max-height: 90%; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "back"),
        Binding("q,f10", "app.quit", "quit"),  # a modal screen has only its own keys
        Binding("enter,space", "choose", "choose"),
        Binding("up,k", "move(-1)", "up"),
        Binding("down,j", "move(1)", "down"),
        Binding("pageup", "move(-10)", "page up"),
        Binding("pagedown", "move(10)", "page down"),
        Binding("home,g", "move(-1000)", "to the top"),
        Binding("end,G", "move(1000)", "to the end"),
    ]

    def __init__(
        self,
        state: State,
        title: str,
        choices: list[tuple[str, bool]],
        chosen: Callable[[int], None],
        several: bool = False,
    ) -> None:
        super().__init__()
        self._caption, self._choices, self._chosen, self._several = title, choices, chosen, several
        self._at = next((index for index, (_, on) in enumerate(choices) if on), 0)
        self._top = 0
        self._body = Table(state, self._click, self.action_move)

    def compose(self) -> ComposeResult:
        yield self._body

    def on_mount(self) -> None:
        self._body.styles.height = len(self._choices) + 2
        self.call_after_refresh(self.draw)

    def on_resize(self) -> None:
        self.call_after_refresh(self.draw)

    def draw(self) -> None:
        """Draw the entries around the cursor."""
        width, height = self._body.size
        room = max(1, height - 2)
        self._top = max(min(self._top, self._at), self._at - room + 1)
        lines: list[Line] = [[Span(f" {self._caption}", Tone.TITLE)]]
        for text, on in self._choices[self._top : self._top + room]:
            lines.append(fitted([Span(f" {'*' if on else ' '} {text}".ljust(width), Tone.PLAIN)], width))
        what = "Space switches, Esc closes" if self._several else "Enter chooses, Esc cancels"
        lines.append([Span(f" {what}", Tone.DIM)])
        self._body.show(lines, 1 + self._at - self._top)

    def action_move(self, lines: int) -> None:
        self._at = max(0, min(len(self._choices) - 1, self._at + lines))
        self.draw()

    def action_choose(self) -> None:
        """Choose or switch the entry at the cursor."""
        if not self._several:
            self.dismiss()
        else:
            text, on = self._choices[self._at]
            self._choices[self._at] = (text, not on)
            self.draw()
        self._chosen(self._at)

    def action_leave(self) -> None:
        self.dismiss()

    def _click(self, x: int, y: int, chain: int) -> None:
        if 0 < y <= len(self._choices) - self._top:
            self._at = self._top + y - 1
            self.draw()
            self.action_choose()
