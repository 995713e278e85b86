"""Process names from events and from /proc, and taskstats."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mmwatch.host import _netlink, processes
from mmwatch.host.processes import Process, ProcessNames
from mmwatch.host.schedstat import runtime_ns
from mmwatch.host.taskstats import TaskStats, TaskUsage

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="process events and taskstats need root")

FORK, EXEC, COMM, EXIT = 0x1, 0x2, 0x200, 0x80000000


def event(what: int, *numbers: int, comm: bytes = b"") -> bytes:
    """A proc connector message, 76 bytes like the kernel's."""
    data = (struct.pack(f"={len(numbers)}I", *numbers) + comm).ljust(24, b"\0")
    return struct.pack("=IHHII IIIIHH IIQ", 76, 3, 0, 0, 0, 1, 1, 0, 0, 40, 0, what, 0, 123) + data


def run(root: Path, tgid: int, comm: str, cmdline: str, ppid: int = 1, start: int = 5, state: str = "S") -> None:
    """Add a process to a made-up /proc."""
    folder = root / f"proc/{tgid}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comm").write_bytes(comm.encode() + b"\n")
    (folder / "cmdline").write_bytes(cmdline.encode())
    (folder / "stat").write_text(f"{tgid} ({comm}) {state} {ppid} " + "0 " * 17 + f"{start} 0\n")


def end(root: Path, tgid: int) -> None:
    for file in (root / f"proc/{tgid}").iterdir():
        file.unlink()
    (root / f"proc/{tgid}").rmdir()


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def names(tmp_path: Path, now: list[float]) -> ProcessNames:
    return ProcessNames(tmp_path, clock=lambda: now[0])


def test_an_event_is_as_long_as_the_kernel_makes_it() -> None:
    assert len(event(FORK, 1, 1, 2, 2)) == 76


def test_nothing_is_known_of_a_stranger(names: ProcessNames) -> None:
    assert names.get(7) == Process(7, None, None, None, None)
    assert names.read(7) == Process(7, None, None, None, None)


def test_exec_names_a_process_for_good(names: ProcessNames, tmp_path: Path) -> None:
    run(tmp_path, 10, "shell", "/bin/sh\0-c\0x y\0")
    names.read(10)
    names.handle(event(FORK, 10, 10, 11, 11))
    assert names.get(11) == Process(11, 10, "shell", "/bin/sh -c x y", False)  # until it calls exec
    run(tmp_path, 11, "cc", "cc\0-O2\0")
    names.handle(event(EXEC, 11, 11))
    end(tmp_path, 11)
    names.handle(event(EXIT, 11, 11, 0, 0))
    assert names.get(11) == Process(11, 10, "cc", "cc -O2", True)


def test_too_late_for_exec_is_not_known_rather_than_wrong(names: ProcessNames, tmp_path: Path) -> None:
    run(tmp_path, 10, "shell", "sh\0")
    names.read(10)
    names.handle(event(FORK, 10, 10, 11, 11))
    names.handle(event(EXEC, 11, 11))
    assert names.get(11) == Process(11, 10, None, None, False)


def test_a_used_pid_belongs_to_the_newest(names: ProcessNames, tmp_path: Path) -> None:
    run(tmp_path, 11, "old", "old\0")
    names.read(11)
    names.handle(event(EXIT, 11, 11))
    names.handle(event(FORK, 99, 99, 11, 11))
    assert names.get(11) == Process(11, 99, None, None, False)


def test_a_used_pid_is_noticed_without_events(names: ProcessNames, tmp_path: Path) -> None:
    run(tmp_path, 11, "old", "old\0", start=5)
    assert names.read(11).cmdline == "old"
    run(tmp_path, 11, "new", "", start=6)
    assert names.read(11) == Process(11, 1, "new", None, False)


def test_comm_changes(names: ProcessNames) -> None:
    names.handle(event(COMM, 11, 11, comm=b"worker\x1b[31m\0\0\0\0\0"))
    assert names.get(11).comm == "worker\\x1b[31m"


@pytest.mark.parametrize(
    "message",
    [
        event(FORK, 10, 10, 12, 11),  # a thread
        event(EXIT, 12, 11),
        event(COMM, 12, 11, comm=b"thread\0"),
        event(EXIT, 11, 11),  # a process never seen before
        event(0, 0, 0),  # an acknowledgement
        event(4, 11, 11, 0, 0),  # a uid event
    ],
)
def test_what_names_nobody_is_left_out(names: ProcessNames, message: bytes) -> None:
    names.handle(message)
    assert names.get(11) == Process(11, None, None, None, None)


@pytest.mark.parametrize("comm", ["a) S 3 (b", "((", ") ", "x\ny"])
def test_comm_may_hold_anything(names: ProcessNames, tmp_path: Path, comm: str) -> None:
    run(tmp_path, 11, comm, "x\0", ppid=4)
    assert (names.read(11).ppid, names.read(11).comm) == (4, comm.replace("\n", "\\x0a"))


def test_cmdline_is_cleaned_and_cut(names: ProcessNames, tmp_path: Path) -> None:
    run(tmp_path, 11, "x", "a\0b\x1b[2J\nc\0" + "\0" * 5)
    assert names.read(11).cmdline == "a b\\x1b[2J\\x0ac"
    run(tmp_path, 12, "x", "y" * 5000)
    assert names.read(12).cmdline == "y" * 1024


def test_only_a_kernel_thread_has_no_arguments(names: ProcessNames, tmp_path: Path) -> None:
    run(tmp_path, 2, "kthreadd", "", ppid=0)
    run(tmp_path, 40, "kswapd0", "", ppid=2)
    run(tmp_path, 41, "gone", "", ppid=1, state="Z")
    assert names.read(2).cmdline == names.read(40).cmdline == ""
    assert names.read(41) == Process(41, 1, "gone", None, True)


def test_the_least_used_are_forgotten(tmp_path: Path) -> None:
    names = ProcessNames(tmp_path, kept=3)
    for tgid in (11, 12, 13):
        names.handle(event(FORK, 1, 1, tgid, tgid))
    names.get(11)
    names.handle(event(FORK, 1, 1, 14, 14))
    assert [names.get(tgid).ppid for tgid in (11, 12, 13, 14)] == [1, None, 1, 1]


def eventually(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch, names: ProcessNames) -> Iterator[ProcessNames]:
    def refuse() -> socket.socket:
        raise _netlink.NetlinkUnavailableError("no process events: not here")

    monkeypatch.setattr(_netlink, "open_proc_events", refuse)
    yield names
    names.close()


def test_without_events_proc_is_read_in_the_background(deaf: ProcessNames, tmp_path: Path, now: list[float]) -> None:
    run(tmp_path, 11, "early", "early\0")
    deaf.start()
    assert (deaf.available, deaf.reason, deaf.lost_events) == (False, "no process events: not here", 0)
    eventually(lambda: deaf.get(11).cmdline == "early")  # it was there before
    run(tmp_path, 12, "late", "late\0")
    eventually(lambda: deaf.get(12).cmdline == "late")  # seen for the first time
    run(tmp_path, 12, "late", "late: new title\0")
    assert deaf.get(12).cmdline == "late"
    now[0] += 11
    eventually(lambda: deaf.get(12).cmdline == "late: new title")
    end(tmp_path, 12)
    now[0] += 11
    eventually(lambda: deaf.get(12).exited is True)
    assert deaf.get(12).cmdline == "late: new title"


def test_a_kernel_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, names: ProcessNames) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    monkeypatch.setattr(_netlink, "open_proc_events", lambda: ours)
    monkeypatch.setattr(processes, "_ANSWER_S", 0.05)
    names.start()
    names.close()
    assert names.available is False
    assert "PID and user namespace" in names.reason
    assert len(theirs.recv(100)) == 40  # header, connector message, operation
    theirs.close()


@pytest.mark.parametrize("code", [0, 1])
def test_the_answer_of_the_kernel(monkeypatch: pytest.MonkeyPatch, names: ProcessNames, code: int) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    monkeypatch.setattr(_netlink, "open_proc_events", lambda: ours)
    theirs.send(event(0, code))
    names.start()
    assert names.available is (code == 0)
    if code == 0:
        theirs.send(event(FORK, 1, 1, 11, 11))
        eventually(lambda: names.get(11).ppid == 1)
    else:
        assert "Operation not permitted" in names.reason
    names.close()
    theirs.close()


@pytest.mark.live
@needs_root
def test_a_process_that_lives_for_50_ms_keeps_its_name() -> None:
    names = ProcessNames()
    names.start()
    if not names.available:
        names.close()
        pytest.skip(names.reason)
    try:
        children = [subprocess.Popen(["sleep", "0.05"]) for _ in range(20)]
        for child in children:
            child.wait()
        for child in children:
            eventually(lambda child=child: names.get(child.pid).exited is True)  # type: ignore[misc]
            assert names.get(child.pid) == Process(child.pid, os.getpid(), "sleep", "sleep 0.05", True)
        assert names.lost_events == 0
    finally:
        names.close()


def stats(version: int, length: int, **members: int) -> bytes:
    """A raw struct taskstats with the layout of version 13."""
    places = {"ac_etime": 144, "ac_utime": 152, "ac_stime": 160, "freepages_count": 312, "freepages_delay_total": 320}
    places.update(thrashing_delay_total=336, compact_delay_total=360, wpcopy_count=400, blkio_delay_total=40)
    raw = bytearray(length)
    struct.pack_into("=H", raw, 0, version)
    for name, value in members.items():
        if places[name] + 8 <= length:
            struct.pack_into("=Q", raw, places[name], value)
    return bytes(raw)


FULL = {
    "ac_etime": 9,
    "ac_utime": 20,
    "ac_stime": 30,
    "freepages_count": 4,
    "freepages_delay_total": 50,
    "thrashing_delay_total": 60,
    "compact_delay_total": 70,
    "wpcopy_count": 8,
    "blkio_delay_total": 90,
}
NOTHING = TaskUsage(None, None, None, None, None, None, None, None)


@pytest.fixture
def decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskStats:
    """TaskStats without a socket, on a kernel that accounts delays."""

    def refuse() -> tuple[socket.socket, int]:
        raise _netlink.NetlinkUnavailableError("no taskstats: not here")

    monkeypatch.setattr(_netlink, "open_taskstats", refuse)
    return TaskStats(root=tmp_path)


def test_taskstats_not_to_be_had(decoder: TaskStats) -> None:
    assert (decoder.available, decoder.reason) == (False, "no taskstats: not here")
    assert decoder.process(1) is None


@pytest.mark.parametrize("version", [8, 9, 13, 14, 16, 17])
def test_known_layouts(decoder: TaskStats, version: int) -> None:
    usage = decoder.decode(stats(version, 416, **FULL), whole_process=True)
    assert usage == TaskUsage(30, 20, 4, 50, 0, 60, 70, 90)


def test_a_short_struct_lacks_its_later_members(decoder: TaskStats) -> None:
    usage = decoder.decode(stats(8, 328, **FULL), whole_process=False)  # version 8 ends after freepages
    assert usage == TaskUsage(30, 20, 4, 50, 0, None, None, 90)


@pytest.mark.parametrize("version", [1, 7, 15, 18, 99])
def test_a_layout_that_is_not_known_is_not_guessed(decoder: TaskStats, version: int) -> None:
    assert decoder.decode(stats(version, 416, **FULL), whole_process=True) == NOTHING


def test_offsets_given_win_over_the_version(tmp_path: Path, decoder: TaskStats) -> None:
    raw = bytearray(64)
    struct.pack_into("=H4xIQ", raw, 0, 99, 7, 11)
    offsets = {"ac_stime": (10, 8), "freepages_count": (6, 4), "ac_utime": (60, 8), "other": (0, 2)}
    usage = TaskStats(offsets, tmp_path).decode(bytes(raw), whole_process=False)
    assert usage.system_time_us == 11
    assert usage.freepages_count == 7
    assert usage.user_time_us is None  # reaches beyond the end


def test_a_kernel_that_leaves_the_times_of_a_process_out(decoder: TaskStats) -> None:
    raw = stats(13, 416, **{**FULL, "ac_etime": 0})
    assert decoder.decode(raw, whole_process=True).system_time_us is None
    assert decoder.decode(raw, whole_process=False).system_time_us == 30


def test_delays_that_are_not_accounted_are_not_known(decoder: TaskStats, tmp_path: Path) -> None:
    forked_before = stats(16, 416, ac_etime=9, ac_stime=30)
    assert decoder.decode(forked_before, True) == TaskUsage(30, 0, None, None, None, None, None, None)
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/task_delayacct").write_text("0\n")
    decoder.refresh()
    assert decoder.decode(stats(16, 416, **FULL), True) == TaskUsage(30, 20, None, None, None, None, None, None)


@pytest.mark.live
@needs_root
def test_taskstats_of_this_kernel() -> None:
    asked = TaskStats()
    if not asked.available:
        pytest.skip(asked.reason)
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        os.stat("/proc/self/status")
    usage, own = asked.process(os.getpid()), os.times()
    assert usage is not None
    task = asked.task(os.getpid())
    assert task is not None
    if usage.system_time_us is None or usage.user_time_us is None:
        pytest.skip("this kernel's layout or TGID query does not give times")
    # One is sampled at ticks, the other exact: on a busy virtual machine they have differed by 25%.
    total_us = usage.system_time_us + usage.user_time_us
    assert total_us == pytest.approx((own.system + own.user) * 1e6, rel=0.5, abs=300_000)
    assert asked.process(2**22 + 1) is None
    assert asked.available
    asked.close()
    assert asked.process(os.getpid()) is None


def test_cpu_time_of_a_thread() -> None:
    before = runtime_ns(os.getpid(), threading.get_native_id())
    assert before is not None
    end = time.thread_time_ns() + 20_000_000
    while time.thread_time_ns() < end:
        pass
    after = runtime_ns(os.getpid(), threading.get_native_id())
    assert after is not None
    assert after - before >= 15_000_000
    assert runtime_ns(os.getpid(), 0) is None
    assert runtime_ns(0, 1) is None
