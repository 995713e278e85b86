"""Names of processes, kept after they end."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmwatch.host import _netlink
from mmwatch.host._files import ROOT
from mmwatch.units import clean, decode

_KEPT = 16384
_CMDLINE_BYTES = 1024
_STALE_S = 10.0
_ANSWER_S = 1.0
_RECEIVE_BYTES = 4 << 20
_SO_RCVBUFFORCE = 33
_SO_ATTACH_FILTER = 26

# include/uapi/linux/cn_proc.h, connector.h: struct nlmsghdr (16 bytes), struct cn_msg (20), then struct proc_event,
# with members what, cpu and timestamp_ns, and data that depends on the event: up to four 32-bit numbers come first.
_EVENT = struct.Struct("=36xI12xIIII")
_COMM_AT = 60
_FORK = 0x1  # parent pid, parent tgid, child pid, child tgid
_EXEC = 0x2  # pid, tgid
_COMM = 0x200  # pid, tgid, char[16]
_EXIT = 0x80000000  # pid, tgid, ...
_ACK = 0x0  # errno
_CN_IDX_PROC = _CN_VAL_PROC = 1
_LISTEN, _IGNORE = 1, 2
_NLMSG_DONE = 3


@dataclass(frozen=True)
class Process:
    """What is known about a process. None means not known (yet). All text is clean."""

    tgid: int
    ppid: int | None
    comm: str | None
    """The name of the thread group leader, at most 15 bytes."""
    cmdline: str | None
    """The arguments, joined by spaces, at most 1024 bytes. Empty for a kernel thread."""
    exited: bool | None
    """Whether the leader has exited."""


class _Entry:
    __slots__ = ("cmdline", "comm", "exited", "ppid", "read_at", "start_ticks")

    def __init__(self, ppid: int | None, comm: bytes | None, cmdline: bytes | None, read_at: float) -> None:
        self.ppid = ppid
        self.comm = comm
        self.cmdline = cmdline
        self.exited = False
        self.read_at = read_at
        self.start_ticks: int | None = None


class ProcessNames:
    """comm, command line and parent of each process, from the kernel's process events and from /proc.

    A daemon thread reads the events (fork, exec, comm, exit) as they happen, so that even a task that lived for 50 ms
    has a name. A forked process has its parent's names until it calls exec. A second daemon thread reads /proc for
    processes that were there before. It reads again (at most every 10 s) for processes that are asked for, because
    programs rewrite their titles without an event. The caller of :meth:`get` never reads /proc/PID/cmdline: that waits
    for the process's mmap lock, which a task stuck in reclaim may hold for seconds.

    Without events (``available`` is False, ``reason`` says why), names come from /proc alone, and a task that exits
    before anyone asks for it has none. PIDs are those of this process's PID namespace.

    :ivar available: whether process events arrive; None before :meth:`start`.
    :ivar reason: why they do not.
    """

    def __init__(self, root: Path = ROOT, kept: int = _KEPT, clock: Callable[[], float] = time.monotonic) -> None:
        self._proc = f"{root}/proc".replace("//", "/")
        self._kept = kept
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[int, _Entry] = {}  # least recently used first
        self._socket: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._wanted: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._pending: set[int] = set()
        self._closing = False
        self._overruns = 0
        self.available: bool | None = None
        self.reason = ""

    def start(self) -> None:
        """Start listening, and read running processes in the background. Raises nothing: see ``available``."""
        try:
            self._socket = _listen()
            self.available = True
            self._spawn("mmwatch-names", self._receive)
        except _netlink.NetlinkUnavailableError as error:
            self.available, self.reason = False, str(error)
        with contextlib.suppress(OSError):
            for name in os.listdir(self._proc):
                if name.isdecimal():
                    self._request(int(name))
        self._spawn("mmwatch-procs", self._serve)

    def get(self, tgid: int) -> Process:
        """What is known now, without waiting. If that is incomplete or old, /proc is read in the background and a
        later call knows more."""
        with self._lock:
            entry = self._entries.pop(tgid, None)
            if entry is not None:
                self._entries[tgid] = entry
            stale = entry is None or not (
                entry.exited
                or (entry.ppid is not None and entry.comm is not None and self._clock() - entry.read_at <= _STALE_S)
            )
        if stale:
            self._request(tgid)
        if entry is None:
            return Process(tgid, None, None, None, None)
        return Process(
            tgid,
            entry.ppid,
            None if entry.comm is None else decode(entry.comm),
            None if entry.cmdline is None else _cmdline_text(entry.cmdline),
            entry.exited,
        )

    def read(self, tgid: int) -> Process:
        """Read /proc/TGID now and return what is known, for a command that runs once. May wait (see above)."""
        self._read_proc(tgid)
        return self.get(tgid)

    @property
    def lost_events(self) -> int:
        """Events that the kernel dropped for lack of room. Names may then be missing or, for 10 s, belong to an earlier
        process. Exact from 4.12 on (the socket's drop count); before that a lower bound."""
        source = self._socket
        return (_netlink.dropped_messages(source) if source is not None else None) or self._overruns

    def close(self) -> None:
        """Stop listening. Known names stay."""
        self._closing = True
        self._wanted.put(-1)
        source = self._socket
        if source is not None:
            with contextlib.suppress(OSError):
                source.send(_control(_IGNORE))  # before 6.6 the kernel counts listeners and never notices their exit
        for thread in self._threads:
            thread.join(timeout=1.0)
        if source is not None:
            self._overruns = self.lost_events
            self._socket = None
            source.close()

    def handle(self, message: bytes | memoryview) -> None:
        """Take in one process event: a netlink message of the proc connector, with its header."""
        what, first, second, third, fourth = _EVENT.unpack_from(message)
        now = self._clock()
        with self._lock:
            if what == _FORK:
                if third != fourth:
                    return
                parent = self._entries.get(second)
                comm, cmdline = (None, None) if parent is None else (parent.comm, parent.cmdline)
                self._keep(fourth, _Entry(second, comm, cmdline, now))
                return
            if first != second or what not in (_EXEC, _COMM, _EXIT):
                return
            known = self._entries.get(second)
            if known is None:
                if what == _EXIT:
                    return
                known = _Entry(None, None, None, now)
                self._keep(second, known)
            if what == _EXIT:
                known.exited = True
                return
            known.exited = False
            if what == _COMM:
                known.comm = bytes(message[_COMM_AT : _COMM_AT + 16])
                return
        # This does not wait: nobody else uses the address space of a process that has just called exec.
        # Read in this order, because the arguments are gone once the process exits, the name only once it is reaped.
        cmdline = _read_bytes(f"{self._proc}/{second}/cmdline", _CMDLINE_BYTES)
        comm = _read_bytes(f"{self._proc}/{second}/comm", 16)
        with self._lock:
            # The parent's names no longer apply. If the process is already gone, its names are not known.
            known.comm = comm.rstrip(b"\n") if comm else None
            known.cmdline = cmdline or None
            known.read_at = now

    def _keep(self, tgid: int, entry: _Entry) -> None:
        self._entries.pop(tgid, None)
        self._entries[tgid] = entry
        if len(self._entries) > self._kept:
            del self._entries[next(iter(self._entries))]

    def _request(self, tgid: int) -> None:
        if tgid not in self._pending and not self._closing:
            self._pending.add(tgid)
            self._wanted.put(tgid)

    def _spawn(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        while not self._closing:
            tgid = self._wanted.get()
            if tgid >= 0:
                self._read_proc(tgid)
                self._pending.discard(tgid)

    def _receive(self) -> None:
        assert self._socket is not None
        receive = self._socket.recv_into
        buffer = bytearray(4096)
        view = memoryview(buffer)
        while not self._closing:
            try:
                count = receive(buffer)
            except (BlockingIOError, InterruptedError):  # the receive timeout: look at _closing
                continue
            except OSError:  # ENOBUFS, if NETLINK_NO_ENOBUFS is not available
                self._overruns += 1
                continue
            if count >= _EVENT.size:
                self.handle(view[:count])

    def _read_proc(self, tgid: int) -> None:
        stat = _read_bytes(f"{self._proc}/{tgid}/stat", 1024)
        now = self._clock()
        with self._lock:
            known = self._entries.get(tgid)
            if stat is None:
                if known is not None:
                    known.exited = True
                return
            # "PID (comm) state ppid ..."; comm may contain anything, even a closing parenthesis.
            head, _, tail = stat.rpartition(b")")
            fields = tail.split()
            try:
                ppid, start_ticks = int(fields[1]), int(fields[19])
            except (IndexError, ValueError):  # truncated
                return
            if known is not None and known.start_ticks not in (None, start_ticks):
                known = None  # another process: the PID was reused
            if known is None:
                known = _Entry(ppid, None, None, now)
                self._keep(tgid, known)
            known.ppid, known.start_ticks, known.read_at = ppid, start_ticks, now
            known.comm = head.partition(b"(")[2]
            known.exited = fields[0] in (b"Z", b"X")
        cmdline = _read_bytes(f"{self._proc}/{tgid}/cmdline", _CMDLINE_BYTES)
        with self._lock:
            if cmdline or (cmdline == b"" and 2 in (tgid, ppid)):  # only kthreadd and its children never had one
                known.cmdline = cmdline


def _cmdline_text(raw: bytes) -> str:
    return clean(raw.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "surrogateescape"))


def _read_bytes(path: str, limit: int) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, limit)
    except OSError:
        return None
    finally:
        os.close(fd)


def _listen() -> socket.socket:
    """A socket on which process events arrive.

    The kernel does not answer a caller in another PID or user namespace at all, so waiting for the acknowledgement has
    a time limit. Events that are not about a whole process are filtered out in the kernel.

    :raises NetlinkUnavailableError: says why there are no events.
    """
    source = _netlink.open_proc_events()
    try:
        # The default of 208 kB holds about 270 events, far too few for a host that forks in bursts.
        for option in (socket.SO_RCVBUF, _SO_RCVBUFFORCE):  # the second may exceed net.core.rmem_max
            with contextlib.suppress(OSError):
                source.setsockopt(socket.SOL_SOCKET, option, _RECEIVE_BYTES)
        with contextlib.suppress(OSError):
            # Count losses, but keep delivering before the whole queue has been read.
            source.setsockopt(_netlink.SOL_NETLINK, _netlink.NETLINK_NO_ENOBUFS, 1)
        source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 200_000))
        _attach_filter(source)
        source.send(_control(_LISTEN))
        deadline = time.monotonic() + _ANSWER_S
        while time.monotonic() < deadline:
            try:
                message = source.recv(4096)
            except BlockingIOError:
                continue
            what, code = _EVENT.unpack_from(message)[:2]
            if what == _ACK:
                if code:
                    raise OSError(code, os.strerror(code))
                return source
        raise _netlink.NetlinkUnavailableError(
            "no process events: the kernel does not answer; either it has no CONFIG_PROC_EVENTS, "
            "or this is not the host's PID and user namespace"
        )
    except BaseException as error:
        source.close()
        if isinstance(error, OSError):
            need = {
                errno.EPERM: "; they need CAP_NET_ADMIN",
                errno.ECONNREFUSED: "; they need the host's network namespace",
            }
            raise _netlink.NetlinkUnavailableError(
                f"no process events: {error.strerror}{need.get(error.errno or 0, '')}"
            ) from error
        raise


def _control(operation: int) -> bytes:
    body = struct.pack("=IIIIHHI", _CN_IDX_PROC, _CN_VAL_PROC, 0, 0, 4, 0, operation)
    return struct.pack("=IHHII", 16 + len(body), _NLMSG_DONE, 0, 0, 0) + body


def _attach_filter(source: socket.socket) -> None:
    """Let only fork, exec, comm and exit of whole processes (pid == tgid) and acknowledgements into the queue.

    Threads come and go far more often than processes, and each event costs this process a system call. Without the
    filter there are just more events, so failing to attach it is not an error.
    """
    load, load_x, jump, equal, equal_x, finish = 0x20, 0x07, 0x05, 0x15, 0x1D, 0x06
    program = [  # (code, skip if true, skip if false, value); a load gives the bytes in network order
        (load, 0, 0, 36),  # what
        (equal, 12, 0, socket.htonl(_EXEC)),
        (equal, 11, 0, socket.htonl(_ACK)),
        (equal, 6, 0, socket.htonl(_FORK)),
        (equal, 1, 0, socket.htonl(_COMM)),
        (equal, 0, 9, socket.htonl(_EXIT)),
        (load, 0, 0, 52),  # comm, exit: pid and tgid
        (load_x, 0, 0, 0),
        (load, 0, 0, 56),
        (jump, 0, 0, 3),
        (load, 0, 0, 60),  # fork: the child's pid and tgid
        (load_x, 0, 0, 0),
        (load, 0, 0, 64),
        (equal_x, 0, 1, 0),
        (finish, 0, 0, 0xFFFF),  # deliver
        (finish, 0, 0, 0),  # drop
    ]
    code = array.array("B", b"".join(struct.pack("=HBBI", *step) for step in program))
    with contextlib.suppress(OSError):
        source.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), code.buffer_info()[0]))
