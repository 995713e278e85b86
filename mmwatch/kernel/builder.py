"""Compiles, loads and attaches the programs in a separate process, and takes over its file descriptors.

The compiler is LLVM, a hundred megabytes, most of which would stay resident during the whole observation. A separate
process frees them as soon as everything is attached. It also runs in parallel with the imports and reads that start-up
needs, and if it crashes, this process is left to report that.
"""

from __future__ import annotations

import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmwatch
from mmwatch.abi import bpf_directory
from mmwatch.errors import MmwatchError, NoPermissionError, OutOfMemoryError, UnavailableError
from mmwatch.kernel.builder_process import Options
from mmwatch.kernel.channel import receive, send
from mmwatch.kernel.plan import Plan, Probe

FILES = 256
"""Open files needed: two per probe, one per table, and those of recordings and services."""

_PACKAGES = str(Path(mmwatch.__file__).resolve().parents[1])
"""Where mmwatch is. The child needs it on its path: it runs without site, so it would not find an editable install."""
_RUN = (
    "import sys; sys.path[:] = sys.argv[2:]; from mmwatch.kernel.builder_process import serve; serve(int(sys.argv[1]))"
)


@dataclass(frozen=True)
class Table:
    """A BPF map.

    :param layout: of a value, as ``numpy.dtype`` takes it: names, formats, offsets, itemsize.
    """

    descriptor: int
    entries: int
    layout: Any

    def map(self) -> mmap.mmap:
        """Map all of a mappable array. The rest of its last page is unused."""
        length = -(-int(self.layout["itemsize"]) * self.entries // mmap.PAGESIZE) * mmap.PAGESIZE
        return mmap.mmap(self.descriptor, length)


@dataclass(frozen=True)
class Attached:
    """The result of attaching.

    :param programs: descriptors of the programs that run.
    :param links: descriptors that keep them attached.
    :param paired: how many of the programs are in pairs; those come first.
    :param failures: why programs could not be loaded or attached, by need.
    :param probes: the probe that was attached, by need, for needs that functions serve.
    :param refusals: the probes that were tried before it, each with the kernel's error, by need.
    """

    programs: tuple[int, ...]
    links: tuple[int, ...]
    paired: int
    failures: Mapping[str, str]
    probes: Mapping[str, Probe]
    refusals: Mapping[str, tuple[str, ...]]


def check(plan: Plan, options: Options) -> None:
    """Refuse a plan that cannot do what is wanted, before anything is compiled.

    :raises NoPermissionError: according to the plan, this user lacks permission.
    :raises UnavailableError: according to the plan, nothing can be attached, or the filter cannot be applied.
    """
    for what, remedy, privilege in plan.blockers:
        raise (NoPermissionError if privilege else UnavailableError)(what, remedy)
    if plan.problems and options.wanted:
        raise UnavailableError(plan.problems[0])


class Builder:
    """The process that builds, from construction to :meth:`close`; a context manager.

    It starts at once and imports bcc; :meth:`compile` gives it work.

    :raises UnavailableError: too few files may be open.
    """

    def __init__(self) -> None:
        make_room_for_files()
        self._said = os.memfd_create("mmwatch-builder")
        self._socket, theirs = socket.socketpair()
        # bcc reads kernel headers from BCC_KERNEL_SOURCE. The new session keeps Ctrl-C from the child: close() ends it.
        environment = {**os.environ, "BCC_KERNEL_SOURCE": str(bpf_directory() / "include")}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _RUN, str(theirs.fileno()), *sys.path, _PACKAGES],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                env=environment,
                start_new_session=True,
            )

    def __enter__(self) -> Builder:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, whatever it is doing. The descriptors it handed over stay open."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()
        if self._said >= 0:
            os.close(self._said)
            self._said = -1
        self._socket.close()

    def compile(self, plan: Plan, options: Options) -> None:
        """Start compiling.

        :raises NoPermissionError: as :func:`check`.
        :raises UnavailableError: likewise, or the process has ended.
        """
        check(plan, options)
        try:
            send(self._socket, (plan, options))
        except OSError:
            raise self._ended() from None

    def tables(self) -> dict[str, Table]:
        """The maps by name; waits until the programs are compiled. The child goes on to load them.

        :raises NoPermissionError: the kernel refuses BPF to this user.
        :raises UnavailableError: the programs do not compile. The message says why.
        """
        found, descriptors = self._receive()
        return {name: Table(descriptor, *rest) for (name, *rest), descriptor in zip(found, descriptors)}

    def attach(self) -> Attached:
        """Attach the programs. From here on, everything is counted.

        :raises NoPermissionError: the kernel refuses BPF to this user.
        :raises UnavailableError: no program could be attached.
        """
        try:
            send(self._socket, "attach")
        except OSError:
            raise self._ended() from None
        (programs, *others), descriptors = self._receive()
        return Attached(tuple(descriptors[:programs]), tuple(descriptors[programs:]), *others)

    def _receive(self) -> tuple[Any, list[int]]:
        try:
            found, descriptors = receive(self._socket)
        except (EOFError, ConnectionError):
            raise self._ended() from None
        if isinstance(found, MmwatchError):
            raise found
        return found, descriptors

    def _ended(self) -> MmwatchError:
        """The error for a process that ended without an answer."""
        status = self._process.wait()
        os.lseek(self._said, 0, os.SEEK_SET)
        said = os.read(self._said, 1 << 20).decode("utf-8", "replace").strip().rpartition("\n")[2]
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        what = f"the compiler of the BPF programs {how}{said and f': {said}'}"
        if status == -signal.SIGKILL:
            return OutOfMemoryError(f"{what}, probably by the OOM killer")
        return UnavailableError(what, "see: mmwatch doctor")


def make_room_for_files(processes: int = 0) -> None:
    """Raise the limit of open files, if it is too low.

    :param processes: that are watched, each with a file of its own.
    :raises UnavailableError: too few files may be open.
    """
    needed = FILES + processes
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max(hard, needed)))
    except (OSError, ValueError):
        what = f"the probes and {processes} processes" if processes else "the probes"
        raise UnavailableError(
            f"this process may open {hard} files, and {what} take up to {needed}", f"ulimit -n {needed}, or more"
        ) from None
