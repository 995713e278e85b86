"""Names of the kernel's functions, by their addresses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from mmwatch.units import clean

HEAD_BYTES = 1 << 16
"""The first symbols may be offsets of per-CPU variables, and the first of these are 0."""


class Symbols:
    """/proc/kallsyms, which takes 100 ms to read: it is read only when an address is new.

    :ivar available: whether it tells addresses.
    :ivar reason: why not.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._path = root / "proc/kallsyms"
        self._names = {0: ""}
        self.reason = ""
        try:
            with self._path.open("rb") as file:
                if not any(line[:16].strip(b"0") for line in file.readlines(HEAD_BYTES)):
                    self.reason = "hides addresses: kernel.kptr_restrict, or no CAP_SYSLOG"
        except OSError as error:
            self.reason = f"cannot be read: {error.strerror}"
        self.available = not self.reason

    def names(self, addresses: Iterable[int]) -> list[str]:
        """The name of each, ``i915_gem_shrinker_scan [i915]`` with its module; empty if it is unknown."""
        wanted = list(addresses)
        new = {b"%016x" % address: address for address in wanted if address not in self._names}
        self._names.update(dict.fromkeys(new.values(), ""))
        if new and self.available:
            with contextlib.suppress(OSError), self._path.open("rb") as file:
                for line in file:
                    if line[:16] in new:  # ffffffffc0de0000 t i915_gem_shrinker_scan\t[i915]
                        name = b" ".join(line.split()[2:]).decode("utf-8", "replace")
                        self._names[new.pop(line[:16])] = clean(name)
        return [self._names[address] for address in wanted]
