"""Shared by the live tests: the command line as a subprocess, and workloads for it to observe."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WORKLOADS = ROOT / "tests" / "workloads"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
START_S = 20
"""Time allowed for attaching, on a busy machine."""
HOSTILE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that must never reach a terminal. Newline is not among them: it ends a line."""

ENDLESS = ("stream", "--mib", 100_000, "--share", 0.2)
"""A load that runs until it is ended and leaves CPU time to others."""

Json = dict[str, Any]


AS_NOBODY = """
mount -t tmpfs tmpfs /mnt && mkdir /mnt/environment /mnt/checkout || exit 1
mount --bind "$1" /mnt/environment && mount --bind "$2" /mnt/checkout || exit 1
shift 2
export PYTHONPATH=/mnt/checkout
exec setpriv --reuid=65534 --regid=65534 --clear-groups /mnt/environment/bin/python -m mmwatch "$@"
"""


def run_as_nobody(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command as an ordinary user.

    He may not be able to reach the checkout and the environment, so they are mounted where nobody is kept out.
    """
    command = ["unshare", "-m", "sh", "-c", AS_NOBODY, "sh", sys.prefix, ENVIRONMENT["PYTHONPATH"], *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd="/")


def workload(name: str, *words: object) -> list[str]:
    return [sys.executable, str(WORKLOADS / f"{name}.py"), *map(str, words)]


def run_workload(name: str, *words: object) -> Json:
    """Run a workload to its end; return what it printed."""
    done = subprocess.run(workload(name, *words), check=True, stdout=subprocess.PIPE, timeout=120)
    return json.loads(done.stdout)


class Gated:
    """A workload that is set up and waits. ``about`` is what it has printed about itself."""

    def __init__(self, name: str, *words: object) -> None:
        self.process = subprocess.Popen(
            workload(name, *words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**ENVIRONMENT, "MMWATCH_TEST_GATE": "1"},
        )
        assert self.process.stdout is not None
        self.about: Json = json.loads(self.process.stdout.readline())

    @property
    def pids(self) -> list[int]:
        """PIDs of its workers."""
        return list(self.about["pids"])

    def go(self) -> None:
        """Let the workload run."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def finish(self) -> Json:
        """Let the workload run to its end; return what it printed then."""
        out, _ = self.process.communicate("\n", timeout=120)
        assert self.process.returncode == 0
        self.about = json.loads(out)
        return self.about

    def __enter__(self) -> Gated:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()


class Running:
    """An mmwatch command that is running."""

    def __init__(self, words: tuple[object, ...], folder: Path, environment: dict[str, str] | None = None) -> None:
        self.out = folder / f"{time.monotonic_ns()}.out"
        self.err = self.out.with_suffix(".err")
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mmwatch", *map(str, words)],
                stdout=out,
                stderr=err,
                env={**ENVIRONMENT, **(environment or {})},
                start_new_session=True,
            )

    def wait_for(self, text: str, where: str = "out", timeout_s: float = START_S) -> None:
        """Wait until its output contains this text."""
        path = self.out if where == "out" else self.err
        deadline = time.monotonic() + timeout_s
        while text not in path.read_text(errors="replace"):
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.stderr}"
            assert time.monotonic() < deadline, f"no {text!r} in {path.read_text()!r}"
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT, timeout_s: float = 30) -> int:
        """End it; return its exit status."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(how)
        return self.process.wait(timeout_s)

    @property
    def stdout(self) -> str:
        return self.out.read_text(errors="surrogateescape")

    @property
    def stderr(self) -> str:
        return self.err.read_text(errors="surrogateescape")

    def lines(self) -> list[Json]:
        """Its JSON, one object per line, without an incomplete last line."""
        return [json.loads(line) for line in self.stdout.splitlines(keepends=True) if line.endswith("\n")]


class Mmwatch:
    """The command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[Running] = []

    def run(
        self,
        *words: object,
        environment: dict[str, str] | None = None,
        prefix: tuple[str, ...] = (),
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*prefix, sys.executable, "-m", "mmwatch", *map(str, words)],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            env={**ENVIRONMENT, **(environment or {})},
            timeout=timeout,
            check=False,
        )

    def start(self, *words: object, environment: dict[str, str] | None = None) -> Running:
        """Start a command beside the test."""
        running = Running(words, self.folder, environment)
        self._running.append(running)
        return running

    def top(self, *words: object, **more: Any) -> Running:
        """``top --json``, already counting."""
        running = self.start("top", "--json", *words, **more)
        running.wait_for("\n")
        return running

    def report(self, path: Path, *words: object) -> Json:
        """``report --json``."""
        done = self.run("report", path, "--json", *words)
        assert done.returncode == 0, done.stderr
        found: Json = json.loads(done.stdout)
        return found

    def record(self, path: Path, words: list[str], *more: object, **other: Any) -> Json:
        """Record a command; return what the command printed."""
        done = self.run("record", "-f", "-o", path, *more, "--", *words, **other)
        assert done.returncode == 0, done.stderr
        assert "exit status 0" in done.stderr, done.stderr
        found: Json = json.loads(done.stdout)
        return found

    def end_all(self) -> None:
        """Kill what a failed test left running."""
        for running in self._running:
            if running.process.poll() is None:
                running.process.kill()
                running.process.wait()


def losses(accounting: Json) -> dict[str, int]:
    """Every loss count that is not zero (or not known)."""
    found = {name: accounting[name] for name in ("missed_runs", "table_full", "unmatched_begin", "unmatched_end")}
    found.update(
        {f"{name} {kind}": count for name in ("lost", "suppressed") for kind, count in accounting[name].items()}
    )
    return {name: value for name, value in found.items() if value != 0}


def rows_of(report: Json, pid: int) -> list[Json]:
    return [row for row in report["rows"] if row["tgid"] == pid]


def assert_clean(text: str) -> None:
    """Assert that nothing in the text controls a terminal."""
    found = HOSTILE.search(text)
    assert found is None, f"{found and text[max(0, found.start() - 40) : found.end() + 40]!r}"
