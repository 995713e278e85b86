"""A PID namespace of its own: a load in it, and mmwatch beside the load, which filters by inner PID and by cgroup.

Oracle: of the two processes of the load only the one that was asked for is seen, under the PID it got from fork in
there; and whoever looks from outside counts the same pages.
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
"""Few readings: they are dear where all CPUs are one thread of an emulator."""
SUMMED = ("reclaims", "asked_pages", "reported_pages", "reclaimed_pages", "scanned_pages")


def lines(out: Path, process: subprocess.Popen[bytes], at_least: int) -> list[str]:
    """What it has printed; waits until that is so much."""
    while True:
        # Opened anew: an offset shared with who writes would be moved below it.
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
    # The unshare of Debian 11 has what it starts ignore SIGINT, by which top is to end; so do shells, with jobs.
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
        seen = lines(out, top, len(lines(out, top, 1)) + 2)  # the second began after the load
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
