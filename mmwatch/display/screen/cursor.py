"""The user's place in the table: the row at the cursor and the first visible row."""

from __future__ import annotations

from mmwatch.display.screen.view import Frame, Key


class Cursor:
    """The cursor stays with its row while the row is active.

    :param key: the row; None: no cursor.
    :param at: the row's line in the frame.
    :param top: the first line that is visible.
    """

    def __init__(self) -> None:
        self.key: Key | None = None
        self.at = 0
        self.top = 0
        self._on_faded = False

    def clear(self) -> None:
        """Remove the cursor and go to the top."""
        self.key, self.top, self.at = None, 0, 0

    def go(self, frame: Frame, line: int) -> None:
        """Move to a line, or to the nearest one."""
        if len(frame.order):
            self.at = max(0, min(len(frame.order) - 1, line))
            self.key, self._on_faded = frame.key(self.at), frame.is_faded(self.at)

    def follow(self, frame: Frame, room: int) -> None:
        """Find the row again in a new frame, and scroll so that it is visible.

        A row that fades moves to the end of the table. The cursor follows it only if it had faded already.

        :param room: lines of the table on the screen.
        """
        found = frame.find(self.key)
        if found is not None and (self._on_faded or not frame.is_faded(found)):
            self.at = found
        elif self.key is not None and len(frame.order):
            self.at = min(self.at, len(frame.order) - 1)
            self.key = frame.key(self.at)
        if self.key is not None:
            self.top = max(min(self.top, self.at), self.at - room + 1)
        self.top = max(0, min(self.top, len(frame.order) - room))
