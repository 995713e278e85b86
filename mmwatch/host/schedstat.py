"""CPU time of a thread so far."""

from __future__ import annotations

import os

_FIRST = 64


def runtime_ns(tgid: int, tid: int) -> int | None:
    """Nanoseconds on a CPU, up to now: ``sum_exec_runtime`` brought up to date (kernel: fs/proc/base.c,
    proc_pid_schedstat).

    None if the thread has ended, may not be read, or the kernel does not count it (CONFIG_SCHED_INFO).
    """
    try:
        file = os.open(f"/proc/{tgid}/task/{tid}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        word = os.read(file, _FIRST).split(b" ", 1)[0]
    except OSError:
        return None
    finally:
        os.close(file)
    return int(word) if word.isdigit() else None
