"""Shared by the loads that provoke a pathology: workers, cgroups, pinned pages, and undoing all of it.

Each load is a program for /usr/bin/python3 (3.9, standard library). When its steady state has begun it prints one JSON
line: ``ready``, ``steady`` (false: that did not happen in time), the ``pids`` of its workers and its ``cgroups``. It
goes on for ``--seconds``, or until stdin ends, and prints another with what it measured. However it ends, it undoes
everything. Settings of the host (sysctls, swap) are not its business: tests/vm/troubles.py has them.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import json
import mmap
import os
import random
import resource
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import DISK, MIB, name, swap_file
from founding import bind_memory, cpus_of

from mmwatch.host.cgroups import OwnCgroup, memory_mount
from mmwatch.host.zoneinfo import NodeState, parse_zoneinfo

PAGE = mmap.PAGESIZE
STEADY_WITHIN_S = 90.0
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_F_SETPIPE_SZ = 1031
_SWAP_PRIORITY = "100"  # above every other swap


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with the options that all loads have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="how long to go on once the state is steady")
    return parser


class Load:
    """Workers that repeat their work until the end. A context manager that undoes what was set up through it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._undo = contextlib.ExitStack()
        self._workers: dict[int, str] = {}
        # Shared with the workers: of each, how often it did its work, and how long it took at most. A cast view stores
        # each number at once; struct would clear it first.
        self._counts = memoryview(mmap.mmap(-1, PAGE)).cast("q")
        self._relief: list[Callable[[], object]] = []
        self._before = vmstat()
        self.cgroups: list[Path] = []

    def __enter__(self) -> Load:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sys.exit(143))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # the rest is to be undone even if somebody is impatient
        self.end()
        self._undo.close()

    def relieve(self, how: Callable[[], object]) -> None:
        """Do this before the workers are ended, since they could not die otherwise."""
        self._relief.append(how)

    def undo(self, how: Callable[[], object]) -> None:
        """Do this at the very end; the last one comes first."""
        self._undo.callback(how)

    def swap_file(self, mib: int) -> None:
        """Swap on a file."""
        self._undo.enter_context(swap_file(mib))

    def cgroup(self, settings: Mapping[str, str], parent: Path | None = None, shown: bool = True) -> Path:
        """Make a cgroup with these settings, such as ``{"memory.max": "33554432"}``."""
        if parent is None:
            own = OwnCgroup.create(memory_mount(), f"mmwatch-test-{os.getpid()}-{secrets.token_hex(4)}", 1 << 50)
            # Whoever is killed in reclaim may need long to die.
            self.undo(lambda: own.remove(30.0))
            path = own.path
        else:
            (parent / "cgroup.subtree_control").write_text("+memory")
            path = parent / "below"
            path.mkdir()
            self.undo(path.rmdir)
        for file, value in settings.items():
            (path / file).write_text(value)
        if shown:
            self.cgroups.append(path)
        return path

    def controller(self, controller: str) -> None:
        """Enable another controller for the children of the root cgroup."""
        mount = memory_mount()
        control = (mount.path if mount else Path("/")) / "cgroup.subtree_control"
        if controller not in control.read_text().split():
            control.write_text(f"+{controller}")
            self.undo(lambda: control.write_text(f"-{controller}"))

    def file(self, mib: int, sparse: bool = True) -> IO[bytes]:
        """A nameless file on the disk: a hole, whose pages are read without I/O, or one that is really written."""
        file = tempfile.TemporaryFile(dir=DISK, buffering=0)  # noqa: SIM115
        self.undo(file.close)
        file.truncate(mib * MIB)
        if not sparse:
            block = os.urandom(MIB)
            for _ in range(mib):
                file.write(block)
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file

    def zram(self, mib: int) -> None:
        """Swap on the first zram device; the module must be loaded."""
        size = Path("/sys/block/zram0/disksize")
        size.write_text(f"{mib}M")
        self.undo(lambda: Path("/sys/block/zram0/reset").write_text("1"))
        subprocess.run(["mkswap", "/dev/zram0"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["swapon", "--priority", _SWAP_PRIORITY, "/dev/zram0"], check=True)
        self.undo(lambda: subprocess.run(["swapoff", "/dev/zram0"], check=True))

    def worker(
        self,
        work: Callable[[], object],
        comm: str = "mmw-trouble",
        cgroup: Path | None = None,
        node: int | None = None,
        bind: bool = False,
    ) -> int:
        """Fork a worker that does this again and again.

        :param node: on the CPUs of this node; None: on all.
        :param bind: and with memory of this node only.
        """
        slot = 2 * len(self._workers)
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            try:
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, signal.SIG_DFL)
                _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                name(comm)
                Path("/proc/self/oom_score_adj").write_text("1000")  # rather this one than the observer
                if cgroup:
                    (cgroup / "cgroup.procs").write_text("0")
                os.sched_setaffinity(0, range(os.cpu_count() or 1) if node is None else cpus_of(node))
                if bind:
                    bind_memory(node)
                self._repeat(work, slot)
            except BaseException as error:
                print(f"{comm}: {error!r}", file=sys.stderr, flush=True)
            finally:
                os._exit(1)
        self._workers[pid] = comm
        return pid

    def _repeat(self, work: Callable[[], object], slot: int) -> None:
        count = longest = 0
        while True:
            began = time.monotonic_ns()
            work()
            count += 1
            longest = max(longest, time.monotonic_ns() - began)
            self._counts[slot], self._counts[slot + 1] = count, longest

    def counted(self, number: int = 0) -> int:
        """How often a worker has done its work."""
        return self._counts[2 * number]

    def moved(self, counter: str) -> int:
        """By how much a counter of /proc/vmstat has risen since this object was made."""
        return vmstat().get(counter, 0) - self._before.get(counter, 0)

    def events(self, event: str, file: str = "memory.events") -> int:
        """The sum of a line of ``memory.events`` or ``memory.stat`` over the cgroups."""
        return sum(counters(cgroup / file).get(event, 0) for cgroup in self.cgroups)

    def run(self, steady: Callable[[], bool] = lambda: True, **more: Any) -> None:
        """Wait until the state is steady, say so, go on, and say what was measured."""
        end = time.monotonic() + STEADY_WITHIN_S
        while not (found := steady()) and time.monotonic() < end and not self._dead():
            time.sleep(0.2)
        counts = [self.counted(number) for number in range(len(self._workers))]
        say(ready=True, steady=found, pids=list(self._workers), cgroups=list(map(str, self.cgroups)), **more)
        began = time.monotonic()
        while (left := began + self._seconds - time.monotonic()) > 0:
            if select.select([0], [], [], left)[0] and not os.read(0, 4096):
                break
        seconds = time.monotonic() - began
        workers = [
            {
                "comm": comm,
                "iterations": self.counted(number) - counts[number],
                "longest_s": round(self._counts[2 * number + 1] / 1e9, 3),
            }
            for number, comm in enumerate(self._workers.values())
        ]
        dead = self._dead()
        self.end()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        say(
            seconds=round(seconds, 1),
            workers=workers,
            dead=dead,
            user_s=round(used.ru_utime, 2),
            system_s=round(used.ru_stime, 2),
            major_faults=used.ru_majflt,
        )

    def _dead(self) -> list[int]:
        """Workers that have ended, which none should. They are left to be reaped."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return [pid for pid in self._workers if os.waitid(os.P_PID, pid, options)]

    def end(self) -> None:
        """End the workers."""
        while self._relief:
            self._relief.pop()()
        for pid in self._workers:
            os.kill(pid, signal.SIGKILL)
        for pid in self._workers:
            os.waitpid(pid, 0)
        self._workers = {}


def say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def counters(path: Path) -> dict[str, int]:
    """A file of names and numbers."""
    return {key: int(value) for key, value in map(str.split, path.read_text().splitlines())}


def vmstat() -> dict[str, int]:
    return counters(Path("/proc/vmstat"))


def node_state(node: int) -> NodeState:
    states = parse_zoneinfo(Path("/proc/zoneinfo").read_bytes())
    return next(state for state in states if state.node == node)


def room_pages() -> int:
    """Memory of the host that is free or on the file lists."""
    found = vmstat()
    return sum(found[key] for key in ("nr_free_pages", "nr_inactive_file", "nr_active_file"))


def anonymous(mib: int) -> mmap.mmap:
    """Map anonymous memory in small pages."""
    memory = mmap.mmap(-1, mib * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory


def touch(memory: mmap.mmap, begin: int = 0, end: int | None = None) -> None:
    """Write to every page."""
    for offset in range(begin, len(memory) if end is None else end, PAGE):
        memory[offset] = 1


def read_range(fd: int, begin: int, length: int, chunk: int = MIB, share: float = 1.0) -> None:
    """Read part of a file into one buffer, with this share of a CPU."""
    buffer = bytearray(chunk)
    for offset in range(begin, begin + length, chunk):
        started = time.monotonic()
        os.preadv(fd, [buffer], offset)
        if share < 1:
            time.sleep((time.monotonic() - started) * (1 / share - 1))


def read_random(fd: int, mib: int, reads: int = 64, chunk: int = 16 * PAGE) -> None:
    """Read at random places of a file."""
    buffer = bytearray(chunk)
    for _ in range(reads):
        os.preadv(fd, [buffer], random.randrange(mib * MIB // chunk) * chunk)


def idle() -> None:
    """Work that keeps what it has."""
    time.sleep(3600)


def once(first: Callable[[], object]) -> Callable[[], None]:
    """Work that is done only once."""

    def work() -> None:
        first()
        idle()

    return work


def pin(fd: int, begin: int, mib: int, between: Callable[[], object] = lambda: None) -> Iterator[tuple[int, int]]:
    """Hold pages of a file in pipes: they stay on the LRU lists, look reclaimable, and cannot be freed.

    :param between: done before each page.
    :returns: the pipes, which hold them as long as they are open.
    """
    offset = ctypes.c_longlong(begin)
    end = begin + mib * MIB
    while offset.value < end:
        pipe = os.pipe()
        fcntl.fcntl(pipe[1], _F_SETPIPE_SZ, MIB)
        for _ in range(MIB // PAGE):
            between()
            if _LIBC.splice(fd, ctypes.byref(offset), pipe[1], None, ctypes.c_size_t(PAGE), 0) <= 0:
                raise OSError(ctypes.get_errno(), "splice")
        yield pipe
