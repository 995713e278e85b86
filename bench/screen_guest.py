"""The full-screen display with made-up tasks, for ``bench.screen``: draws many times, then reports the cost.

``python -m bench.screen_guest TASKS REFRESHES FILE``
"""

from __future__ import annotations

import gc
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmwatch.cli.screen import run
from mmwatch.display.screen import app as app_module
from mmwatch.display.screen.app import ScreenApp
from mmwatch.display.screen.feed import Services
from mmwatch.display.screen.layout import Layout
from mmwatch.display.screen.state import State
from mmwatch.model.interval import Interval, Node, Process, Session
from mmwatch.model.rows import ROW_DTYPE

DIFFERENT = 4
"""Number of intervals that take turns. Each has different figures for each task."""
SEEN = 60
"""Tasks on the screen: always the same ones, however many there are in all."""
SETTLED = 200
"""Refreshes before memory is first read. By then everything that is kept has its full size, except the rates."""


def intervals(tasks: int) -> list[Interval]:
    """Made-up intervals with one row per task."""
    random = np.random.default_rng(1)
    made = []
    tgids = np.arange(1000, 1000 + tasks)
    processes = {tgid: Process(tgid, f"task{tgid}", f"/usr/bin/task --number {tgid}", 1) for tgid in tgids.tolist()}
    for _ in range(DIFFERENT):
        rows = np.zeros(tasks, ROW_DTYPE)
        rows["tgid"] = rows["tid"] = rows["start_ns"] = tgids
        rows["path"], rows["cgroup_id"] = 2, tgids % 100
        rows["comm"] = [b"task%d" % tgid for tgid in tgids.tolist()]
        for name, most in (("reclaims", 1000), ("scanned_file_pages", 10**6), ("reclaimed_file_pages", 10**5)):
            rows[name] = random.integers(1, most, tasks)
        rows["asked_pages"] = rows["reported_pages"] = rows["reclaims"] * 32
        rows["stall_ns"], rows["stall_max_ns"] = random.integers(1, 10**9, (2, tasks))
        rows["stall_ns"][SEEN:] //= 1000  # keeps the rest below the screen, where it costs the terminal nothing
        rows["priority_histogram"][:, 12] = rows["stall_histogram"][:, 40] = rows["reclaims"]
        vmstat = {
            "pgsteal_anon": 0,
            "pgscan_anon": 0,
            "pgsteal_file": int(rows["reclaimed_file_pages"].sum()),
            "pgscan_file": int(rows["scanned_file_pages"].sum()),
        }
        nodes = (Node(0, 50_000, 10_000, 12_000, 14_000, 10**6, 10**5, 10**5),)
        cgroups = {number: f"/slice/group{number}" for number in range(100)}
        made.append(Interval(0.0, 10**9, rows, vmstat, nodes=nodes, processes=processes, cgroups=cgroups))
    return made


class Feed:
    """Gives a new interval every second time, so that each is drawn before the next one comes."""

    problem = None

    def __init__(self, tasks: int, refreshes: int) -> None:
        self.session = Session(time.time(), "6.0", "bench")
        self.left, self.number, self.gave = refreshes, 0, False
        self._made = intervals(tasks)

    @property
    def ended(self) -> bool:
        """True after the last refresh."""
        return not self.left

    def take(self) -> Interval | None:
        """The next interval, or None every second time."""
        self.gave = not self.gave and self.left > 0
        if not self.gave:
            return None
        self.left -= 1
        self.number += 1
        return replace(self._made[self.number % DIFFERENT], end_s=self.session.start_s + self.number)

    def set_interval_s(self, seconds: float) -> None:
        """Ignored: there is no interval to set."""


def resident_mib() -> float:
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


def main() -> None:
    """Draw, then write the result."""
    tasks, refreshes, result = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    app_module.POLL_S = 0.02  # Textual paints at most 60 times a second, and each refresh must be painted
    feed = Feed(tasks, refreshes)
    app = ScreenApp(State(feed, Layout(), Services()))
    parts: dict[str, list[float]] = {"take_s": [], "rebuild_s": []}
    resident, began = [], [0.0]
    take, rebuild = app.state.take, app.main.rebuild

    def timed_take() -> bool:
        now_s = time.process_time()
        taken = take()
        if taken:
            parts["take_s"].append(time.process_time() - now_s)
            if feed.number == SETTLED:
                gc.collect()
                resident.append(resident_mib())
                began[0] = time.process_time()
        return taken

    def timed_rebuild() -> None:
        now_s = time.process_time()
        rebuild()
        parts["rebuild_s"].append(time.process_time() - now_s)

    app.state.take, app.main.rebuild = timed_take, timed_rebuild  # type: ignore[method-assign]
    run(app)
    if app.failure is not None:
        raise app.failure
    cpu_s = (time.process_time() - began[0]) / (refreshes - SETTLED)
    gc.collect()
    resident.append(resident_mib())
    medians = {name: float(np.median(values)) for name, values in parts.items()}
    written = result.with_suffix(".part")
    written.write_text(json.dumps({"refreshes": refreshes, "cpu_s": cpu_s, "resident_mib": resident, **medians}))
    written.rename(result)


if __name__ == "__main__":
    main()
