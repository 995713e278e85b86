"""Writing to BPF maps by the bpf system call: all the front end needs of it, and bcc would bring a compiler along."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterable
from typing import Any

_BPF_MAP_UPDATE_ELEM = 2  # include/uapi/linux/bpf.h
_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "ppc64le": 361, "s390x": 351}
"""Of the system call: arch/*/entry/syscalls/syscall*.tbl, scripts/syscall.tbl."""
_NUMBER = _NUMBERS.get(platform.machine(), -1)  # which is answered by ENOSYS
_syscall = ctypes.CDLL(None, use_errno=True).syscall


class _Element(ctypes.Structure):
    """``union bpf_attr`` of the commands that deal with one element."""

    _fields_ = (
        ("map", ctypes.c_uint64),  # the descriptor, and padding
        ("key", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )


def update(descriptor: int, key: Any, value: Any) -> None:
    """Enter a value, both as ctypes have them.

    :raises OSError: the map is full, or it may not be written.
    """
    _update(_Element(descriptor, ctypes.addressof(key), ctypes.addressof(value), 0))


def push(descriptor: int, values: Iterable[int]) -> None:
    """Append numbers of 32 bits to a queue.

    :raises OSError: as :func:`update`.
    """
    value = ctypes.c_uint32()
    element = _Element(descriptor, 0, ctypes.addressof(value), 0)
    for number in values:
        value.value = number
        _update(element)


def _update(element: _Element) -> None:
    if _syscall(_NUMBER, _BPF_MAP_UPDATE_ELEM, ctypes.byref(element), ctypes.sizeof(element)):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
