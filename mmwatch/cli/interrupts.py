"""Ctrl-C, SIGTERM and a lost terminal, handled only when stopping loses nothing.

A KeyboardInterrupt between two steps that belong together (read the tables, write the interval) loses what the first
step took. Blocking the signals would not help: the kernel would deliver them to another thread, and Python would still
run the handler in the main thread.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_held = False
_pending = False


def install() -> None:
    """Make these signals raise KeyboardInterrupt, except those that were ignored when the process started."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _handle)


def _handle(_number: int, _frame: FrameType | None) -> None:
    global _pending
    if not _held:
        raise KeyboardInterrupt
    _pending = True


def _raise_pending() -> None:
    global _pending
    if _pending and not _held:
        _pending = False
        raise KeyboardInterrupt


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
