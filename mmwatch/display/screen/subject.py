"""Everything about one row of the table, for as long as the user looks at it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mmwatch.display.detail import detail_lines
from mmwatch.display.screen.state import State
from mmwatch.display.screen.view import Key
from mmwatch.display.screen.widgets import Pager
from mmwatch.display.spans import Line
from mmwatch.model.groupings import GROUPINGS
from mmwatch.model.interval import Interval


class Subject:
    """A task with all its paths, a thread, all tasks of a name, a node, a cgroup, or a path.

    :param by: the grouping of the table it was selected in.
    :param key: the row.
    """

    def __init__(self, state: State, by: str, key: Key) -> None:
        self._state, self._by = state, by
        self._values = {name: value for name, value in zip(GROUPINGS[by], key) if name != "path" or by == "path"}
        self._tgid = int(str(self._values.get("tgid", 0)))
        self._since_start = state.layout.cumulative  # as in the table it was selected in

    def pager(self) -> Pager:
        """A page about the subject. Its single reclaims are streamed until the page is closed."""
        watch = self._state.services.watch
        watch(self._tgid or None)
        keys = [("a", "since the start / of the interval", self._switch)]
        return Pager(self._state, self._lines, lambda: watch(None), keys)

    def _lines(self, width: int) -> list[Line]:
        history = self._state.shown
        if history is None or history.latest is None:
            return []
        whole = history.since_start() if self._since_start else history.with_fading(self._by)
        interval = self._mine(whole or history.latest)
        recent = self._state.services.recent() if self._tgid else ()
        return detail_lines(history.session, interval, recent, width, self._state.ascii_only)

    def _mine(self, interval: Interval) -> Interval:
        same = np.ones(len(interval.rows), bool)
        for name, value in self._values.items():
            same &= interval.rows[name] == value
        return replace(interval, rows=interval.rows[same])

    def _switch(self) -> None:
        self._since_start = not self._since_start
        self._state.redraw()
