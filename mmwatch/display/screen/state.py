"""State that the screens share: the feed, the history, the layout, and the notice shown to the user."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from mmwatch.diagnosis.lately import Lately
from mmwatch.display.screen.feed import Controls, Feed, Services
from mmwatch.display.screen.layout import Layout
from mmwatch.display.screen.theme import styles
from mmwatch.display.spans import Line, Span, Tone
from mmwatch.model.history import History

if TYPE_CHECKING:
    from rich.style import Style

    from mmwatch.diagnosis.observation import Observation
    from mmwatch.diagnosis.verdict import Verdict

TAKEN_MAX = 20
"""Intervals taken at once when a recording plays fast; only the last one is drawn."""


class State:
    """Shared by the application and all its screens.

    :param controls: those of a recording, whose screen stays open at its end; None in a live session.
    :param ascii_only: draw with ASCII characters only.
    :param headline: text for the first line.
    :param limit: rows of the table at most.
    """

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
        self.feed, self.layout, self.services, self.controls = feed, layout, services, controls
        self.interval_s, self.ascii_only, self.headline, self.limit = interval_s, ascii_only, headline, limit
        self.history: History | None = None
        self.notice = ""
        self.tones: Mapping[Tone, Style] = styles(layout.theme)
        self.redraw: Callable[[], None] = lambda: None
        """Draws every open screen again; the application sets it."""
        self.noticed: Callable[[], None] = lambda: None
        """Called when there is a notice; the application sets it."""
        self._still: History | None = None
        self._lately: Lately | None = None
        self._verdict: tuple[Verdict, Observation] | None = None
        self._began_s = time.monotonic()

    def waited_s(self) -> float:
        """Time since the screen was opened."""
        return time.monotonic() - self._began_s

    @property
    def shown(self) -> History | None:
        """The history to draw. While paused, that is the history at the moment of pausing."""
        return self._still or self.history

    @property
    def paused(self) -> bool:
        """Drawing has stopped."""
        return self._still is not None

    def pause(self) -> None:
        """Stop drawing new intervals, or continue."""
        self._still = None if self._still or self.history is None else self.history.frozen()

    def verdict(self, now: bool = False) -> tuple[Verdict, Observation] | None:
        """What the rules say of the last seconds; while paused, what they said then. None before the first interval.

        :param now: of all intervals so far.
        """
        if not self.paused and self._lately is not None:
            self._verdict = self._lately.verdict(now)
        return self._verdict

    def take(self) -> bool:
        """Add new intervals to the history; False if there are none."""
        session = self.feed.session
        before = self.controls.before() if self.controls else None
        taken = 0
        while taken < TAKEN_MAX and session is not None and (interval := self.feed.take()) is not None:
            if self.history is None or before is not None:
                self.history, before = History(session, before), None
                self._lately = Lately(session)
            self.history.add(interval)
            if self._lately is not None:
                self._lately.add(interval)
            taken += 1
        return taken > 0

    def over(self) -> bool:
        """Whether the feed has ended and the screen should close."""
        return self.feed.problem is not None or (self.feed.ended and self.controls is None)

    def set_interval_s(self, seconds: float) -> None:
        """Change the interval from now on."""
        self.interval_s = self.layout.interval_s = seconds
        self.feed.set_interval_s(seconds)
        self.tell(f"the interval is now {seconds:g} s")

    def set_theme(self, theme: str) -> None:
        """Use one of :data:`~mmwatch.display.screen.layout.THEMES`."""
        self.layout.theme = theme
        self.tones = styles(theme)

    def tell(self, notice: str) -> None:
        """Show a notice in the last line for some seconds."""
        self.notice = notice
        self.noticed()

    def notice_line(self) -> Line:
        """The current notice; empty if there is none."""
        return [Span(f" {self.notice}", Tone.WARN)] if self.notice else []
