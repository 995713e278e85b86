"""Standard streams that are closed, full or of another character set, and signals at any moment."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import ENVIRONMENT, Mmwatch

MMWATCH = (sys.executable, "-m", "mmwatch")
CLOSED = [which for number in (1, 2, 3) for which in itertools.combinations((0, 1, 2), number)]


def run(script: str, *words: object, timeout: float = 60) -> subprocess.CompletedProcess[bytes]:
    """Run mmwatch by a shell: ``script`` is what stands behind it, such as redirections."""
    line = f'"$@" {script}'
    return subprocess.run(
        ["bash", "-c", line, "bash", *MMWATCH, *map(str, words)],
        env=ENVIRONMENT,
        capture_output=True,
        timeout=timeout,
        check=False,
    )


def complete(path: Path) -> bool:
    """Whether a recording was closed properly and has an interval."""
    with sqlite3.connect(path) as database:
        ended, count = database.execute("SELECT end_s, (SELECT count(*) FROM intervals) FROM session").fetchone()
    database.close()
    return ended is not None and count > 0


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streams") / "a.mmw"
    assert run("", "record", "-d", "0.3", "-i", "0.1", "-o", path).returncode == 0
    return path


@pytest.mark.parametrize("which", CLOSED, ids=str)
def test_closed(tmp_path: Path, recording: Path, which: tuple[int, ...]) -> None:
    """Oracle: the exit status, the recording, and that no message is on stdout."""
    closed = " ".join(f"{number}{'<' if number == 0 else '>'}&-" for number in which)
    path = tmp_path / "b.mmw"
    done = run(closed, "record", "-d", "0.3", "-i", "0.1", "-o", path)
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    assert complete(path)
    for words in (["report", recording], ["top", "-b", "-n", 1, "-i", "0.1"]):
        done = run(closed, *words)
        assert done.returncode == 0, done.stderr
        assert b"mmwatch:" not in done.stdout
        assert bool(done.stdout) is (1 not in which)
    done = run(closed, "report", "/no/such/file")
    assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["report"], ["top", "-b", "-n", 1], ["doctor"]], ids=str)
def test_a_full_output(recording: Path, words: list[str]) -> None:
    """Oracle: the kernel's message for /dev/full."""
    done = run(">/dev/full", *(words + [recording] * (words == ["report"])))
    assert done.returncode == 1, done.stderr
    assert b"cannot write the output: No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr


def test_messages_that_cannot_be_written_change_nothing(tmp_path: Path) -> None:
    """Oracle: the exit status."""
    path = tmp_path / "a.mmw"
    assert run("2>/dev/full", "record", "-d", "0.3", "-i", "0.1", "-o", path).returncode == 0
    assert complete(path)
    assert run("2>/dev/full", "report", "/no/such/file").returncode == 1


@pytest.mark.parametrize("encoding", ["ascii", "koi8-r", "latin-1", "utf-8"])
def test_any_character_set(recording: Path, tmp_path: Path, encoding: str) -> None:
    """Oracle: what the character set can hold."""
    path = tmp_path / "a.mmw"
    path.write_bytes(recording.read_bytes())
    with sqlite3.connect(path) as database:
        database.execute("UPDATE session SET hostname = 'ünïcode-имя'")
    database.close()
    for words in (["report"], ["replay", "-b"]):
        environment = {**ENVIRONMENT, "PYTHONIOENCODING": encoding}
        done = subprocess.run(
            [*MMWATCH, words[0], path, *words[1:]], env=environment, capture_output=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
        host = done.stdout.decode(encoding)
        assert {"ascii": "?n?code-???", "koi8-r": "?n?code-имя", "latin-1": "ünïcode-???"}.get(encoding, "имя") in host


COMMANDS: list[list[object]] = [
    ["top", "-b"],
    ["top", "--json"],
    ["trace"],
    ["doctor"],
    ["record", "-o", "{path}"],
    ["report", "{recording}"],
    ["replay", "-b", "{recording}"],
]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_signal_at_the_start(tmp_path: Path, recording: Path, words: list[str], number: signal.Signals) -> None:
    """Imports, compiling and attaching, at moments spread over all of it. Oracle: the exit status a shell would see."""
    path = tmp_path / "a.mmw"
    words = [word.format(path=path, recording=recording) for word in words]
    for step in range(12):
        with subprocess.Popen(
            [*MMWATCH, *words], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as at:
            time.sleep(0.06 + 0.05 * step)
            at.send_signal(number)
            out, err = at.communicate(timeout=60)
        assert b"Traceback" not in out + err, err
        if at.returncode in (128 + number, -number):
            assert b"interrupted" in err or at.returncode < 0
            assert not path.exists()
        else:
            assert at.returncode == 0, err
            if path.exists():
                assert b"kept" in err
                path.unlink()


def test_the_command_has_the_signals_of_a_shell(mmwatch: Mmwatch, tmp_path: Path) -> None:
    """Oracle: SigIgn of a command without mmwatch."""
    script = "grep SigIgn /proc/self/status"
    alone = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, restore_signals=True)
    done = mmwatch.run("record", "-o", tmp_path / "a.mmw", "--", "sh", "-c", script)
    assert done.stdout == alone.stdout


@pytest.mark.parametrize(("script", "status"), [("exit 3", 3), ("kill -TERM $$", 143), ("kill -KILL $$", 137)])
def test_its_exit_status_is_that_of_record(mmwatch: Mmwatch, tmp_path: Path, script: str, status: int) -> None:
    done = mmwatch.run("record", "-o", tmp_path / "a.mmw", "--", "sh", "-c", script)
    assert done.returncode == status
    assert f"exit status {status}" in done.stderr
    assert complete(tmp_path / "a.mmw")


def test_a_command_that_cannot_be_executed_leaves_no_file(mmwatch: Mmwatch, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\0no program")
    program.chmod(0o755)
    done = mmwatch.run("record", "-o", tmp_path / "a.mmw", "--", program)
    assert (done.returncode, os.listdir(tmp_path)) == (126, ["program"]), done.stderr
