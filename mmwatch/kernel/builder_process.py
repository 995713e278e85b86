"""The process that :mod:`mmwatch.kernel.builder` starts. It compiles, loads and attaches, and alone imports bcc."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
import socket
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mmwatch.errors import MmwatchError, NoPermissionError, OutOfMemoryError, UnavailableError
from mmwatch.kernel import source
from mmwatch.kernel.channel import receive, send
from mmwatch.kernel.plan import KPROBE, PERF, RAW, Attachment, Filter, Plan, Probe
from mmwatch.kernel.syscall import attach_pair


@dataclass(frozen=True)
class Options:
    """How to trace.

    :param wanted: which tasks to count.
    :param detail: which of :data:`mmwatch.abi.RECORD_KINDS` to stream one by one.
    :param table_rows: thread x path x node rows; about 1 KiB of locked kernel memory each.
    :param ring_bytes: size of the ring buffer for ``detail``; a power of two.
    """

    wanted: Filter = field(default_factory=Filter)
    detail: frozenset[str] = frozenset()
    table_rows: int = 16384
    ring_bytes: int = 8 << 20


def compile_flags(plan: Plan, options: Options, probes: Iterable[Probe]) -> list[str]:
    """The flags for the compiler.

    :param probes: the function probes to compile in.
    """
    flags = [
        f"-DROWS={options.table_rows}",
        f"-DPAGE_SIZE={mmap.PAGESIZE}",
        "-Wno-macro-redefined",
        "-g0",  # bcc asks for debug information, which is never read and takes a tenth of the time
        *plan.flags,
        *(flag for attachment in plan.attachments for flag in attachment.flags),
        *(flag for probe in probes for flag in probe.flags),
    ]
    if options.detail:
        flags.append(f"-DDETAIL_PAGES={options.ring_bytes // mmap.PAGESIZE}")
    return flags


# ---- the rest runs in that process ----


def serve(descriptor: int) -> None:
    """Build for the process at the other end of a socket. It sends plan and options and gets the tables; then it sends
    ``attach`` and gets the outcome.

    Never returns, because on a normal exit bcc would detach everything.
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
    except Exception as error:  # a package that is there may fail in any way
        return error

    class Program(BPF):  # type: ignore[misc]
        def _trace_autoload(self) -> None:
            """Keep bcc from attaching programs by their names, so that one failure does not affect the others."""

    return Program


def _build(asked: socket.socket, plan: Plan, options: Options, with_bcc: Any) -> None:
    # Attach functions first: if an attempt fails, nothing else has to be undone.
    bpf, functions = _attach_functions(plan, options, with_bcc)
    programs, links, paired = functions.programs, functions.links, functions.paired
    _send_tables(asked, bpf, options)
    failures: dict[str, str] = {}
    loaded: list[Attachment] = []
    with ThreadPoolExecutor(2) as verifying:  # the kernel loads without holding Python's lock
        turns = [(a, verifying.submit(_load, bpf, a)) for a in sorted(plan.attachments, key=_turn)]
    for attachment, loading in turns:
        try:
            found = loading.result()
            if attachment.pair:
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
    what = (len(programs), paired, failures, functions.probes, functions.refusals)
    send(asked, what, [*programs, *links])


def _compile(plan: Plan, options: Options, probes: Iterable[Probe], with_bcc: Any) -> Any:
    """bcc's BPF object. Parameters are those of :func:`compile_flags`."""
    return with_bcc(text=source.program(), cflags=compile_flags(plan, options, probes))


@dataclass
class _Functions:
    """The function probes that are attached, in the form of :class:`mmwatch.kernel.builder.Attached`.

    :param ours: those of their descriptors that bcc does not know.
    """

    programs: list[int] = field(default_factory=list)
    links: list[int] = field(default_factory=list)
    paired: int = 0
    probes: dict[str, Probe] = field(default_factory=dict)
    refusals: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ours: list[int] = field(default_factory=list)

    def add(self, probe: Probe, attached: list[tuple[int, int]]) -> None:
        """Add what :func:`_attach_function` returned. Pairs come first."""
        programs, links = ([pair[side] for pair in attached] for side in (0, 1))
        self.programs = [*programs, *self.programs] if probe.pair else [*self.programs, *programs]
        self.paired += len(programs) if probe.pair else 0
        self.links += links
        self.ours += (
            [descriptor for pair in attached[len(attached) // 2 :] for descriptor in pair] if probe.pair else []
        )
        self.probes[probe.function.need] = probe

    def detached(self) -> _Functions:
        """Close our descriptors after bcc has closed its own. The result is empty but remembers the refusals."""
        for descriptor in self.ours:
            os.close(descriptor)
        return _Functions(refusals=self.refusals)


def _attach_functions(plan: Plan, options: Options, with_bcc: Any) -> tuple[Any, _Functions]:
    """Compile, and attach to each function the first of its probes that the kernel accepts.

    A probe that needs other flags than the one before it costs another run of the compiler.
    """
    remaining = {name: list(probes) for name, probes in plan.probes.items() if probes}
    done: set[str] = set()
    found = _Functions()

    def compiled() -> Any:
        return _compile(plan, options, [probes[0] for probes in remaining.values()], with_bcc)

    bpf = compiled()
    while waiting := [name for name in remaining if name not in done]:
        name, probe = waiting[0], remaining[waiting[0]][0]
        try:
            found.add(probe, _attach_function(bpf, probe))
            done.add(name)
            continue
        except Exception as error:  # bcc raises bare Exceptions
            need = probe.function.need
            found.refusals[need] = (*found.refusals.get(need, ()), f"{probe}: {error}")
        finally:
            _hold_stdin()
        if len(remaining[name]) == 1:
            done.add(name)  # the program stays compiled in but is not attached
            continue
        del remaining[name][0]
        if remaining[name][0].flags != probe.flags:
            bpf.cleanup()
            done -= {attached.function.name for attached in found.probes.values()}
            found = found.detached()
            bpf = compiled()
    return bpf, found


def _attach_function(bpf: Any, probe: Probe) -> list[tuple[int, int]]:
    """For each program, its descriptor and the one that keeps it attached; second programs of pairs come last."""
    handler, symbol = f"on_{probe.function.name}".encode(), probe.symbol.encode()
    with explained():
        if probe.how == KPROBE:
            ways = [(handler + b"_return", bpf.attach_kretprobe)] if probe.function.returns else []
            return [_attach_kprobe(bpf, name, attach, symbol) for name, attach in (*ways, (handler, bpf.attach_kprobe))]
        # Newer releases of bcc put the module into the name of the program.
        for name in (b"kfunc__vmlinux__" + symbol, b"kfunc__" + symbol):
            try:
                bpf.attach_kfunc(fn_name=name)
                firsts = [(bpf.funcs[name].fd, bpf.kfunc_entry_fds[name])]
                if probe.function.returns:
                    back = name.replace(b"kfunc", b"kretfunc", 1)
                    bpf.attach_kretfunc(fn_name=back)
                    firsts.append((bpf.funcs[back].fd, bpf.kfunc_exit_fds[back]))
                seconds = zip(firsts, (b"_pair", b"_return_pair"), (False, True)) if probe.pair else ()
                return firsts + [
                    attach_pair(link, bpf.dump_func(handler + suffix), returns)
                    for (_, link), suffix, returns in seconds
                ]
            except Exception as error:  # bcc raises bare Exceptions
                if "Unknown program" not in str(error):
                    raise
        raise UnavailableError(f"this bcc makes no fentry program of {probe.symbol}")


def _attach_kprobe(bpf: Any, name: bytes, attach: Any, symbol: bytes) -> tuple[int, int]:
    program = bpf.load_func(name, bpf.KPROBE)
    attach(event=symbol, fn_name=name)
    return program.fd, next(fds[name] for fds in bpf.kprobe_fds.values() if name in fds)


def _hold_stdin() -> None:
    """Reopen descriptor 0 if bcc closed it. Otherwise the next file would get that number, and bcc would close it, too.

    The libbpf of older releases of bcc (0.18) closes descriptor 0 when it frees a BTF it cannot use.
    """
    try:
        os.fstat(0)
    except OSError:
        os.open(os.devnull, os.O_RDONLY)  # gets the lowest free number


def _send_tables(asked: socket.socket, bpf: Any, options: Options) -> None:
    """Send name, entries and layout of each table the front end needs."""
    names = ["rows", "control", "stats", "free_rows", "free_slots", "shrinkers", "free_shrinkers"]
    names += ["watched_tgids"] * bool(options.wanted.tgids)
    tables = {name: bpf[name.encode()] for name in names}
    # bcc 0.18 does not report the length of a queue, which is not needed.
    described = [(name, int(getattr(table, "max_entries", 0)), _layout(table.Leaf)) for name, table in tables.items()]
    descriptors = [table.map_fd for table in tables.values()]
    if options.detail:  # a ring buffer has no layout of its own
        described.append(("records", options.ring_bytes, _layout(bpf[b"record_layout"].Leaf)))
        descriptors.append(bpf[b"records"].map_fd)
    send(asked, described, descriptors)


def _load(bpf: Any, attachment: Attachment) -> list[int]:
    kind = {RAW: bpf.RAW_TRACEPOINT, PERF: bpf.TRACEPOINT}[attachment.how]
    return [int(bpf.load_func(name, kind).fd) for name in _names(attachment)]


def _attach(bpf: Any, attachment: Attachment) -> list[int]:
    """The descriptors that keep it attached, one for each tracepoint and program."""
    links = []
    for tracepoint in attachment.tracepoints:
        for name in _names(attachment):
            if attachment.how == RAW:
                bpf.attach_raw_tracepoint(tp=tracepoint.split(":")[1].encode(), fn_name=name)
                links.append(bpf.raw_tracepoint_fds.popitem()[1])  # or bcc refuses a second one there
            else:
                bpf.attach_tracepoint(tp=tracepoint.encode(), fn_name=name)
                links.append(bpf.tracepoint_fds[tracepoint.encode()])
    return links


def _names(attachment: Attachment) -> list[bytes]:
    """The names of its handlers in C."""
    name = f"on_{attachment.event.name}".encode()
    return [name, name + b"_pair"] if attachment.pair else [name]


def _turn(attachment: Attachment) -> int:
    """Order of attaching: threads' ends, then ends before begins, so that no begin is seen without its end."""
    name = attachment.event.name
    return 0 if name == "sched_process_free" else 2 if name.endswith(("_begin", "_start", "_wake")) else 1


def _layout(leaf: Any) -> dict[str, Any]:
    """A struct that bcc laid out in ctypes, in the form that ``numpy.dtype`` takes; numpy is not imported here."""
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
    """Turn bcc's bare exceptions into errors that the user can act on, with the output of libbcc.

    :raises NoPermissionError: the kernel refuses BPF to this user.
    :raises UnavailableError: anything else, in the compiler's or the kernel's own words.
    """
    kept = os.memfd_create("mmwatch-stderr")
    saved = os.dup(2)
    os.dup2(kept, 2)
    try:
        yield
    except MmwatchError:
        raise
    except Exception as error:  # bcc raises bare Exceptions
        os.lseek(kept, 0, os.SEEK_SET)
        raise _explanation(error, os.read(kept, 1 << 20).decode("utf-8", "replace")) from error
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(kept)


def _explanation(error: Exception, talk: str) -> MmwatchError:
    # bcc words EPERM this way even for root, although lockdown or a security module may have refused.
    said = str(error).replace("Need super-user privileges to run", "Operation not permitted")
    said = re.sub(r"\bb'([^']*)'", r"\1", said)
    detail = talk.strip().split("\n")
    wrong = next((line for line in detail if "error:" in line), detail[0] if detail else "")
    said += wrong and f" ({wrong})"
    if "Operation not permitted" in f"{said}{talk}" or "Permission denied" in str(error):
        return NoPermissionError(
            f"the kernel refused a BPF program: {said}",
            "run it as root; in a container, with CAP_BPF, CAP_PERFMON and CAP_SYS_RESOURCE; see: mmwatch doctor",
        )
    if os.strerror(errno.ENOMEM) in f"{said}{talk}" or isinstance(error, MemoryError):
        return OutOfMemoryError(f"too little memory for the BPF programs and their tables: {said}")
    if "'struct tracepoint__" in talk:  # bcc makes it from the format file; 0.18 looks for that only in debugfs
        return UnavailableError(
            "this bcc finds no tracepoint in /sys/kernel/debug/tracing", "mount -t debugfs nodev /sys/kernel/debug"
        )
    return UnavailableError(f"the BPF programs could not be loaded: {said}", "see: mmwatch doctor")
