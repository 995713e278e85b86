"""The full-screen ``mmwatch top`` beside top, htop and bpftrace in a terminal of the same size, and with made-up tasks.

First with 60 tasks that reclaim: seconds from the command to the first byte and to the first figures, then CPU (user
plus system, of one CPU), memory, and bytes written to the terminal. Rivals that are not installed or show nothing are
reported as such. Then the same screen with 60 and with 10,000 made-up tasks from ``bench.screen_guest``, whose figures
all change: CPU time per refresh, from the new interval to the bytes for the terminal, and resident memory after the
first refreshes and at the end.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from dataclasses import dataclass
from pathlib import Path

from bench.cost import cpu_ticks
from bench.overhead import BPFTRACE, WITH_TRACEFS

SIZE = (80, 120)  # lines, columns: room for all 60 tasks
TASKS = 60
START_S = 20.0
SETTLE_S = 3.0
OPEN_S = 12.0
REFRESHES = {60: 1200, 10_000: 400}
LOAD_S = START_S + SETTLE_S + OPEN_S + 5


@dataclass
class Terminal:
    """A process in a pseudo-terminal that accepts everything written to it.

    :param first_s: from the start to the first byte.
    """

    command: list[str]
    written: int = 0
    first_s: float = 0.0

    def __post_init__(self) -> None:
        self.began_s = time.monotonic()
        self.pid, self.fd = pty.fork()
        if not self.pid:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))
            os.environ.update(TERM="xterm-256color", COLORTERM="", LANG="C.UTF-8")
            try:
                os.execvp(self.command[0], self.command)
            finally:
                os._exit(127)

    def read(self, until_s: float, wanted: bytes = b"") -> float | None:
        """Read until ``until_s`` or ``wanted``: seconds from the start to ``wanted``, None if it did not come."""
        tail = b""
        while (left := until_s - time.monotonic()) > 0:
            if not select.select([self.fd], [], [], left)[0]:
                continue
            try:
                got = os.read(self.fd, 65536)
            except OSError:  # closed
                break
            seconds = time.monotonic() - self.began_s
            self.first_s = self.first_s or seconds
            self.written += len(got)
            tail = (tail + got)[-70_000:]
            if wanted and wanted in tail:
                return seconds
        return None

    def resident_mib(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def end(self) -> None:
        """Interrupt the process and wait until it is gone."""
        os.kill(self.pid, signal.SIGINT)
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                self.read(time.monotonic() + 0.1)
                if os.waitpid(self.pid, os.WNOHANG)[0]:
                    os.close(self.fd)
                    return
            os.kill(self.pid, number)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


def on_the_load(command: list[str], figures: bytes) -> str:
    """The cells of a row in the first table."""
    load = ["--processes", str(TASKS), "--chunk-kib", "512", "--pause-s", "0.05", "--seconds", str(LOAD_S)]
    with subprocess.Popen([sys.executable, "-m", "bench.load", *load]) as loading:
        try:
            time.sleep(1.5)
            terminal = Terminal(command)
            try:
                figures_s = terminal.read(terminal.began_s + START_S, figures)
                if figures_s is None:
                    return f"no figures within {START_S:.0f} s | | | | "
                terminal.read(time.monotonic() + SETTLE_S)
                ticks, written, began_s = cpu_ticks(terminal.pid), terminal.written, time.monotonic()
                terminal.read(began_s + OPEN_S)
                seconds = time.monotonic() - began_s
                share = (cpu_ticks(terminal.pid) - ticks) / os.sysconf("SC_CLK_TCK") / seconds
                rate = (terminal.written - written) / seconds
                times = f"{terminal.first_s:.2f} | {figures_s:.2f}"
                return f"{times} | {share:.2%} | {terminal.resident_mib():.0f} MiB | {rate:.0f}"
            finally:
                terminal.end()
        finally:
            loading.wait()  # it removes its cgroup itself


def rivals() -> dict[str, tuple[list[str], bytes]]:
    """By name: the command, and a text that its first figures contain."""
    mmwatch = [sys.executable, "-m", "mmwatch", "top", "-i", "1"]
    each_second = f"{BPFTRACE} interval:s:1 {{ print(@ns); print(@pages); print(@scanned); print(@priority); }}"
    return {
        "mmwatch top": (mmwatch, b"memcg"),
        "mmwatch top --plain": ([*mmwatch, "--plain"], b"memcg"),
        "top -d 1": (["top", "-d", "1"], b"PID"),
        "htop -d 10": (["htop", "-d", "10"], b"PID"),
        "bpftrace, the same figures each second": ([*WITH_TRACEFS, "bpftrace", "-e", each_second], b"@"),
    }


def made_up(tasks: int) -> str:
    """The cells of a row in the second table."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        guest = [sys.executable, "-m", "bench.screen_guest", str(tasks), str(REFRESHES[tasks]), str(result)]
        terminal = Terminal(guest)
        while not result.exists() and not os.waitpid(terminal.pid, os.WNOHANG)[0]:
            terminal.read(time.monotonic() + 0.1)
        os.close(terminal.fd)
        found = json.loads(result.read_text())
    per_refresh = terminal.written / found["refreshes"]
    memory = " to ".join(f"{mib:.1f}" for mib in found["resident_mib"])
    milliseconds = " | ".join(f"{1e3 * found[name]:.1f}" for name in ("cpu_s", "take_s", "rebuild_s"))
    return f"{found['refreshes']} | {milliseconds} | {per_refresh:.0f} | {memory}"


def main() -> None:
    """Print the tables."""
    print(
        f"| in {SIZE[0]} x {SIZE[1]} | first byte, s | first figures, s "
        "| of one CPU | resident | bytes/s to the terminal |"
    )
    print("|---|---|---|---|---|---|")
    for name, (command, figures) in rivals().items():
        program = "bpftrace" if "bpftrace" in command else command[0]
        cells = on_the_load(command, figures) if shutil.which(program) else "not installed | | | | "
        print(f"| `{name}` | {cells} |", flush=True)
    print()
    print("| tasks | refreshes | CPU of a refresh, ms | taking in | arranging | bytes | resident, MiB |")
    print("|---|---|---|---|---|---|---|")
    for tasks in REFRESHES:
        print(f"| {tasks} | {made_up(tasks)} |", flush=True)


if __name__ == "__main__":
    main()
