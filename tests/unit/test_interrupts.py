"""Interrupts that are put off."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from mmwatch.cli import interrupts
from mmwatch.cli.interrupts import held, released
from mmwatch.host import _netlink

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ALL}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupts.install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def kill(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", ALL)
def test_raised_at_once(number: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        kill(number)


@pytest.mark.parametrize("number", ALL)
def test_raised_at_the_end(number: int) -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), held():  # noqa: PT012
        kill(number)
        steps.append("after")
    assert steps == ["after"]
    with held():
        steps.append("only once")


def test_raised_where_it_is_let_through() -> None:
    steps = []
    with held():
        kill()
        steps.append("before")
        with pytest.raises(KeyboardInterrupt), released():
            steps.append("never")
        with pytest.raises(KeyboardInterrupt), released():  # noqa: PT012
            kill()
            steps.append("never")
        kill()
        with pytest.raises(KeyboardInterrupt), released():
            steps.append("never")
    assert steps == ["before"]


def test_inner_ones_do_not_let_go() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), held():  # noqa: PT012
        with held():
            kill()
        steps.append("after the inner one")
    assert steps == ["after the inner one"]


def test_another_error_comes_first() -> None:
    with pytest.raises(ValueError, match="first"), held():  # noqa: PT012
        kill()
        raise ValueError("first")
    with pytest.raises(KeyboardInterrupt), held():
        pass


def test_what_was_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupts.install()
    kill(signal.SIGHUP)


def test_not_while_pyroute2_opens_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its event loop would print a traceback of the task that an interrupt left."""
    steps = []

    def interrupted(*, fileno: int) -> socket.socket:
        kill()
        steps.append("opened")
        return socket.socket(fileno=fileno)

    monkeypatch.setattr(_netlink, "socket", SimpleNamespace(socket=interrupted))
    with pytest.raises(KeyboardInterrupt), socket.socket() as source:  # noqa: PT012
        _netlink._take(source).close()
        while True:
            signal.pause()
    assert steps == ["opened"]
