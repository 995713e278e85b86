"""The application: takes intervals from its feed and has them drawn."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType

from mmwatch.display.screen.feed import Controls, Feed, Services
from mmwatch.display.screen.help import key_name
from mmwatch.display.screen.history import History
from mmwatch.display.screen.keys import KEYS
from mmwatch.display.screen.layout import Layout
from mmwatch.display.screen.main import MainScreen
from mmwatch.display.screen.terminal import Terminal
from mmwatch.display.screen.theme import TEXTUAL, styles
from mmwatch.display.screen.widgets import Pager
from mmwatch.display.spans import Line, Span, Tone

if TYPE_CHECKING:
    from rich.style import Style
    from textual.screen import Screen
    from textual.timer import Timer

POLL_S = 0.1
"""Time between two looks at the feed; one costs some microseconds."""
TAKEN_MAX = 20
"""Intervals taken at a look, where a recording is played fast; only the last one is drawn."""
NOTICE_S = 6.0


class ScreenApp(App[None]):
    """``mmwatch top`` and ``mmwatch replay`` on a terminal.

    :param controls: of a recording; it stays when it comes to its end.
    :param ascii_only: the terminal has no other characters.
    :param headline: said in the first line.
    :param limit: rows of the table at most.
    """

    ALLOW_SELECT = False
    TITLE = "mmwatch"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", "quit", priority=True),
        Binding("colon,ctrl+p", "command_palette", "all commands"),
        Binding("ctrl+z", "suspend_process", "to the shell"),
    ]

    def __init__(
        self,
        feed: Feed,
        layout: Layout,
        services: Services,
        *,
        controls: Controls | None = None,
        interval_s: float = 1.0,
        ascii_only: bool = False,
        headline: str = "",
        limit: int | None = None,
    ) -> None:
        # Only with the terminal's own colours does Textual leave out all others, background included.
        super().__init__(driver_class=Terminal, ansi_color=True if "NO_COLOR" in os.environ else None)
        self.feed, self.layout, self.services, self.controls = feed, layout, services, controls
        self.interval_s, self.ascii_only, self.headline = interval_s, ascii_only, headline
        self.limit = limit
        self._still: History | None = None
        self.history: History | None = None
        self.failure: BaseException | None = None
        self.tones: Mapping[Tone, Style] = styles(layout.theme)
        self.animation_level = "none"
        self.main = MainScreen()
        self._notice = ""
        self._notice_timer: Timer | None = None

    def get_default_screen(self) -> Screen[Any]:
        """There is one, and what is opened from it."""
        return self.main

    def on_mount(self) -> None:
        """Look at the feed from now on."""
        self.set_theme(self.layout.theme)
        self.app_resume_signal.subscribe(self, lambda _: self.screen.refresh(layout=True))  # the shell was there
        self._loop_of_feed = asyncio.get_running_loop()
        self._loop_of_feed.call_soon(self._poll)

    def _poll(self) -> None:
        try:
            goes_on = self._look()
        except Exception as error:  # here nobody else would see it
            self._handle_exception(error)
            return
        if goes_on:
            self._loop_of_feed.call_later(POLL_S, self._poll)

    def _look(self) -> bool:
        """What is new; False when there will be nothing more to see."""
        driver = self._driver
        if isinstance(driver, Terminal):
            if driver.gone:
                self.exit()
                return False
            if driver.behind:  # it has not taken what was drawn before: let it come merged
                return not self._over()
        if self._take():
            if not self.paused:
                self.main.rebuild()
                if isinstance(self.screen, Pager):
                    self.screen.draw()
        elif self.history is None and self.feed.session is not None:
            self.main.draw()
        notices = self.services.notices()
        if notices:
            self.tell("; ".join(notices))
        return not self._over()

    def _take(self) -> bool:
        """Add to the history what is new; False: nothing is."""
        session = self.feed.session
        before = self.controls.before() if self.controls else None
        taken = 0
        while taken < TAKEN_MAX and session is not None and (interval := self.feed.take()) is not None:
            if self.history is None or before is not None:
                self.history, before = History(session, before), None
            self.history.add(interval)
            taken += 1
        return taken > 0

    def _over(self) -> bool:
        if self.feed.problem is not None or (self.feed.ended and self.controls is None):
            self.failure = self.feed.problem
            self.exit()
            return True
        return False

    def _handle_exception(self, error: Exception) -> None:
        """No traceback on the terminal of a user: whoever runs this says what became of it."""
        self.failure = self.failure or error
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
        self._return_code = 1
        self._close_messages_no_wait()

    # ---- for the screens ----

    @property
    def shown(self) -> History | None:
        """What is drawn: all there is, or what there was when it was paused."""
        return self._still or self.history

    @property
    def paused(self) -> bool:
        """Whether drawing has stopped."""
        return self._still is not None

    def pause(self) -> None:
        """Stop drawing what comes, or go on."""
        self._still = None if self._still or self.history is None else self.history.frozen()

    def draw(self) -> None:
        """All that is open."""
        self.main.draw()
        if isinstance(self.screen, Pager):
            self.screen.draw()

    def tell(self, message: str) -> None:
        """For some seconds, in the last line."""
        self._notice = message
        self.draw()
        if self._notice_timer is not None:
            self._notice_timer.stop()
        self._notice_timer = self.set_timer(NOTICE_S, self._untell)

    def _untell(self) -> None:
        self._notice = ""
        self.draw()

    def notice_line(self) -> Line:
        """What is told at the moment."""
        return [Span(f" {self._notice}", Tone.WARN)] if self._notice else []

    def set_theme(self, theme: str) -> None:
        """One of :data:`~mmwatch.display.screen.layout.THEMES`."""
        self.layout.theme = theme
        self.tones = styles(theme)
        self.theme = TEXTUAL[theme]
        self.refresh(layout=True)

    def set_interval_of_feed(self, seconds: float) -> None:
        """From now on."""
        self.interval_s = self.layout.interval_s = seconds
        self.feed.set_interval_s(seconds)
        self.tell(f"an interval is {seconds:g} s")

    def screen_text(self) -> str:
        """What is seen, as plain text."""
        strips = self.screen._compositor.render_strips()
        return "".join(f"{strip.text.rstrip()}\n" for strip in strips)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Everything that has a key, by name."""
        for binding in KEYS:
            if isinstance(binding, Binding) and (self.controls or not binding.description.startswith("replay: ")):
                key = binding.key.split(",")[0]
                yield SystemCommand(
                    binding.description, f"key {key_name(key)}", functools.partial(self.simulate_key, key)
                )
        yield SystemCommand("quit", "key q", self.exit)
