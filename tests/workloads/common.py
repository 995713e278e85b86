"""Shared by the workloads: a memory cgroup, workers in it, a sparse file, a swap file.

Each workload is a program for /usr/bin/python3 (3.9, standard library). When it is done it prints one JSON object: its
cgroup and the PIDs of its workers, in the order they were started. However it ends, the cgroup, the files and the swap
are removed. With MMWATCH_TEST_GATE set, it prints the same object once everything is set up, and waits for a line on
stdin before anything is reclaimed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Callable

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmwatch.host.cgroups import OwnCgroup, memory_mount

MIB = 1 << 20
CHUNK = MIB
DISK = os.environ.get("MMWATCH_TEST_DISK", "/var/tmp")
"""A directory on a disk: tmpfs has no page cache to drop and no swap files."""
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


@contextlib.contextmanager
def memory_cgroup(limit_mib: int, suffix: str = "") -> Iterator[OwnCgroup]:
    """A cgroup that may hold ``limit_mib``, removed at the end.

    :param suffix: appended to its name, if there are several.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # In another PID namespace, a process may have the same PID.
    name = f"mmwatch-test-{os.getpid()}-{secrets.token_hex(4)}{suffix}"
    with OwnCgroup.create(memory_mount(), name, limit_mib * MIB) as cgroup:
        yield cgroup


class Workers:
    """Forked processes in a cgroup that start together and die with this one."""

    def __init__(self, cgroup: OwnCgroup) -> None:
        self._cgroup = cgroup
        self._wait, self._go = os.pipe()
        self.pids: list[int] = []

    def fork(self, comm: str, work: Callable[[], None], group: str = "") -> None:
        """Fork a worker named ``comm`` that will do ``work``, in the child cgroup ``group`` if given."""
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(self._go)
                name(comm)
                _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.read(self._wait, 1):
                    work()
                    status = 0
            finally:
                os._exit(status)
        self.pids.append(pid)
        (self._cgroup.path / group / "cgroup.procs").write_text(str(pid))

    def run(self) -> None:
        """Let the workers run, and wait until all have exited."""
        if os.environ.get("MMWATCH_TEST_GATE"):
            done(self._cgroup, self.pids)
            sys.stdin.readline()
        os.write(self._go, b"1" * len(self.pids))
        failed = [pid for pid in self.pids if os.waitpid(pid, 0)[1]]
        if failed:
            sys.exit(f"workers failed: {failed}")

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._go)
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def name(comm: str) -> None:
    """Rename this thread."""
    _LIBC.prctl(_PR_SET_NAME, os.fsencode(comm), 0, 0, 0)


def sparse_file(mib: int) -> IO[bytes]:
    """A nameless sparse file on a disk, whose pages can be read without I/O."""
    file = tempfile.TemporaryFile(dir=DISK, buffering=0)  # noqa: SIM115
    file.truncate(mib * MIB)
    return file


def read_part(fd: int, begin: int, length: int, chunk: int = CHUNK, share: float = 1.0) -> None:
    """Read part of a file into one buffer, so that only page cache grows, using this share of a CPU."""
    buffer = bytearray(min(chunk, length))
    for offset in range(begin, begin + length, len(buffer)):
        started = time.monotonic()
        os.preadv(fd, [buffer], offset)
        if share < 1:
            time.sleep((time.monotonic() - started) * (1 / share - 1))


def touch_anonymous(mib: int, rounds: int, huge: bool = False) -> None:
    """Write to every page of ``mib`` of anonymous memory, ``rounds`` times."""
    memory = mmap.mmap(-1, mib * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
    for number in range(rounds):
        for offset in range(0, mib * MIB, mmap.PAGESIZE):
            memory[offset] = number + 1
    memory.close()


@contextlib.contextmanager
def swap_file(mib: int) -> Iterator[None]:
    """Swap on a file, with the lowest priority. It goes away even if this process is killed.

    A guard process waits until this one exits and then always cleans up.
    """
    fd, path = tempfile.mkstemp(dir=DISK, prefix="mmwatch-swap-")
    wait, alive = os.pipe()
    guard = os.fork()
    if guard == 0:
        os.close(alive)
        os.setsid()
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        os.read(wait, 1)
        subprocess.run(["swapoff", path], stderr=subprocess.DEVNULL)
        os.unlink(path)
        os._exit(0)
    os.close(wait)
    try:
        os.posix_fallocate(fd, 0, mib * MIB)
        os.close(fd)
        subprocess.run(["mkswap", path], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["swapon", "--priority", "0", path], check=True)
        yield
    finally:
        os.close(alive)
        os.waitpid(guard, 0)


def done(cgroup: OwnCgroup, pids: list[int], **more: Any) -> None:
    """Print what the tests compare against."""
    about = {"cgroup": str(cgroup.path), "cgroup_id": cgroup.cgroup_id, "pids": pids}
    print(json.dumps({**about, **more}), flush=True)
