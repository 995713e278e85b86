"""Compiling, loading and attaching the BPF programs with bcc, the only module that imports it: see builder."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mmwatch
from mmwatch.errors import MmwatchError, NoPermissionError, UnavailableError
from mmwatch.kernel.passing import receive, send
from mmwatch.kernel.plan import KPROBE, PERF, RAW, Attachment, Filter, PassProbe, Plan
from mmwatch.kernel.syscall import attach_alike

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


# ---- all that follows runs in the builder's process ----


def serve(descriptor: int) -> None:
    """Build what the other end of a socket asks for: its plan and options; tables for it; ``attach``; what came of it.

    Never returns: bcc would detach everything on its way out.
    """
    with socket.socket(fileno=descriptor) as asked:
        with_bcc: Any = _import_bcc()
        (plan, options), _ = receive(asked)
        try:
            if isinstance(with_bcc, Exception):
                raise UnavailableError(f"bcc cannot be imported: {with_bcc}", "see: mmwatch doctor")
            with explained():
                _build(asked, plan, options, with_bcc)
        except MmwatchError as error:
            send(asked, error)
    os._exit(0)


def _import_bcc() -> Any:
    try:
        from bcc import BPF
    except ImportError as error:
        return error

    class Program(BPF):  # type: ignore[misc]
        def _trace_autoload(self) -> None:
            """Nothing attaches by its name: each program may fail on its own."""

    return Program


def _build(asked: socket.socket, plan: Plan, options: Options, with_bcc: Any) -> None:
    programs: list[int] = []
    links: list[int] = []
    refusals: list[str] = []
    paired = 0
    bpf = _compile(plan, options, with_bcc)
    while plan.passes:  # first of all: when it fails, there is nothing to be undone
        probe = plan.passes[0]
        try:
            programs, links = map(list, zip(*_attach_passes(bpf, probe)))
            paired = len(programs) if probe.twice else 0
            break
        except Exception as error:  # bcc raises bare Exceptions
            refusals.append(f"{probe.how} {probe.symbol}: {error}")
        finally:
            _hold_stdin()
        plan = replace(plan, passes=plan.passes[1:])
        if plan.passes and plan.passes[0].flags != probe.flags:
            bpf.cleanup()
            bpf = _compile(plan, options, with_bcc)
    _send_tables(asked, bpf, options)
    failures: dict[str, str] = {}
    loaded: list[Attachment] = []
    with ThreadPoolExecutor(2) as verifying:  # the kernel's work: it waits for no Python
        turns = [(a, verifying.submit(_load, bpf, a)) for a in sorted(plan.attachments, key=_turn)]
    for attachment, loading in turns:
        try:
            found = loading.result()
            if attachment.twice:
                programs, paired = [*found, *programs], paired + len(found)
            else:
                programs += found
            loaded.append(attachment)
        except Exception as error:  # bcc raises bare Exceptions
            failures[attachment.event.need] = str(error)
    receive(asked)  # the tables are ready
    for attachment in loaded:
        try:
            links += _attach(bpf, attachment)
        except Exception as error:  # bcc raises bare Exceptions
            failures[attachment.event.need] = str(error)
    if failures and not any(a.event.need not in failures for a in plan.attachments):
        raise UnavailableError(f"no program could be attached: {next(iter(failures.values()))}", "see: mmwatch doctor")
    passes = plan.passes[0] if plan.passes else None
    send(asked, (len(programs), paired, failures, passes, tuple(refusals)), [*programs, *links])


def _compile(plan: Plan, options: Options, with_bcc: Any) -> Any:
    """The BPF object of bcc. Of the ways to see passes only the first is compiled in."""
    directory = bpf_directory()
    flags = [
        f"-I{directory}",
        f"-DROWS={options.table_rows}",
        f"-DPAGE_SIZE={mmap.PAGESIZE}",
        "-Wno-macro-redefined",
        "-g0",  # of what bcc asks the compiler for, nobody reads the debug information: a tenth of the time
        *plan.flags,
        *(flag for attachment in plan.attachments for flag in attachment.flags),
        *(flag for probe in plan.passes[:1] for flag in probe.flags),
    ]
    if options.detail:
        flags.append(f"-DDETAIL_PAGES={options.ring_bytes // mmap.PAGESIZE}")
    return with_bcc(text=(directory / "reclaim.bpf.c").read_bytes(), cflags=flags)


def _attach_passes(bpf: Any, probe: PassProbe) -> list[tuple[int, int]]:
    """Descriptors of each program and of what keeps it attached."""
    with explained():
        if probe.how == KPROBE:
            program = bpf.load_func(b"on_pass", bpf.KPROBE)
            bpf.attach_kprobe(event=probe.symbol.encode(), fn_name=b"on_pass")
            (of_event,) = bpf.kprobe_fds.values()
            return [(program.fd, of_event[b"on_pass"])]
        # Newer releases of bcc put the module into the name of the program.
        for name in (f"kfunc__vmlinux__{probe.symbol}".encode(), f"kfunc__{probe.symbol}".encode()):
            try:
                bpf.attach_kfunc(fn_name=name)
                first = (bpf.funcs[name].fd, bpf.kfunc_entry_fds[name])
                return [first, attach_alike(first[1], bpf.dump_func(b"on_pass_again"))] if probe.twice else [first]
            except Exception as error:  # bcc raises bare Exceptions
                if "Unknown program" not in str(error):
                    raise
        raise UnavailableError(f"this bcc makes no fentry program of {probe.symbol}")


def _hold_stdin() -> None:
    """Where bcc closed standard input, have its number taken: what got it next would be closed by the next attempt.

    The libbpf of older releases of bcc (0.18) frees a BTF it can make nothing of, and file descriptor 0 with it.
    """
    try:
        os.fstat(0)
    except OSError:
        os.open(os.devnull, os.O_RDONLY)  # gets the lowest that is free


def _send_tables(asked: socket.socket, bpf: Any, options: Options) -> None:
    """Name, entries and layout of each table that the front end needs."""
    names = ["rows", "control", "stats", "free_rows", "free_slots"] + ["watched_tgids"] * bool(options.wanted.tgids)
    tables = {name: bpf[name.encode()] for name in names}
    # Of a queue bcc 0.18 does not tell how long it is, and nobody asks.
    described = [(name, int(getattr(table, "max_entries", 0)), _layout(table.Leaf)) for name, table in tables.items()]
    descriptors = [table.map_fd for table in tables.values()]
    if options.detail:  # a ring buffer's values are what is laid out like another table's
        described.append(("records", options.ring_bytes, _layout(bpf[b"record_layout"].Leaf)))
        descriptors.append(bpf[b"records"].map_fd)
    send(asked, described, descriptors)


def _load(bpf: Any, attachment: Attachment) -> list[int]:
    kind = {RAW: bpf.RAW_TRACEPOINT, PERF: bpf.TRACEPOINT}[attachment.how]
    return [int(bpf.load_func(name, kind).fd) for name in _names(attachment)]


def _attach(bpf: Any, attachment: Attachment) -> list[int]:
    """Descriptors that keep it attached, one a tracepoint."""
    links = []
    for tracepoint in attachment.tracepoints:
        for name in _names(attachment):
            if attachment.how == RAW:
                bpf.attach_raw_tracepoint(tp=tracepoint.split(":")[1].encode(), fn_name=name)
                links.append(bpf.raw_tracepoint_fds.popitem()[1])  # or bcc attaches no other there
            else:
                bpf.attach_tracepoint(tp=tracepoint.encode(), fn_name=name)
                links.append(bpf.tracepoint_fds[tracepoint.encode()])
    return links


def _names(attachment: Attachment) -> list[bytes]:
    """Of its functions in the C file."""
    name = f"on_{attachment.event.name}".encode()
    return [name, name + b"_again"] if attachment.twice else [name]


def _turn(attachment: Attachment) -> int:
    """When a program is attached: ends before begins, so that a reclaim whose begin was seen has its end seen too; the
    end of threads first of all."""
    name = attachment.event.name
    return 0 if name == "sched_process_free" else 2 if name.endswith(("_begin", "_start", "_wake")) else 1


def _layout(leaf: Any) -> dict[str, Any]:
    """What ``numpy.dtype`` takes for a table's value, without numpy: the struct as bcc lays it out in ctypes."""
    if not hasattr(leaf, "_fields_"):
        return {"names": ["value"], "formats": [_format(leaf)], "offsets": [0], "itemsize": ctypes.sizeof(leaf)}
    names = [name for name, *_ in leaf._fields_]
    return {
        "names": names,
        "formats": [_format(kind) for _, kind, *_ in leaf._fields_],
        "offsets": [getattr(leaf, name).offset for name in names],
        "itemsize": ctypes.sizeof(leaf),
    }


def _format(kind: Any) -> Any:
    """Arrays of char are text."""
    if hasattr(kind, "_length_"):
        if kind._type_ is ctypes.c_char:
            return f"S{kind._length_}"
        return (_format(kind._type_), (kind._length_,))
    return f"{'i' if kind._type_.islower() else 'u'}{ctypes.sizeof(kind)}"


@contextmanager
def explained() -> Iterator[None]:
    """Turn bcc's bare exceptions into errors to act on, with what libbcc prints of them.

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
    said = re.sub(r"\bb'([^']*)'", r"\1", said)
    detail = talk.strip().splitlines()
    wrong = next((line for line in detail if "error:" in line), detail[0] if detail else "")
    said += wrong and f" ({wrong})"
    if "Operation not permitted" in f"{said}{talk}" or "Permission denied" in str(error):
        return NoPermissionError(
            f"the kernel refused a BPF program: {said}",
            "run it as root; in a container, with CAP_BPF, CAP_PERFMON and CAP_SYS_RESOURCE; see: mmwatch doctor",
        )
    if "'struct tracepoint__" in talk:  # bcc makes it from the format file, which 0.18 looks for only there
        return UnavailableError(
            "this bcc finds no tracepoint in /sys/kernel/debug/tracing", "mount -t debugfs nodev /sys/kernel/debug"
        )
    return UnavailableError(f"the BPF programs could not be loaded: {said}", "see: mmwatch doctor")
