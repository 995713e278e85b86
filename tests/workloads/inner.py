"""A PID namespace of its own: a load in it, and mmwatch beside the load, which filters by inner PID and by cgroup.

Oracle: the PIDs the load got from fork in there; and what both observers, and whoever looks from outside, count of the
same processes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TOP = [sys.executable, "-m", "mmwatch", "top", "--json", "--by", "thread", "-i", "3"]
"""Few readings: they are dear where all CPUs are one thread of an emulator."""
SUMMED = ("reclaims", "asked_pages", "reported_pages", "reclaimed_pages", "scanned_pages")


class Top:
    """An observer that counts; its first interval is over."""

    def __init__(self, *words: str) -> None:
        self._out = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen([*TOP, *words], stdout=self._out)
        self._wait_for(1)

    def _lines(self) -> list[str]:
        self._out.seek(0)
        return [line for line in self._out if line.endswith("\n")]

    def _wait_for(self, lines: int) -> None:
        while self.seen() < lines:
            if self._process.poll() is not None:
                sys.exit(f"top ended with {self._process.returncode}")
            time.sleep(0.5)

    def seen(self) -> int:
        """Intervals that are over."""
        return len(self._lines())

    def finish(self, intervals: int) -> dict[str, Any]:
        """What it saw of each process, in so many intervals at least."""
        self._wait_for(intervals)
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
        seen = [json.loads(line) for line in self._lines()]
        rows = [row for line in seen for row in line["rows"]]
        sums = {
            tgid: {name: sum(row[name] for row in rows if row["tgid"] == tgid) for name in SUMMED}
            for tgid in {row["tgid"] for row in rows}
        }
        return {"sums": sums, "comparable": any(line["accounting"]["comparable"] for line in seen)}


def main() -> None:
    if "--inside" not in sys.argv:
        inside = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        os.execvp(inside[0], [*inside, sys.executable, __file__, "--inside"])
    os.environ["PYTHONPATH"] = str(HERE.parents[1])
    load = subprocess.Popen(
        [sys.executable, str(HERE / "stream.py"), "--mib", "150"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "MMWATCH_TEST_GATE": "1"},
    )
    assert load.stdout is not None
    about = json.loads(load.stdout.readline())
    observers = {"by_pid": Top("-p", str(about["pids"][1])), "by_cgroup": Top("-c", about["cgroup"])}
    load.communicate("\n")
    enough = {name: observer.seen() + 2 for name, observer in observers.items()}  # the second began after the load
    seen = {name: observer.finish(enough[name]) for name, observer in observers.items()}
    if load.returncode:
        sys.exit("the load failed")
    print(json.dumps({**about, **seen}))


if __name__ == "__main__":
    main()
