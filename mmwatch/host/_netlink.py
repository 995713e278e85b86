"""Opens the two netlink sockets. pyroute2 opens them and looks up the family; we decode the messages.

pyroute2 is imported inside the functions, because it takes 0.1 s and 24 MB that a command without names must not pay.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

SOL_NETLINK = 270
NETLINK_NO_ENOBUFS = 5
SO_MEMINFO = 55
_SK_MEMINFO_DROPS = 8
_SK_MEMINFO_VARS = 9


class NetlinkUnavailableError(Exception):
    """There is no such socket here; the message says why."""


def open_proc_events() -> socket.socket:
    """A socket in the process events multicast group. It has not asked the kernel to send any yet.

    :raises NetlinkUnavailableError: pyroute2 is missing or has no proc connector (0.7 lacks it, 0.9 has it), or
        permission is missing (CAP_NET_ADMIN before 6.6).
    """
    try:
        from pyroute2.netlink.connector.cn_proc import ProcEventSocket  # type: ignore[import-untyped,unused-ignore]
        from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped,unused-ignore]
    except Exception as error:  # a package that is there may fail in any way
        raise NetlinkUnavailableError(f"pyroute2 cannot be imported: {error}") from error
    try:
        source = ProcEventSocket()
        try:
            source.bind()
            return _take(source)
        finally:
            source.close()
    except (OSError, KeyError, NetlinkError) as error:  # pyroute2 raises KeyError if every bind() failed
        raise NetlinkUnavailableError(f"no process events: {_why(error)}; they need CAP_NET_ADMIN") from error


def open_taskstats() -> tuple[socket.socket, int]:
    """A generic netlink socket and the number of the TASKSTATS family.

    :raises NetlinkUnavailableError: pyroute2 is missing, or the kernel has no CONFIG_TASKSTATS.
    """
    try:
        from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped,unused-ignore]
        from pyroute2.netlink.generic import GenericNetlinkSocket  # type: ignore[import-untyped,unused-ignore]
        from pyroute2.netlink.taskstats import tcmd  # type: ignore[import-untyped,unused-ignore]
    except Exception as error:  # a package that is there may fail in any way
        raise NetlinkUnavailableError(f"pyroute2 cannot be imported: {error}") from error
    try:
        source = GenericNetlinkSocket()
        # Without this, pyroute2 logs an error of its own if the kernel has no such family.
        getattr(source, "asyncore", source).module_err_level = "debug"
        try:
            source.bind("TASKSTATS", tcmd)
            return _take(source), int(source.prid)
        finally:
            source.close()
    except (OSError, KeyError, NetlinkError) as error:
        raise NetlinkUnavailableError(f"no taskstats: {_why(error)}") from error


def dropped_messages(source: socket.socket) -> int | None:
    """The exact number of messages that did not fit into this socket (sk_drops); None before 4.12."""
    try:
        return int(
            struct.unpack_from(
                "=I", source.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * _SK_MEMINFO_VARS), 4 * _SK_MEMINFO_DROPS
            )[0]
        )
    except (OSError, struct.error):
        return None


def _take(source: Any) -> socket.socket:
    """The bound socket itself, detached from pyroute2 (0.9 wraps it in its own event loop)."""
    fd = os.dup(source.fileno())
    taken = socket.socket(fileno=fd)
    taken.setblocking(True)
    return taken


def _why(error: Exception) -> str:
    code = getattr(error, "code", None) or getattr(error, "errno", None)
    return os.strerror(code) if isinstance(code, int) else str(error)
