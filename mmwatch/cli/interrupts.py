"""Ctrl-C, SIGTERM and a lost terminal, at moments when stopping loses nothing.

A KeyboardInterrupt between two steps that belong together (read the tables, write the interval) loses what the first
step took. Blocking the signals would not help: another thread would receive them, and Python raises in this one.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_held = False
_pending = False


def install() -> None:
    """Have these signals raise KeyboardInterrupt; those that whoever started us had ignored stay so."""
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
    """Put an interrupt off until the end of this, or to where it is let through (:func:`released`)."""
    global _held
    before, _held = _held, True
    try:
        yield
    finally:
        _held = before
    _raise_pending()


@contextmanager
def released() -> Iterator[None]:
    """Let an interrupt through inside of :func:`held`: around the place to wait in.

    :raises KeyboardInterrupt: at once, if one came before.
    """
    global _held
    before, _held = _held, False
    try:
        _raise_pending()
        yield
    finally:
        _held = before
