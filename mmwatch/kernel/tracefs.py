"""Reads tracepoint formats from tracefs, whether it is mounted or not.

If tracefs is not mounted, root can get a private mount that no other process sees: it is attached nowhere (fsopen,
fsmount: Linux 5.2) and disappears with the process. The host's mounts do not change.
"""

from __future__ import annotations

import ast
import ctypes
import os
import re
from pathlib import Path

from mmwatch.kernel.files import read_text

MOUNT_POINTS = ("sys/kernel/tracing", "sys/kernel/debug/tracing")

_FIELD = re.compile(r"^\tfield:.*?(\w+)(?:\[[^\]]*\])?;\toffset:", re.MULTILINE)
_FLAG = re.compile(r'\{([^{}"]*), "(\w+)" ?\}')
_CAST = re.compile(r"\( *(?:__force )?[a-z_]+(?: [a-z_]+)* *\)(?= *[(\d])")
_SUFFIX = re.compile(r"(?<=[\da-fA-F])[uUlL]+\b")
# The numbers are the same on every architecture since 5.2 (include/uapi/asm-generic/unistd.h).
_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432
_FSCONFIG_CMD_CREATE = 6
_CLOEXEC = 1


class Tracefs:
    """The directory that describes events.

    :ivar path: the directory, or None.
    :ivar state: ``mounted``, ``private`` (a mount that only this process sees) or ``missing``.
    :ivar reason: why it is missing.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.path: Path | None = None
        self.state = "missing"
        self.reason = ""
        self._fd = -1
        for point in MOUNT_POINTS:
            if os.path.isdir(root / point / "events"):  # is_dir() raises where the mount is not for this user
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
        text = self._format(tracepoint)
        return None if text is None else frozenset(_FIELD.findall(text))

    def flags(self, tracepoint: str) -> dict[str, int]:
        """The flags that an event prints: bits by name, in the order this kernel looks for them.

        Names whose bits the format does not give as numbers are left out.
        """
        found = {}
        for expression, name in _FLAG.findall((self._format(tracepoint) or "").partition("print fmt:")[2]):
            bits = _number(expression)
            if bits:
                found[name] = bits
        return found

    def _format(self, tracepoint: str) -> str | None:
        if self.path is None:
            return None
        return read_text(self.path / "events" / tracepoint.replace(":", "/") / "format")

    def close(self) -> None:
        """End the private mount."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _number(expression: str) -> int | None:
    """The value of a C integer constant expression as formats have them; None: it is something else."""

    def value(node: ast.AST) -> int:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitOr, ast.BitAnd)):
            left, right = value(node.left), value(node.right)
            return left | right if isinstance(node.op, ast.BitOr) else left & right
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.LShift):
            return value(node.left) << min(value(node.right), 64)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
            return ~value(node.operand)
        raise ValueError

    try:
        return value(ast.parse(_SUFFIX.sub("", _CAST.sub("", expression)).strip(), mode="eval").body)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


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
