"""The terminal: written to without ever waiting for it."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import termios
import time
from typing import Any, TextIO

from textual.drivers.linux_driver import LinuxDriver

CLOSE_S = 2.0
"""How long a terminal that takes nothing may hold up the end."""


class _Output:
    """Standard output, whatever becomes of file descriptor 2 (which keeps libbcc's talk off the terminal for a while)
    and of the terminal."""

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
    """Textual's driver, but for a terminal that is slow, stopped or gone."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._file = _Output()  # type: ignore[assignment]
        self._dropped = False

    @property
    def behind(self) -> bool:
        """Whether it has not yet taken what was written; nothing new should be drawn then."""
        if self._writer_thread is None:
            return False
        waiting = self._writer_thread._queue.qsize()
        if not waiting and self._dropped:
            self._dropped = False
            self._app.refresh(layout=True)
        return waiting > 1

    @property
    def gone(self) -> bool:
        """Whether it was closed."""
        try:
            termios.tcgetattr(self.fileno)
        except (termios.error, OSError):
            return True
        return False

    def write(self, data: str) -> None:
        """Hand it over; what there is no room for is drawn again later."""
        if self._writer_thread is not None:
            try:
                self._writer_thread._queue.put_nowait(data)
            except queue.Full:
                self._dropped = True

    def close(self) -> None:
        """Wait for what is to be written, but not for ever."""
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
                # Throw away what it does not take, and have the write that waits look again.
                with contextlib.suppress(termios.error, OSError):
                    termios.tcflush(1, termios.TCOFLUSH)
                signal.pthread_kill(thread.ident, signal.SIGWINCH)
