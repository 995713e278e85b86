"""The application: polls the feed and draws each new interval."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType

from mmwatch.display.screen.help import key_name
from mmwatch.display.screen.keys import KEYS
from mmwatch.display.screen.main import MainScreen
from mmwatch.display.screen.state import State
from mmwatch.display.screen.terminal import Terminal
from mmwatch.display.screen.theme import TEXTUAL
from mmwatch.display.screen.widgets import Pager

if TYPE_CHECKING:
    from textual.screen import Screen
    from textual.timer import Timer

POLL_S = 0.1
"""Time between two polls of the feed. A poll takes a few microseconds."""
NOTICE_S = 6.0


class ScreenApp(App[None]):
    """``mmwatch top`` and ``mmwatch replay`` on a terminal."""

    ALLOW_SELECT = False
    TITLE = "mmwatch"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,f10", "quit", "quit"),
        Binding("ctrl+c", "quit", "quit", priority=True),
        Binding("colon,ctrl+p", "command_palette", "all commands"),
        Binding("ctrl+z", "suspend_process", "to the shell"),
    ]

    def __init__(self, state: State) -> None:
        # Textual omits all colours, including the background, only if it uses the terminal's own.
        super().__init__(driver_class=Terminal, ansi_color=True if "NO_COLOR" in os.environ else None)
        self.state = state
        state.redraw, state.noticed = self.draw, self._noticed
        self.failure: BaseException | None = None
        self.animation_level = "none"
        self.main = MainScreen(state)
        self._notice_timer: Timer | None = None

    def get_default_screen(self) -> Screen[Any]:
        """The main screen; it opens all others."""
        return self.main

    def on_mount(self) -> None:
        self.theme = TEXTUAL[self.state.layout.theme]
        self.app_resume_signal.subscribe(self, lambda _: self.screen.refresh(layout=True))  # the shell drew over it
        self._loop_of_feed = asyncio.get_running_loop()
        self._loop_of_feed.call_soon(self._poll)

    def _poll(self) -> None:
        try:
            goes_on = self._look()
        except Exception as error:  # an exception in a timer would go unnoticed
            self._handle_exception(error)
            return
        if goes_on:
            self._loop_of_feed.call_later(POLL_S, self._poll)

    def _look(self) -> bool:
        """Draw what is new. Returns False once there is nothing more to come."""
        driver = self._driver
        if isinstance(driver, Terminal):
            if driver.gone:
                self.exit()
                return False
            if driver.behind:  # it has not accepted the last frame: let the next intervals merge
                return not self._over()
        if self.state.take():
            if not self.state.paused:
                self.main.rebuild()
                if isinstance(self.screen, Pager):
                    self.screen.draw()
        elif self.state.history is None:
            self.main.draw()  # how long it has waited
        notices = self.state.services.notices()
        if notices:
            self.state.tell("; ".join(notices))
        return not self._over()

    def _over(self) -> bool:
        if self.state.over():
            self.failure = self.state.feed.problem
            self.exit()
            return True
        return False

    def _handle_exception(self, error: Exception) -> None:
        """Keep the error instead of printing a traceback: the caller reports it."""
        self.failure = self.failure or error
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
        self._return_code = 1
        self._close_messages_no_wait()

    def draw(self) -> None:
        """Draw every open screen."""
        self.main.draw()
        if isinstance(self.screen, Pager):
            self.screen.draw()

    def _noticed(self) -> None:
        self.draw()
        if self._notice_timer is not None:
            self._notice_timer.stop()
        self._notice_timer = self.set_timer(NOTICE_S, self._forget_notice)

    def _forget_notice(self) -> None:
        self.state.notice = ""
        self.draw()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Every key, by its description."""
        for binding in KEYS:
            if isinstance(binding, Binding) and (self.state.controls or not binding.description.startswith("replay: ")):
                key = binding.key.split(",")[0]
                yield SystemCommand(
                    binding.description, f"key {key_name(key)}", functools.partial(self.simulate_key, key)
                )
        yield SystemCommand("quit", "key q", self.exit)
