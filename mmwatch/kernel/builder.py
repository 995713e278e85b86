"""Compiles, loads and attaches the programs in a process of its own, and takes over its file descriptors.

The compiler is LLVM: a hundred megabytes, most of which would stay for as long as we observe. In another process it is
gone as soon as everything is attached; it runs in parallel with the imports and reads that start-up needs; and when it
crashes, somebody is left to say so.
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
from mmwatch.errors import MmwatchError, NoPermissionError, UnavailableError
from mmwatch.kernel.builder_process import Options
from mmwatch.kernel.channel import receive, send
from mmwatch.kernel.plan import Plan, Probe

FILES = 256
"""Open files needed: two a probe, one a table, and those of recordings and services."""

_PACKAGES = str(Path(mmwatch.__file__).resolve().parents[1])
"""Where mmwatch is: an editable install need not put that on the path, and without site nothing else finds it."""
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
    """What came of attaching.

    :param programs: descriptors of the programs that run.
    :param links: descriptors that keep them attached.
    :param paired: how many of the programs, the first ones, are in pairs.
    :param failures: why programs could not be loaded or attached, by need.
    :param probes: the probe that was attached, by need; of needs that functions serve.
    :param refusals: the probes that were tried before it, each with what the kernel said, by need.
    """

    programs: tuple[int, ...]
    links: tuple[int, ...]
    paired: int
    failures: Mapping[str, str]
    probes: Mapping[str, Probe]
    refusals: Mapping[str, tuple[str, ...]]


class Builder:
    """The process that builds, from construction to :meth:`close`; a context manager.

    It starts at once and imports bcc; :meth:`compile` gives it work.

    :raises UnavailableError: too few files may be open.
    """

    def __init__(self) -> None:
        _make_room_for_files()
        self._said = os.memfd_create("mmwatch-builder")
        self._socket, theirs = socket.socketpair()
        # bcc takes the kernel's headers from there. Ctrl-C is not for it: close() stops it.
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

        :raises NoPermissionError: the plan says that this user may not.
        :raises UnavailableError: the plan says that nothing can be attached.
        """
        for what, remedy, privilege in plan.blockers:
            raise (NoPermissionError if privilege else UnavailableError)(what, remedy)
        if plan.problems and options.wanted:
            raise UnavailableError(plan.problems[0])
        try:
            send(self._socket, (plan, options))
        except OSError:
            raise self._ended() from None

    def tables(self) -> dict[str, Table]:
        """The maps by name, once it has compiled. It loads the programs in the meantime.

        :raises NoPermissionError: the kernel refuses BPF to this user.
        :raises UnavailableError: the programs do not compile; says why.
        """
        found, descriptors = self._receive()
        return {name: Table(descriptor, *rest) for (name, *rest), descriptor in zip(found, descriptors)}

    def attach(self) -> Attached:
        """Attach: from here on everything counts.

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

    def _ended(self) -> UnavailableError:
        """The error for a process that ended without an answer."""
        status = self._process.wait()
        os.lseek(self._said, 0, os.SEEK_SET)
        said = os.read(self._said, 1 << 20).decode("utf-8", "replace").strip().splitlines()
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        hint = (
            "memory is so short that the kernel ended it: make room, or try again" if status == -signal.SIGKILL else ""
        )
        return UnavailableError(
            f"the compiler of the BPF programs {how}{(said and f': {said[-1]}') or ''}", hint or "see: mmwatch doctor"
        )


def _make_room_for_files() -> None:
    """:raises UnavailableError: too few files may be open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= FILES:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, max(hard, FILES)))
    except (OSError, ValueError):
        raise UnavailableError(
            f"this process may open {hard} files, and the probes take up to {FILES}", f"ulimit -n {FILES}, or more"
        ) from None
