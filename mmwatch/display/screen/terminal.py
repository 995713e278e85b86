"""The terminal. Writing to it never blocks."""

from __future__ import annotations

import codecs
import contextlib
import functools
import os
import queue
import signal
import termios
import time
from collections.abc import Iterable
from typing import Any, TextIO

from textual._xterm_parser import XTermParser
from textual.drivers import linux_driver
from textual.drivers.linux_driver import LinuxDriver
from textual.events import Resize
from textual.geometry import Size
from textual.message import Message


class _Parser(XTermParser):
    """Leaves out what it cannot read. Textual 8.2 ends the program, for instance at a click after a terminal has said
    that it has 0 pixels (in-band resize, mode 2048)."""

    def feed(self, data: str) -> Iterable[Message]:
        for character in data or [data]:  # so that no more than a sequence is lost
            try:
                yield from super().feed(character)
            except (ArithmeticError, LookupError, ValueError):
                XTermParser.__init__(self)


linux_driver.XTermParser = _Parser  # type: ignore[attr-defined]
# Textual 8.2 ends the program at a byte that is not UTF-8, as a Latin-1 terminal sends it (Textual issue 6456).
linux_driver.getincrementaldecoder = (  # type: ignore[attr-defined]
    lambda name: functools.partial(codecs.getincrementaldecoder(name), errors="ignore")
)

COLUMNS_MAX, LINES_MAX = 1000, 500
"""A terminal that claims to be larger (COLUMNS, stty, in-band resize) is drawn in part: each cell takes memory."""
CLOSE_S = 2.0
"""How long a terminal that accepts no output may delay the exit."""


class _Output:
    """Standard output. It survives the loss of the terminal, and does not depend on file descriptor 2, which is
    redirected at times to keep libbcc's messages off the terminal."""

    def __init__(self) -> None:
        self._file: TextIO = os.fdopen(os.dup(1), "w", encoding=None, errors="replace")

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file.flush()

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return True


class Terminal(LinuxDriver):
    """Textual's driver, for a terminal that may be slow, stopped or gone."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._file = _Output()  # type: ignore[assignment]
        self._dropped = False
        if self._size is None:
            self._size = self._get_terminal_size()

    def _get_terminal_size(self) -> tuple[int, int]:
        """Where a terminal says that it has 0 rows, Textual takes 24 here and 25 elsewhere, and resizes without end."""
        return _bounded(*self._app.console.size)

    def process_message(self, message: Message) -> None:
        """Take what the terminal says, within bounds."""
        if isinstance(message, Resize):
            known = all(message.size)
            size = Size(*(_bounded(*message.size) if known else self._get_terminal_size()))
            message.size = message.virtual_size = message.container_size = size
        super().process_message(message)

    @property
    def behind(self) -> bool:
        """Whether output is still waiting for the terminal. If so, nothing new should be drawn."""
        if self._writer_thread is None:
            return False
        waiting = self._writer_thread._queue.qsize()
        if not waiting and self._dropped:
            self._dropped = False
            self._app.refresh(layout=True)
        return waiting > 1

    @property
    def gone(self) -> bool:
        """The terminal was closed."""
        try:
            termios.tcgetattr(self.fileno)
        except (termios.error, OSError):
            return True
        return False

    def write(self, data: str) -> None:
        """Queue it for the writer thread; what does not fit is drawn again later."""
        if self._writer_thread is not None:
            try:
                self._writer_thread._queue.put_nowait(data)
            except queue.Full:
                self._dropped = True

    def close(self) -> None:
        """Wait for the writer thread, but not forever."""
        thread = self._writer_thread
        if thread is None:
            return
        self.write("")
        end = time.monotonic() + CLOSE_S
        asked = False
        while thread.is_alive() and time.monotonic() < end:
            if not asked:
                with contextlib.suppress(queue.Full):
                    thread._queue.put_nowait(None)
                    asked = True
            thread.join(0.2)
            if thread.is_alive() and thread.ident is not None:
                # Drop the output it does not accept, and interrupt the blocked write.
                with contextlib.suppress(termios.error, OSError):
                    termios.tcflush(1, termios.TCOFLUSH)
                signal.pthread_kill(thread.ident, signal.SIGWINCH)


def _bounded(width: int, height: int) -> tuple[int, int]:
    return min(width, COLUMNS_MAX), min(height, LINES_MAX)
