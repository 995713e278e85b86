"""A new PID namespace with a load and mmwatch in it; mmwatch filters by inner PID and by cgroup.

Oracle: of the load's two processes, mmwatch shows only the one it was asked for, under the PID that fork returned in
the namespace; and an observer outside counts the same pages.
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

HERE = Path(__file__).resolve().parent
TOP = [sys.executable, "-m", "mmwatch", "top", "--json", "--by", "thread", "-i", "3"]
"""Few readings, since they are expensive where one thread of an emulator runs all CPUs."""
SUMMED = ("reclaims", "asked_pages", "reported_pages", "reclaimed_pages", "scanned_pages")


def lines(out: Path, process: subprocess.Popen[bytes], at_least: int) -> list[str]:
    """The lines top has printed; waits until there are ``at_least`` this many."""
    while True:
        # Reopened each time: a shared file offset would move where top writes.
        found = [line for line in out.read_text().splitlines(keepends=True) if line.endswith("\n")]
        if len(found) >= at_least:
            return found
        if process.poll() is not None:
            sys.exit(f"top ended with {process.returncode}")
        time.sleep(0.5)


def main() -> None:
    if "--inside" not in sys.argv:
        inside = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        os.execvp(inside[0], [*inside, sys.executable, __file__, "--inside"])
    # top is to end by SIGINT, but unshare on Debian 11 makes its child ignore it, as shells do with background jobs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
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
    with tempfile.NamedTemporaryFile("w") as file:
        out = Path(file.name)
        filters = ["-p", str(about["pids"][1]), "-c", about["cgroup"]]
        top = subprocess.Popen([*TOP, *filters], stdout=file)
        lines(out, top, 1)
        load.communicate("\n")
        seen = lines(out, top, len(lines(out, top, 1)) + 2)  # the second one began after the load
        top.send_signal(signal.SIGINT)
        top.wait()
    if load.returncode:
        sys.exit("the load failed")
    intervals = [json.loads(line) for line in seen]
    rows = [row for interval in intervals for row in interval["rows"]]
    sums = {
        tgid: {name: sum(row[name] for row in rows if row["tgid"] == tgid) for name in SUMMED}
        for tgid in {row["tgid"] for row in rows}
    }
    comparable = any(interval["accounting"]["comparable"] for interval in intervals)
    print(json.dumps({**about, "sums": sums, "comparable": comparable}))


if __name__ == "__main__":
    main()
