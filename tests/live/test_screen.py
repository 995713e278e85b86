"""The full-screen display in a terminal: however it ends, it restores the terminal and leaves nothing attached."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import ENDLESS, ENVIRONMENT, START_S, Gated

ALTERNATE, NORMAL = b"\x1b[?1049h", b"\x1b[?1049l"


def _take_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has its children ignore it
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Screen:
    """The command in a pseudo-terminal, in its own session."""

    def __init__(
        self, folder: Path, *words: str, environment: dict[str, str] | None = None, size: tuple[int, int] = (24, 80)
    ) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self.slave)
        self.written = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mmwatch", *(words or ("top",))],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            cwd=folder,
            start_new_session=True,
            preexec_fn=_take_terminal,
            env={
                **ENVIRONMENT,
                "TERM": "xterm-256color",
                "LC_ALL": "C.UTF-8",
                "XDG_CONFIG_HOME": str(folder),
                **(environment or {}),
            },
        )

    def read(self, seconds: float = 0.05) -> None:
        """Collect what it writes."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.master], [], [], left)[0]:
                try:
                    self.written += os.read(self.master, 1 << 16)
                except OSError:
                    return

    def wait_for(self, text: bytes, timeout_s: float = START_S) -> None:
        """Wait until it has written this."""
        end = time.monotonic() + timeout_s
        while text not in self.written:
            assert self.process.poll() is None, self.written[-2000:]
            assert time.monotonic() < end, self.written[-2000:]
            self.read()

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def end(self, timeout_s: float = 20) -> int:
        """Wait until it exits; return its exit status."""
        end = time.monotonic() + timeout_s
        while self.process.poll() is None:
            assert time.monotonic() < end, "it does not end"
            self.read()
        self.read(0.2)
        return self.process.returncode

    def is_restored(self) -> bool:
        """Whether the terminal has its settings, normal screen, cursor and mouse back."""
        return (
            termios.tcgetattr(self.slave) == self.before
            and self.written.count(ALTERNATE) == self.written.count(NORMAL) >= 1
            and self.written.rfind(b"\x1b[?25h") > self.written.rfind(b"\x1b[?25l")
            and self.written.rfind(b"\x1b[?1000l") > self.written.rfind(b"\x1b[?1000h")
        )

    def close(self) -> None:
        """Clean up, however it ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for fd in (self.master, self.slave):
            with contextlib.suppress(OSError):
                os.close(fd)


def left_of(sessions: set[int]) -> list[int]:
    """Processes left in these sessions. Probes go away with the last process that holds them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            if int((process / "stat").read_text().rpartition(")")[2].split()[3]) in sessions:
                found.append(int(process.name))
    return found


@pytest.fixture
def screens(tmp_path: Path) -> Iterator[list[Screen]]:
    made: list[Screen] = []
    yield made
    for screen in made:
        screen.close()
    assert left_of({screen.process.pid for screen in made}) == []


def started(screens: list[Screen], folder: Path, *words: str, **more: Any) -> Screen:
    screen = Screen(folder, *words, **more)
    screens.append(screen)
    screen.wait_for(b"accounted")
    return screen


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_a_key_ends_it(screens: list[Screen], tmp_path: Path, key: bytes) -> None:
    """Oracle: exit status and terminal settings."""
    screen = started(screens, tmp_path)
    assert termios.tcgetattr(screen.slave) != screen.before
    screen.press(key)
    assert screen.end() == 0
    assert screen.is_restored()
    assert b"Traceback" not in screen.written


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("when", ["compiling", "shown"])
def test_a_signal_ends_it(screens: list[Screen], tmp_path: Path, how: signal.Signals, when: str) -> None:
    """Oracle: exit status and terminal settings, while compiling and while shown."""
    screen = Screen(tmp_path)
    screens.append(screen)
    screen.wait_for(b"compiling" if when == "compiling" else b"accounted")
    screen.process.send_signal(how)
    assert screen.end() == 0, screen.written[-2000:]
    assert screen.is_restored()
    assert b"Traceback" not in screen.written


def test_a_terminal_that_is_closed_ends_it(screens: list[Screen], tmp_path: Path) -> None:
    """Oracle: the process exits with the status of an orderly end."""
    screen = started(screens, tmp_path)
    os.close(screen.slave)
    os.close(screen.master)
    assert screen.process.wait(20) == 0


@pytest.mark.parametrize(
    "noise",
    [
        b"\x1b[48;24;80;0;0t\x1b[<0;5;5M",  # a size in 0 pixels, then a click
        b"\x1b[48;0;0;0;0t\x1b[<0;5;5M",
        b"\x1b[48;99999;99999;1;1t",
        b"\x1b[:;P",
        b"\x1b[48;" + b"9" * 5000 + b";1;1;1t",
        *(b"\xe9", b"\xe9 8", b"\xff\xfe", b"\xed\xa0\x80", b"\xc3", b"\x80" * 5000),  # not UTF-8
    ],
)
def test_input_that_makes_no_sense_is_ignored(screens: list[Screen], tmp_path: Path, noise: bytes) -> None:
    """Oracle: the key after them still works."""
    screen = started(screens, tmp_path)
    screen.press(noise)
    screen.press(b"T")
    screen.wait_for(b"theme terminal-light")
    screen.press(b"q")
    assert screen.end() == 0
    assert screen.is_restored()


@pytest.mark.parametrize(
    ("size", "environment"), [((65535, 65535), {}), ((24, 80), {"COLUMNS": "1000000000", "LINES": "1000000000"})]
)
def test_a_terminal_of_no_bounds(
    screens: list[Screen], tmp_path: Path, size: tuple[int, int], environment: dict[str, str]
) -> None:
    """Oracle: it is drawn, and memory stays bounded."""
    screen = started(screens, tmp_path, "top", "-i", "60", size=size, environment=environment)
    status = Path(f"/proc/{screen.process.pid}/status").read_text()
    assert int(status[status.index("VmHWM") :].split()[1]) < 400 << 10
    screen.press(b"q")
    assert screen.end() == 0
    assert screen.is_restored()


@pytest.mark.parametrize("size", [(0, 80), (0, 0), (24, 0)])
def test_a_terminal_without_size(screens: list[Screen], tmp_path: Path, size: tuple[int, int]) -> None:
    """Oracle: it is drawn, it rests between two intervals, and a later size is taken."""
    screen = started(screens, tmp_path, "top", "-i", "60", size=size)
    screen.read(1)
    before = len(screen.written)
    screen.read(1)
    assert len(screen.written) - before < 20_000
    screen.resize(40, 130)
    screen.press(b"?")
    screen.wait_for(b"\x1b[40;1H")
    screen.resize(*size)
    screen.press(b"q")
    assert screen.end() == 0
    assert screen.is_restored()


def test_a_terminal_that_takes_nothing_holds_up_nothing(screens: list[Screen], tmp_path: Path) -> None:
    """Oracle: the recording goes on and ends properly."""
    with Gated(*ENDLESS) as load:
        load.go()
        screen = started(screens, tmp_path, "top", "-i", "0.1")
        screen.press(b"r")
        screen.wait_for(b"REC")
        for _ in range(400):  # far more output than a terminal buffers, and nobody reads it
            screen.press(b"\t")
            time.sleep(0.005)
        time.sleep(1)
        screen.process.send_signal(signal.SIGTERM)
        assert screen.process.wait(20) == 0
    (path,) = tmp_path.glob("*.mmw")
    done = subprocess.run(
        [sys.executable, "-m", "mmwatch", "report", path], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "cut off" not in done.stderr
    found = re.search(r"for (\d+\.\d+)s", done.stdout)
    assert found
    assert float(found[1]) > 2


def test_two_at_once(screens: list[Screen], tmp_path: Path) -> None:
    """Oracle: both show the load, and both end."""
    with Gated(*ENDLESS) as load:
        load.go()
        pair = [started(screens, tmp_path), started(screens, tmp_path)]
        for screen in pair:
            screen.wait_for(b"mmw-stream")
            screen.press(b"q")
        assert [screen.end() for screen in pair] == [0, 0]
        assert all(screen.is_restored() for screen in pair)


def test_an_error_is_told_on_the_terminal_as_it_was(screens: list[Screen], tmp_path: Path) -> None:
    """A bcc that cannot be imported. Oracle: the exit status in the manual, one message, no traceback."""
    (tmp_path / "bcc.py").write_text("raise ImportError('not today')\n")
    screen = Screen(tmp_path, environment={"PYTHONPATH": f"{tmp_path}:{ENVIRONMENT['PYTHONPATH']}"})
    screens.append(screen)
    assert screen.end() == 69
    assert screen.is_restored()
    message = screen.written[screen.written.rfind(NORMAL) :]
    assert b"mmwatch: bcc cannot be imported" in message
    assert b"Traceback" not in screen.written


def test_what_a_dumb_terminal_gets(screens: list[Screen], tmp_path: Path) -> None:
    """Oracle: no escape sequence at all."""
    screen = Screen(tmp_path, "top", "-n", "1", environment={"TERM": "dumb"})
    screens.append(screen)
    assert screen.end() == 0
    assert b"accounted" in screen.written
    assert b"\x1b" not in screen.written


def test_the_account_is_that_of_the_load(screens: list[Screen], tmp_path: Path) -> None:
    """Oracle: the PIDs of the load."""
    with Gated(*ENDLESS) as load:
        load.go()
        screen = started(screens, tmp_path, "top", "-i", "0.2")
        for pid in load.pids:
            screen.wait_for(str(pid).encode())
        screen.press(b"\r")  # Enter: details of the worst task
        screen.wait_for(b"PRIORITY", 5)
        screen.press(b"q")
        assert screen.end() == 0
