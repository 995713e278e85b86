"""Many processes at once, and large numbers."""

from __future__ import annotations

import argparse
import os
import resource
import time

import pytest

from mmwatch.cli import options
from mmwatch.cli.record import ready, watch
from mmwatch.errors import UnavailableError
from mmwatch.session.beat import Beat
from mmwatch.units import DURATION_MAX_S


def test_descriptors_above_what_select_takes() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < 2000:
        pytest.skip("fewer than 2000 files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2000, before[1]))
    read, write = os.pipe()
    high = []
    try:
        high = [os.dup(read) for _ in range(1100)]
        assert ready(high, 0) == 0
        os.write(write, b"x")
        assert ready(high, DURATION_MAX_S) == 1100
    finally:
        for descriptor in (*high, read, write):
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_too_many_processes_for_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1024, 1024))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    with pytest.raises(UnavailableError) as caught:
        watch(range(1, 1101))
    assert "1100 processes" in caught.value.message
    assert "ulimit -n" in caught.value.hint


def test_a_process_that_has_just_ended_is_not_watched() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    found = watch([os.getpid(), pid, os.getpid()])
    assert len(found) == 1
    os.close(found[0])


def test_the_longest_duration_can_be_waited_for() -> None:
    beat = Beat(DURATION_MAX_S, DURATION_MAX_S)
    assert 0 < beat.left_s() <= DURATION_MAX_S < time.monotonic() + DURATION_MAX_S < 2**63 / 1e9


@pytest.mark.parametrize("text", ["0", "", "-1", "9" * 19, "9" * 5000, "\u00b2", "1e3"])
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        options.count(text)
