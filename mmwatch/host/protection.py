"""Staying alive on a host that is short of memory: pages locked, and the last to be killed."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
"""include/uapi/asm-generic/mman.h; ONFAULT: what was never touched takes no memory (4.4)."""
_CAP_IPC_LOCK = 14
_OOM_SCORE_ADJ_MIN = -1000


def protect() -> list[str]:
    """Do both for this process; it ends with it. Processes that it starts afterwards inherit the second.

    :returns: what was refused, a line each.
    """
    refused = []
    problem = _lock()
    if problem:
        refused.append(f"its memory is not locked and may be reclaimed, too: {problem}")
    try:
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE_ADJ_MIN))
    except OSError as error:
        refused.append(f"the OOM killer may choose it: {error.strerror}")
    return refused


def _lock() -> str:
    """Why it could not be done; empty when it was."""
    if not _may_lock():  # with a limit, all later allocations beyond it would fail
        return "it may not lock memory without limit (CAP_IPC_LOCK)"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
        return os.strerror(ctypes.get_errno())
    return ""


def _may_lock() -> bool:
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        return True
    status = Path("/proc/self/status").read_text()
    effective = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> _CAP_IPC_LOCK & 1)
