"""taskstats: CPU time and delays per process or thread, from the kernel's own accounting (generic netlink).

An independent check of the BPF counts: delayacct_freepages_start/end is called in do_try_to_free_pages (all releases)
and in __node_reclaim (6.8+).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from mmwatch.host import _netlink
from mmwatch.host._files import ROOT
from mmwatch.host.settings import task_delayacct

_CMD_GET = 1
_ATTR_PID, _ATTR_TGID = 1, 2
_TYPE_STATS, _TYPE_AGGR_PID, _TYPE_AGGR_TGID = 3, 4, 5
_NLMSG_ERROR = 2
_NLM_F_REQUEST = 1
_REQUEST = struct.Struct("=IHHII BBH HHI")  # nlmsghdr, genlmsghdr, one attribute

# struct taskstats, include/uapi/linux/taskstats.h. Members are only ever appended, except that version 15
# put *_delay_max and *_delay_min between the others, and version 16 moved them to the end again ("taskstats: fix
# struct taskstats breaks backward compatibility since version 15"). Version 17 appends timestamps. So these offsets
# hold for the versions listed. A struct that ends before a member does not have it.
_KNOWN_VERSIONS = frozenset((*range(8, 15), 16, 17))
_KNOWN_OFFSETS: Mapping[str, tuple[int, int]] = {
    "blkio_count": (32, 8),
    "blkio_delay_total": (40, 8),
    "swapin_count": (48, 8),
    "swapin_delay_total": (56, 8),
    "ac_etime": (144, 8),
    "ac_utime": (152, 8),
    "ac_stime": (160, 8),
    "freepages_count": (312, 8),
    "freepages_delay_total": (320, 8),
    "thrashing_count": (328, 8),
    "thrashing_delay_total": (336, 8),
    "compact_count": (352, 8),
    "compact_delay_total": (360, 8),
    "wpcopy_count": (400, 8),
    "irq_count": (416, 8),
}
_DELAY_COUNTS = (
    "blkio_count",
    "swapin_count",
    "freepages_count",
    "thrashing_count",
    "compact_count",
    "wpcopy_count",
    "irq_count",
)
_HEADER_BYTES = 20
"""struct nlmsghdr, and of an error its code (include/uapi/linux/netlink.h)."""


@dataclass(frozen=True)
class TaskUsage:
    """One process or thread since it started.

    The CPU times count scheduler ticks (task_cputime, unadjusted), so they move in steps of 1/HZ unless the kernel
    accounts CPU time exactly; /proc/PID/stat scales the same ticks to the exact sum. For a process, kernels without
    a fix of April 2026 (6.18.44 has it) forget the CPU time of threads that exit, so treat a falling value as unknown.

    The delays are None if kernel.task_delayacct is 0, if the kernel has no such member, and if every delay of the task
    is 0: a task forked before the switch was turned on is never accounted and looks like that.
    """

    system_time_us: int | None
    user_time_us: int | None
    freepages_count: int | None
    """Times it entered direct or (6.8+) node reclaim, including memcg reclaim."""
    freepages_delay_ns: int | None
    swapin_delay_ns: int | None
    thrashing_delay_ns: int | None
    """Waiting for page cache that was evicted recently (4.20+)."""
    compact_delay_ns: int | None
    """Direct compaction (5.17+)."""
    blkio_delay_ns: int | None


class TaskStats:
    """Asks the kernel about tasks, one at a time; about 10 us each.

    :param offsets: member -> (byte offset, size) of the running kernel's ``struct taskstats``, from its BTF. Without
        it, only known versions of the struct are decoded; for any other, every value is None.

    :ivar available: whether taskstats works here.
    :ivar reason: why it does not.
    """

    def __init__(self, offsets: Mapping[str, tuple[int, int]] | None = None, root: Path = ROOT) -> None:
        self._root = root
        self._offsets = offsets
        self._layouts: dict[tuple[int, int], _Layout] = {}
        self._sequence = 0
        self._socket: socket.socket | None = None
        self._family = 0
        self._delays_on = task_delayacct(root) is not False
        self.available = False
        self.reason = ""
        try:
            self._socket, self._family = _netlink.open_taskstats()
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 1, 0))
            self.available = True
            self.task(0)  # there is no such task, but the kernel checks permission first
        except _netlink.NetlinkUnavailableError as error:
            self.reason = str(error)

    def process(self, tgid: int) -> TaskUsage | None:
        """All threads of a process, including exited ones if the kernel counts them; None if the process is gone."""
        return self._query(_ATTR_TGID, tgid)

    def task(self, tid: int) -> TaskUsage | None:
        """One thread; None if it is gone."""
        return self._query(_ATTR_PID, tid)

    def refresh(self) -> None:
        """Read kernel.task_delayacct again: somebody may have switched it."""
        self._delays_on = task_delayacct(self._root) is not False

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self.available = False

    def _query(self, attribute: int, number: int) -> TaskUsage | None:
        source = self._socket
        if source is None or not self.available:
            return None
        self._sequence = sequence = (self._sequence + 1) & 0xFFFFFFFF
        try:
            source.send(
                _REQUEST.pack(
                    _REQUEST.size, self._family, _NLM_F_REQUEST, sequence, 0, _CMD_GET, 1, 0, 8, attribute, number
                )
            )
            while True:
                reply = source.recv(4096)
                if len(reply) < _HEADER_BYTES:
                    continue
                _, kind, _, answered, _ = struct.unpack_from("=IHHII", reply)
                if answered == sequence:
                    break
        except OSError as error:
            self._fail(error.errno or 0)
            return None
        if kind == _NLMSG_ERROR:
            code = -struct.unpack_from("=i", reply, 16)[0]
            if code not in (errno.ESRCH, errno.EINVAL):  # EINVAL: no struct for this task; the next query may work
                self._fail(code)
            return None
        found = _stats_at(reply)
        return None if found is None else self.decode(reply[found[0] : found[0] + found[1]], attribute == _ATTR_TGID)

    def _fail(self, code: int) -> None:
        self.available = False
        self.reason = f"no taskstats: {errno.errorcode.get(code, code)}" + (
            "; it needs CAP_NET_ADMIN in the initial user namespace" if code == errno.EPERM else ""
        )

    def decode(self, stats: bytes, whole_process: bool) -> TaskUsage:
        """The values in a raw ``struct taskstats``."""
        if len(stats) < 2:
            return TaskUsage(*[None] * len(fields(TaskUsage)))
        version = struct.unpack_from("=H", stats)[0]
        layout = self._layouts.get((version, len(stats)))
        if layout is None:
            offsets = self._offsets
            if offsets is None:
                offsets = _KNOWN_OFFSETS if version in _KNOWN_VERSIONS else {}
            layout = self._layouts[version, len(stats)] = _Layout(offsets, len(stats))
        values = layout.unpack(stats)
        # "taskstats: add e/u/stime for TGID command" (8c733420bdd5) added all three at once, and no task that we can
        # query is younger than a microsecond. So ac_etime 0 means that the kernel does not fill them in.
        timed = not whole_process or bool(values.get("ac_etime"))
        kept = self._delays_on and any(values.get(name) for name in _DELAY_COUNTS)
        get = values.get
        return TaskUsage(
            system_time_us=get("ac_stime") if timed else None,
            user_time_us=get("ac_utime") if timed else None,
            freepages_count=get("freepages_count") if kept else None,
            freepages_delay_ns=get("freepages_delay_total") if kept else None,
            swapin_delay_ns=get("swapin_delay_total") if kept else None,
            thrashing_delay_ns=get("thrashing_delay_total") if kept else None,
            compact_delay_ns=get("compact_delay_total") if kept else None,
            blkio_delay_ns=get("blkio_delay_total") if kept else None,
        )


class _Layout:
    """The wanted members within the first ``length`` bytes, as one struct format."""

    def __init__(self, offsets: Mapping[str, tuple[int, int]], length: int) -> None:
        self.names: list[str] = []
        text, end = "=", 0
        for name in sorted(set(_KNOWN_OFFSETS) & set(offsets), key=lambda name: offsets[name][0]):
            offset, size = offsets[name]
            if offset >= end and offset + size <= length and size in (1, 2, 4, 8):
                text += f"{offset - end}x{ {1: 'B', 2: 'H', 4: 'I', 8: 'Q'}[size] }"
                end = offset + size
                self.names.append(name)
        self._format = struct.Struct(text)

    def unpack(self, stats: bytes) -> dict[str, int]:
        return dict(zip(self.names, self._format.unpack_from(stats)))


def _stats_at(reply: bytes) -> tuple[int, int] | None:
    """Offset and length of the struct in a reply. Walks the attributes, since architectures that cannot load unaligned
    words put a padding attribute before it."""
    at, end = 20, len(reply)
    while at + 4 <= end:
        length, kind = struct.unpack_from("=HH", reply, at)
        kind &= 0x3FFF  # without NLA_F_NESTED
        if length < 4:
            return None
        if kind == _TYPE_STATS:
            return (at + 4, length - 4) if at + length <= end else None
        # Descend into the aggregate (it holds the id and the struct); skip everything else.
        at += 4 if kind in (_TYPE_AGGR_PID, _TYPE_AGGR_TGID) else (length + 3) & ~3
    return None
