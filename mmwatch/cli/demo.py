"""``mmwatch demo``: starts a small reclaim load, shows ``top`` on it, and removes everything again."""

from __future__ import annotations

import argparse
import array
import contextlib
import ctypes
import fcntl
import os
import signal
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

from mmwatch import units
from mmwatch.cli import options, streams
from mmwatch.cli.interrupts import held, released
from mmwatch.cli.top import show
from mmwatch.errors import UnavailableError
from mmwatch.session.target import resolve_target

if TYPE_CHECKING:
    from mmwatch.host.cgroups import CgroupMount
    from mmwatch.model.accounting import Accounting
    from mmwatch.model.snapshot import Snapshot

COMM = "mmwatch-demo"
WORKERS = 2
LIMIT_BYTES = 32 << 20
FILE_BYTES = 512 << 20
CHUNK_BYTES = 1 << 20
QUIET_S = 0.3
"""The load ends this long before the last reading, so that no reclaim is under way then."""

PAGE_CACHED = ("bcachefs", "btrfs", "ceph", "ext2", "ext3", "ext4", "f2fs", "nfs", "nfs4", "nilfs2", "overlay", "xfs")
"""File systems that keep a sparse file's pages in the page cache, where reclaim can drop them."""

EPILOG = """\
Two processes named mmwatch-demo read a sparse file of 512 MiB in a memory cgroup limited to 32 MiB, so they have to
reclaim their own page cache. This takes about one CPU, 40 MiB of memory, and no disk space. Everything is removed at
the end.

examples:
  sudo mmwatch demo                a table, refreshed for ten seconds
  sudo mmwatch demo -b -d 3s       as blocks of text
"""


def add(subparsers: options.Subparsers) -> None:
    """Declare the command."""
    parser = options.command(subparsers, "demo", "start a small reclaim load, show it, and remove it", run, EPILOG)
    parser.add_argument("-d", "--duration", default="10s", metavar="DURATION", help="end after 5, 5s, 1m (default 10s)")
    options.add_interval(parser)
    options.add_plain(parser)
    options.add_table(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per interval, one per line")
    parser.set_defaults(passes=True, count=None)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from mmwatch.host.cgroups import OwnCgroup, memory_mount

    if arguments.columns == "help":
        from mmwatch.cli.tables import print_columns

        print_columns()
        return 0
    interval_s = options.interval_s(arguments)
    duration_s = units.parse_duration_s(arguments.duration)
    mount = memory_mount()
    if mount is not None:
        remove_leftovers(mount)
    limit, whole = units.pages_text(LIMIT_BYTES, 1), units.pages_text(FILE_BYTES, 1)
    headline = f"demo: {WORKERS} tasks read {whole} in a cgroup limited to {limit} for {duration_s:g} s; Ctrl-C ends it"
    tally = Tally()

    def go() -> None:
        streams.show(f"{headline}\n")
        load.go()

    with (
        held(),
        sparse_file() as file,
        OwnCgroup.create(mount, f"{COMM}-{os.getpid()}", LIMIT_BYTES) as cgroup,
        Load(file, max(duration_s - QUIET_S, duration_s / 2)) as load,
    ):
        lock = claim(cgroup.path)
        for pid in load.pids:
            cgroup.add(pid)
        try:
            with released():
                show(arguments, resolve_target(), interval_s, duration_s, headline, go, tally.add)
        except KeyboardInterrupt:
            pass
        finally:
            os.close(lock)
    tally.explain()
    return 0


class Load:
    """Worker processes that start on :meth:`go`, and end when this process ends, however it ends."""

    def __init__(self, file: IO[bytes], duration_s: float) -> None:
        self._file, self._duration_s = file, duration_s
        wait, self._go = os.pipe()
        self.pids: list[int] = []
        try:
            for number in range(WORKERS):
                pid = os.fork()
                if pid == 0:
                    self._work(wait, number)
                self.pids.append(pid)
        except BaseException:
            self.__exit__()
            raise
        finally:
            os.close(wait)

    def go(self) -> None:
        """Start them."""
        os.write(self._go, b"1" * WORKERS)

    def _work(self, wait: int, number: int) -> NoReturn:
        """Read this worker's part of the file over and over, using half a CPU."""
        try:
            os.close(self._go)
            die_with_parent()
            # If the parent died before the call above, this read returns nothing.
            if os.read(wait, 1):
                self._stream(number)
        finally:
            os._exit(0)

    def _stream(self, number: int) -> None:
        part = FILE_BYTES // WORKERS
        chunk = bytearray(CHUNK_BYTES)
        now = time.monotonic()
        end = now + self._duration_s
        while True:
            for offset in range(number * part, (number + 1) * part, CHUNK_BYTES):
                if now >= end:
                    return
                os.preadv(self._file.fileno(), [chunk], offset)
                read_at = time.monotonic()
                time.sleep(read_at - now)
                now = time.monotonic()

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._go)
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
        for pid in self.pids:
            os.waitpid(pid, 0)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, and name it :data:`COMM`."""
    pr_set_pdeathsig, pr_set_name = 1, 15
    libc = ctypes.CDLL(None)
    libc.prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)
    libc.prctl(pr_set_name, COMM.encode(), 0, 0, 0)


class Tally:
    """Sums what was seen, for the summary."""

    def __init__(self) -> None:
        self._accounting: Accounting | None = None
        self._reclaims = self._pages = self._page_size = 0

    def add(self, snapshot: Snapshot, accounting: Accounting) -> None:
        """Add an interval."""
        from mmwatch.model.measures import PATHS

        self._accounting = accounting
        self._page_size = snapshot.session.page_size
        rows = snapshot.interval.rows
        rows = rows[rows["path"] == PATHS.index("memcg")]
        self._reclaims += int(rows["reclaims"].sum())
        self._pages += int(rows["reclaimed_file_pages"].sum() + rows["reclaimed_anon_pages"].sum())

    def explain(self) -> None:
        """Print the summary."""
        from mmwatch.display.host import accounting_line

        if self._accounting is None:
            return
        size = units.pages_text(self._pages, self._page_size)
        streams.show(
            f"demo: path memcg: {self._reclaims} times the cgroup was full and a task had to reclaim:"
            f" {self._pages} pages in total ({size})\n{accounting_line(self._accounting, None, 'demo: ')}\n"
        )


# ---- cgroups and files ----


def claim(cgroup: Path) -> int:
    """Mark a cgroup as in use while this process lives.

    :returns: a descriptor to close at the end.
    :raises BlockingIOError: another demo uses the cgroup.
    :raises OSError: it is gone.
    """
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def remove_leftovers(mount: CgroupMount) -> None:
    """Remove the cgroups that killed demos left."""
    for path in mount.path.glob(f"{COMM}-*"):
        with contextlib.suppress(OSError):
            fd = claim(path)
            try:
                path.rmdir()
            finally:
                os.close(fd)


def sparse_file() -> IO[bytes]:
    """An unnamed sparse file on a disk.

    :raises UnavailableError: no directory will do. The message says which were tried and why each was rejected.
    """
    refused = []
    for directory in places():
        try:
            problem = unfit(directory)
            if not problem:
                file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115
                file.truncate(FILE_BYTES)
                return file
        except OSError as error:
            problem = error.strerror or str(error)
        refused.append(f"{units.clean(directory)}: {problem}")
    raise UnavailableError(
        f"the demo needs a directory on a disk file system ({'; '.join(refused)})",
        "TMPDIR=/a/directory/on/disk mmwatch demo",
    )


def places() -> Iterable[str]:
    """Directories to try, the user's choice first."""
    wanted = [os.environ.get("TMPDIR", ""), "/var/tmp", "/tmp", "/var/lib", os.path.expanduser("~"), os.getcwd()]
    return dict.fromkeys(place for place in wanted if place)


def file_system(directory: str, mountinfo: str) -> str | None:
    """The type of the file system of a directory; None if unknown."""
    device = os.stat(directory).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in filter(None, mountinfo.split("\n")):
        fields, _, tail = line.partition(" - ")
        if fields.split(" ")[2] == wanted:
            return tail.split()[0]
    real = os.path.realpath(directory)
    found: tuple[int, str | None] = (-1, None)
    for line in filter(None, mountinfo.split("\n")):  # btrfs: no line has a subvolume's device
        fields, _, tail = line.partition(" - ")
        point = units.unescape(fields.split(" ")[4])
        if (real + "/").startswith(point.rstrip("/") + "/"):
            found = max(found, (len(point), tail.split()[0]))
    return found[1]


def unfit(directory: str) -> str:
    """Why a directory cannot hold the file; empty if no reason is known.

    :raises OSError: it cannot be written to.
    """
    kind = file_system(directory, os.fsdecode(Path("/proc/self/mountinfo").read_bytes()))
    if kind not in (None, *PAGE_CACHED):
        return f"on {kind}"
    if kind in (None, "overlay"):  # mountinfo has no line for a chroot's root
        with tempfile.TemporaryFile(dir=directory) as file:
            if not has_extents(file.fileno()):
                return f"on {kind or 'a file system'} backed by memory"
    return ""


def has_extents(fd: int) -> bool:
    """Whether the file system can map the file's extents, as disk file systems can."""
    fs_ioc_fiemap = 0xC020660B
    request = array.array("B", bytes(32))  # struct fiemap: start 0, no flags, room for no extents; the length follows
    request[8:16] = array.array("B", b"\xff" * 8)
    try:
        fcntl.ioctl(fd, fs_ioc_fiemap, request)
    except OSError:
        return False
    return True
