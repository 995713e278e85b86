"""The kernel's log: who dropped the caches, and whom the OOM killer ended. No tracepoint names the former."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mmwatch.host._files import ROOT
from mmwatch.units import clean

RECORDS_MAX = 256
"""Read at most so many at a time: a log that overflows must not keep mmwatch from its readings."""
_RECORD_BYTES = 8192
_WANTED = re.compile(r"\(\d+\): drop_caches: \d+$|^(Memory cgroup out of memory|Out of memory).*: Killed process \d+")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


class KernelLog:
    """What is written to the log from now on. Needs root, or kernel.dmesg_restrict=0; else there is nothing."""

    def __init__(self, root: Path = ROOT) -> None:
        self._fd = -1
        try:
            self._fd = os.open(root / "dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._fd, 0, os.SEEK_END)
        except OSError:
            self.close()

    def read(self) -> tuple[str, ...]:
        """The lines since the last call that tell about caches dropped or processes killed, clean."""
        found = []
        for _ in range(RECORDS_MAX if self._fd >= 0 else 0):
            try:
                record = os.read(self._fd, _RECORD_BYTES)
            except BrokenPipeError:  # some records were overwritten before they were read
                continue
            except OSError:
                break
            if not record:
                break
            text = message(record)
            if _WANTED.search(text):
                found.append(text)
        return tuple(found)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def message(record: bytes) -> str:
    """The text of a record, clean (kernel: Documentation/ABI/testing/dev-kmsg)."""
    line = record.partition(b";")[2].split(b"\n", 1)[0].decode("utf-8", "surrogateescape")
    return clean(_ESCAPED.sub(lambda match: chr(int(match[1], 16)), line))
