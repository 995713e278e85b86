"""Ctrl-C, SIGTERM and a lost terminal, handled only when stopping loses nothing.

A KeyboardInterrupt between two steps that belong together (read the tables, write the interval) loses what the first
step took. Blocking the signals would not help: the kernel would deliver them to another thread, and Python would still
run the handler in the main thread.

Nor is one raised inside an import, since some modules, numpy among them, turn it into an ImportError; nor while
pyroute2 opens a socket, since its event loop would print a traceback of the task that was left.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_S = 0.02
"""After so much time, what must not be interrupted may be over."""
_NETLINK = "mmwatch.host._netlink"

_held = False
_pending = False
_number = int(signal.SIGINT)
_begun = False


def install() -> None:
    """Make these signals raise KeyboardInterrupt, except those that were ignored when the process started."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)
    signal.signal(signal.SIGALRM, _try_again)


def finish() -> None:
    """Ignore them from now on: nothing is left to be done, and the interpreter's end must not be interrupted."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def begin() -> None:
    """From here on, an interrupt is the usual end of a command, and no failure."""
    global _begun
    _begun = True


def status() -> int:
    """The exit status after a KeyboardInterrupt: 0 if the command had begun, else that of a command a signal ended."""
    return 0 if _begun else 128 + _number


def _handle(number: int, frame: FrameType | None) -> None:
    global _number, _pending
    _number = number
    _pending = True
    if _must_wait(frame):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
    else:
        _raise_pending()


def _try_again(_alarm: int, frame: FrameType | None) -> None:
    if _pending:
        _handle(_number, frame)


def _must_wait(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib") or frame.f_globals.get("__name__") == _NETLINK:
            return True
        frame = frame.f_back
    return False


def _raise_pending() -> None:
    global _pending
    if _pending and not _held:
        _pending = False
        sys.unraisablehook = _say_nothing
        raise KeyboardInterrupt


def _say_nothing(_what: object) -> None:
    """An object whose constructor was interrupted may fail in ``__del__``. Python would print that with a traceback."""


@contextmanager
def held() -> Iterator[None]:
    """Defer interrupts to the end of this block, or to a :func:`released` block inside."""
    global _held
    before, _held = _held, True
    try:
        yield
    finally:
        _held = before
    _raise_pending()


@contextmanager
def released() -> Iterator[None]:
    """Let interrupts through inside :func:`held`, around a wait.

    :raises KeyboardInterrupt: at once, if one was deferred.
    """
    global _held
    before, _held = _held, False
    try:
        _raise_pending()
        yield
    finally:
        _held = before
