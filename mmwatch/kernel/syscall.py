"""The bpf system call, without bcc.

The front end writes to maps, for which bcc would load its compiler. The builder attaches a second program to a
function, where bcc allows only one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmwatch.kernel.files import read_text

_BPF_MAP_UPDATE_ELEM, _BPF_PROG_LOAD, _BPF_RAW_TRACEPOINT_OPEN = 2, 5, 17  # include/uapi/linux/bpf.h
_BPF_PROG_TYPE_TRACING, _BPF_TRACE_FENTRY, _BPF_TRACE_FEXIT = 26, 24, 25
_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "ppc64le": 361, "s390x": 351}
"""Number of the system call, by machine: arch/*/entry/syscalls/syscall*.tbl, scripts/syscall.tbl."""
_NUMBER = _NUMBERS.get(platform.machine(), -1)  # the kernel answers -1 with ENOSYS
_syscall = ctypes.CDLL(None, use_errno=True).syscall


class _Element(ctypes.Structure):
    """``union bpf_attr`` for commands on one map element."""

    _fields_ = (
        ("map", ctypes.c_uint64),  # the descriptor, and padding
        ("key", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )


def update(descriptor: int, key: Any, value: Any) -> None:
    """Set a map's value for a key; both are ctypes objects.

    :raises OSError: the map is full, or may not be written.
    """
    _bpf(_BPF_MAP_UPDATE_ELEM, _Element(descriptor, ctypes.addressof(key), ctypes.addressof(value), 0))


def push(descriptor: int, values: Iterable[int]) -> None:
    """Append numbers of 32 bits to a queue.

    :raises OSError: as :func:`update`.
    """
    value = ctypes.c_uint32()
    element = _Element(descriptor, 0, ctypes.addressof(value), 0)
    for number in values:
        value.value = number
        _bpf(_BPF_MAP_UPDATE_ELEM, element)


def _bpf(command: int, attributes: ctypes.Structure) -> int:
    result = int(_syscall(_NUMBER, command, ctypes.byref(attributes), ctypes.sizeof(attributes)))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


class _Program(ctypes.Structure):
    """``union bpf_attr`` for ``BPF_PROG_LOAD``, up to the last field a tracing program needs."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("instructions_count", ctypes.c_uint32),
        ("instructions", ctypes.c_char_p),
        ("license", ctypes.c_char_p),
        ("log", ctypes.c_uint32 * 6),  # none, and flags
        ("name", ctypes.c_char * 16),
        ("interface", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("debug", ctypes.c_uint32 * 9),  # none
        ("attach_btf_id", ctypes.c_uint32),
        ("attach_program", ctypes.c_uint32),
    )


class _RawTracepoint(ctypes.Structure):
    """``union bpf_attr`` for ``BPF_RAW_TRACEPOINT_OPEN``, which attaches tracing programs too."""

    _fields_ = (("name", ctypes.c_char_p), ("program", ctypes.c_uint32), ("pad", ctypes.c_uint32))


def attach_pair(link: int, instructions: bytes, returns: bool = False) -> tuple[int, int]:
    """Load a second fentry or fexit program and attach it to the function that another is attached to.

    :param link: of the first one.
    :param returns: both are fexit programs.

    :returns: descriptors of the second program and of its link.
    :raises OSError: the kernel refused, or does not say which function that is (bpf_tracing_link_show_fdinfo, 5.13).
    """
    info = read_text(Path(f"/proc/self/fdinfo/{link}")) or ""
    function = info.partition("target_btf_id:")[2].split()
    if not function:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    program = _bpf(
        _BPF_PROG_LOAD,
        _Program(
            type=_BPF_PROG_TYPE_TRACING,
            instructions_count=len(instructions) // 8,
            instructions=instructions,
            license=b"GPL",
            name=b"mmwatch_pair",
            attach_type=_BPF_TRACE_FEXIT if returns else _BPF_TRACE_FENTRY,
            attach_btf_id=int(function[0]),
        ),
    )
    return program, _bpf(_BPF_RAW_TRACEPOINT_OPEN, _RawTracepoint(program=program))
