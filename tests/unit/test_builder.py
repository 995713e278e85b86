"""The builder process, as far as it needs no kernel: its messages, and its sudden end."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from collections.abc import Iterator

import numpy as np
import pytest
from make_facts import FACTS

from mmwatch.errors import MmwatchError, NoPermissionError, OutOfMemoryError
from mmwatch.kernel.builder import Builder
from mmwatch.kernel.builder_process import Options, _hold_stdin, _layout
from mmwatch.kernel.channel import receive, send
from mmwatch.kernel.plan import plan


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    both = socket.socketpair()
    yield both
    for end in both:
        end.close()


def test_objects_and_descriptors_arrive_in_order(ends: tuple[socket.socket, socket.socket]) -> None:
    read, write = os.pipe()
    send(ends[0], {"rows": "x" * 50_000}, [write])
    send(ends[0], "next")
    found, (copy,) = receive(ends[1])
    assert (found, receive(ends[1])) == ({"rows": "x" * 50_000}, ("next", []))
    assert not os.get_inheritable(copy)
    os.write(copy, b"through")
    assert os.read(read, 10) == b"through"
    for descriptor in (read, write, copy):
        os.close(descriptor)


def test_errors_arrive_with_their_hint(ends: tuple[socket.socket, socket.socket]) -> None:
    send(ends[0], NoPermissionError("refused", "be root"))
    error, _ = receive(ends[1])
    assert (type(error), error.message, error.hint) == (NoPermissionError, "refused", "be root")


@pytest.mark.parametrize("sent", [b"", b"\x05", b"\x05" + bytes(7) + b"ab"])
def test_a_message_that_breaks_off(ends: tuple[socket.socket, socket.socket], sent: bytes) -> None:
    ends[0].sendall(sent)
    ends[0].close()
    with pytest.raises(EOFError):
        receive(ends[1])


def test_a_compiler_that_is_ended_is_told() -> None:
    """As by the kernel, when memory is short."""
    with Builder() as builder:
        os.kill(builder._process.pid, signal.SIGKILL)
        builder._process.wait()
        with pytest.raises(OutOfMemoryError, match="SIGKILL, probably by the OOM killer"):
            builder.compile(plan(FACTS), Options())


def test_what_a_compiler_says_last_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmwatch.kernel.builder._RUN", "raise SystemExit('no such luck')")
    with Builder() as builder:
        builder._process.wait()
        with pytest.raises(MmwatchError, match="status 1: no such luck"):
            builder.compile(plan(FACTS), Options())


def test_closing_ends_it() -> None:
    builder = Builder()
    builder.close()
    assert builder._process.returncode == -signal.SIGKILL
    builder.close()


def test_standard_input_is_not_left_to_be_closed() -> None:
    """As bcc 0.18 does: the next descriptor would get number 0."""
    kept = os.dup(0)
    try:
        os.close(0)
        _hold_stdin()
        assert os.path.samestat(os.fstat(0), os.stat(os.devnull))
    finally:
        os.dup2(kept, 0)
        os.close(kept)


def test_a_layout_is_that_of_the_struct() -> None:
    class Value(ctypes.Structure):
        _fields_ = (
            ("count", ctypes.c_ulong * 3),
            ("node", ctypes.c_int),
            ("state", ctypes.c_ubyte),
            ("comm", ctypes.c_char * 16),
        )

    dtype = np.dtype(_layout(Value))
    assert dtype.itemsize == ctypes.sizeof(Value)
    assert dtype["comm"] == np.dtype("S16")
    assert dtype["count"] == np.dtype(("u8", (3,)))
    assert (dtype["node"], dtype["state"]) == (np.dtype("i4"), np.dtype("u1"))
    fields = dtype.fields or {}
    assert {name: fields[name][1] for name in fields} == {name: getattr(Value, name).offset for name in fields}
    assert np.dtype(_layout(ctypes.c_uint)).itemsize == 4
