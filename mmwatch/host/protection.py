"""Keeps mmwatch alive on a host that is short of memory: locks its pages and exempts it from the OOM killer."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
"""include/uapi/asm-generic/mman.h; with ONFAULT (4.4), untouched pages take no memory."""
_CAP_IPC_LOCK = 14
_OOM_SCORE_ADJ_MIN = -1000


def protect() -> list[str]:
    """Do both for the life of this process. Processes that it starts later inherit only the second.

    :returns: one line for each thing that was refused.
    """
    refused = []
    problem = _lock()
    if problem:
        refused.append(f"mmwatch's memory is not locked and may be reclaimed: {problem}")
    try:
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE_ADJ_MIN))
    except OSError as error:
        refused.append(f"not exempt from the OOM killer: {error.strerror}")
    return refused


def _lock() -> str:
    """Lock this process's memory; returns why it could not, or an empty string."""
    if not _may_lock():  # with a limit, later allocations beyond it would fail
        return "locking memory without limit needs CAP_IPC_LOCK"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
        return os.strerror(ctypes.get_errno())
    return ""


def _may_lock() -> bool:
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        return True
    status = Path("/proc/self/status").read_bytes()
    effective = next((line.split()[1] for line in status.split(b"\n") if line.startswith(b"CapEff:")), b"0")
    return bool(int(effective, 16) >> _CAP_IPC_LOCK & 1)
