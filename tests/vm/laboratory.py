"""Guests for a whole test session. Each kernel boots once, as soon as there is room, and its results are shared."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kernels import MissingError
from lab import KERNELS, Case, Kernel, Provocation
from runner import Results, boot, collect

GUESTS = int(os.environ.get("MMWATCH_VM_GUESTS", "2"))
"""How many run at a time. Two suit two cores: most of the time, a guest uses only one of its two CPUs."""


class Laboratory:
    """Boots the guests that the cases need; :meth:`result` waits for them."""

    def __init__(
        self, cases: Iterable[Case], recorded: Iterable[tuple[Kernel, str]], provoked: Iterable[tuple[str, Provocation]]
    ) -> None:
        self._pool = ThreadPoolExecutor(GUESTS)
        self._record = frozenset(recorded)
        of_kernel: dict[Kernel, list[Case]] = {}
        for case in cases:
            of_kernel.setdefault(case.kernel, []).append(case)
        self._provoked = frozenset(provoked)
        also = {kernel.name for kernel, _ in self._record} | {name for name, _ in self._provoked}
        for kernel in KERNELS:
            if kernel.name in also:
                of_kernel.setdefault(kernel, [])
        self._guests: dict[Kernel, Future[Results]] = {
            kernel: self._pool.submit(self._boot, kernel, cases) for kernel, cases in of_kernel.items()
        }

    def _boot(self, kernel: Kernel, cases: list[Case]) -> Results:
        if "MMWATCH_VM_RESULTS" in os.environ:
            left = sorted(
                Path(os.environ["MMWATCH_VM_RESULTS"]).glob(f"{kernel.name}-*"), key=lambda p: p.stat().st_mtime
            )
            return collect(left[-1])
        record = {lru for recorded, lru in self._record if recorded == kernel}
        provocations = [provocation for name, provocation in self._provoked if name == kernel.name]
        return boot(kernel, cases, record=record, provocations=provocations)

    def _results(self, kernel: Kernel) -> Results:
        try:
            return self._guests[kernel].result()
        except MissingError as error:
            pytest.fail(str(error), pytrace=False)

    def _named(self, kernel: Kernel, name: str) -> dict[str, Any]:
        results = self._results(kernel)
        if name not in results.cases:
            pytest.fail(f"the guest left no {name}: {results.problem}", pytrace=False)
        return results.cases[name]

    def result(self, case: Case) -> dict[str, Any]:
        """The result that the guest left for a case; waits for the guest."""
        return self._named(case.kernel, case.result)

    def recorded(self, kernel: Kernel, lru: str) -> dict[str, Any]:
        """The results of ``record`` and ``report``."""
        return self._named(kernel, f"{lru}-record")

    def provoked(self, kernel: str, provocation: Provocation) -> dict[str, Any]:
        """What the commands printed with an obstacle in their way."""
        return self._named(next(found for found in KERNELS if found.name == kernel), f"provoked-{provocation.name}")

    def times(self) -> list[str]:
        """One line per kernel: how long each part took."""
        lines = []
        for kernel, guest in self._guests.items():
            if guest.done() and guest.exception() is None and (done := guest.result().done):
                parts = ", ".join(f"{name} {seconds:g}" for name, seconds in done["times"].items())
                lines.append(f"{kernel.name} ({done['release']}): {guest.result().seconds:.0f} s: {parts}")
        return lines

    def close(self) -> None:
        """Wait for running guests. Those still waiting for room are not booted."""
        self._pool.shutdown(wait=True, cancel_futures=True)
