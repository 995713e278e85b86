"""Compiling the BPF programs with bcc, the only module that imports it."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mmwatch
from mmwatch.errors import MmwatchError, NoPermissionError, UnavailableError
from mmwatch.kernel.plan import Filter, Plan

RECORD_KINDS = ("reclaims", "batches", "passes")
"""``enum record_kind`` of ``bpf/records.h``, in its order."""


@dataclass(frozen=True)
class Options:
    """How to trace.

    :param wanted: which tasks.
    :param detail: of :data:`RECORD_KINDS`, what to stream one by one.
    :param table_rows: thread x path x node rows; about 1 KiB of locked kernel memory each.
    :param ring_bytes: of the ring buffer for ``detail``; a power of two.
    """

    wanted: Filter = field(default_factory=Filter)
    detail: frozenset[str] = frozenset()
    table_rows: int = 16384
    ring_bytes: int = 8 << 20


def bpf_directory() -> Path:
    """Where the C programs are: inside the installed package, or beside it in a checkout.

    :raises UnavailableError: neither.
    """
    package = Path(mmwatch.__file__).resolve().parent
    for place in (package / "bpf", package.parent / "bpf"):
        if (place / "reclaim.bpf.c").is_file():
            return place
    raise UnavailableError(f"the BPF programs of mmwatch are missing from {package}", "install mmwatch again")


def compile_program(plan: Plan, options: Options) -> Any:
    """The BPF object of bcc, compiled but not loaded. Needs no numpy: start-up imports that meanwhile.

    Of the ways to see passes only the first is compiled in.

    :raises NoPermissionError: the plan says that this user may not.
    :raises UnavailableError: nothing can be attached, or it does not compile; says why.
    """
    for what, remedy, privilege in plan.blockers:
        raise (NoPermissionError if privilege else UnavailableError)(what, remedy)
    if plan.problems and options.wanted:
        raise UnavailableError(plan.problems[0])
    directory = bpf_directory()
    flags = [
        f"-I{directory}",
        f"-DROWS={options.table_rows}",
        f"-DPAGE_SIZE={mmap.PAGESIZE}",
        "-Wno-macro-redefined",
        *plan.flags,
        *(flag for attachment in plan.attachments for flag in attachment.flags),
        *(probe.flag for probe in plan.passes[:1]),
    ]
    if options.detail:
        flags.append(f"-DDETAIL_PAGES={options.ring_bytes // mmap.PAGESIZE}")
    text = (directory / "reclaim.bpf.c").read_text("utf-8")
    try:
        from bcc import BPF
    except ImportError as error:
        raise UnavailableError(f"bcc cannot be imported: {error}", "see: mmwatch doctor") from error

    class Program(BPF):  # type: ignore[misc]
        def _trace_autoload(self) -> None:
            """Nothing attaches by its name: each program may fail on its own."""

    with environment(), explained():
        return Program(text=text.encode(), cflags=flags)


@contextmanager
def environment() -> Iterator[None]:
    """Tell bcc where its headers are, in the one way it takes: by a variable, which a command that we run must not see.

    Where another thread prepares meanwhile, enter this before it starts: setenv may move what a getenv elsewhere is
    just looking at, and both the compiler and libraries that are loaded look. numpy, too, sets a variable while it is
    imported, unless it is set.
    """
    wanted = {"BCC_KERNEL_SOURCE": str(bpf_directory() / "include")}
    wanted.update(dict.fromkeys((name for name in _NUMPY_SETS if name not in os.environ), "1"))
    before = {name: os.environ.get(name) for name, value in wanted.items() if os.environ.get(name) != value}
    os.environ.update({name: wanted[name] for name in before})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_NUMPY_SETS = ("OPENBLAS_MAIN_FREE", "GOTOBLAS_MAIN_FREE")  # numpy/_core/__init__.py


@contextmanager
def explained() -> Iterator[None]:
    """Turn bcc's bare exceptions into errors to act on, and keep off the terminal what libbcc prints there.

    :raises NoPermissionError: the kernel refuses BPF to this user.
    :raises UnavailableError: anything else; with the compiler's or the kernel's own words.
    """
    kept = os.memfd_create("mmwatch-stderr")
    saved = os.dup(2)
    os.dup2(kept, 2)
    try:
        yield
    except MmwatchError:
        raise
    except Exception as error:  # what bcc raises
        os.lseek(kept, 0, os.SEEK_SET)
        raise _explanation(error, os.read(kept, 1 << 20).decode("utf-8", "replace")) from error
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(kept)


def _explanation(error: Exception, talk: str) -> MmwatchError:
    # What bcc says of EPERM, to root too, whom lockdown or a security module may have refused.
    said = str(error).replace("Need super-user privileges to run", "Operation not permitted")
    if "Operation not permitted" in f"{said}{talk}" or "Permission denied" in str(error):
        return NoPermissionError(
            f"the kernel refused a BPF program: {said}",
            "run it as root; in a container, with CAP_BPF, CAP_PERFMON and CAP_SYS_RESOURCE; see: mmwatch doctor",
        )
    detail = talk.strip().splitlines()
    wrong = next((line for line in detail if "error:" in line), detail[0] if detail else "")
    return UnavailableError(
        f"the BPF programs could not be loaded: {error}{wrong and f' ({wrong})'}", "see: mmwatch doctor"
    )
