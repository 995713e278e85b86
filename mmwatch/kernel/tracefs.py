"""Reading tracepoint formats from tracefs, mounted or not.

Where tracefs is not mounted, root can still have one that nobody else sees: a mount that is attached nowhere
(fsopen, fsmount: Linux 5.2) and ends with the process. The host's mounts stay as they are.
"""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

MOUNT_POINTS = ("sys/kernel/tracing", "sys/kernel/debug/tracing")

_FIELD = re.compile(r"^\tfield:.*?(\w+)(?:\[[^\]]*\])?;\toffset:", re.MULTILINE)
# The numbers are the same on every architecture since 5.2 (include/uapi/asm-generic/unistd.h).
_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432
_FSCONFIG_CMD_CREATE = 6
_CLOEXEC = 1


class Tracefs:
    """Where the events are described.

    :ivar path: the directory, or None.
    :ivar state: ``mounted``, ``private`` (a mount of our own that nobody sees) or ``missing``.
    :ivar reason: why it is missing.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.path: Path | None = None
        self.state = "missing"
        self.reason = ""
        self._fd = -1
        for point in MOUNT_POINTS:
            if (root / point / "events").is_dir():
                self.path, self.state = root / point, "mounted"
                return
        try:
            if root == Path("/"):
                self._fd = _detached_mount()
                self.path, self.state = Path(f"/proc/self/fd/{self._fd}"), "private"
            else:
                self.reason = "not mounted"
        except OSError as error:
            self.reason = f"not mounted, and mounting one failed: {error.strerror}"

    def fields(self, tracepoint: str) -> frozenset[str] | None:
        """The field names of ``category:event``; None: no such tracepoint (or none can be read, see ``path``)."""
        if self.path is None:
            return None
        try:
            text = (self.path / "events" / tracepoint.replace(":", "/") / "format").read_text()
        except OSError:
            return None
        return frozenset(_FIELD.findall(text))

    def close(self) -> None:
        """End the private mount."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _detached_mount() -> int:
    libc = ctypes.CDLL(None, use_errno=True)

    def call(number: int, *arguments: object) -> int:
        result = int(libc.syscall(number, *arguments))
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result

    context = call(_SYS_FSOPEN, b"tracefs", _CLOEXEC)
    try:
        call(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return call(_SYS_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)
