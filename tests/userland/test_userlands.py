"""The live and unit tests with the Python and BCC of an old and of the newest Debian, on this machine's kernel.

Each release has its own root file system (tools/userland.sh), which is made once; that takes the network and two
minutes. By name, these tests sort after this machine's own live tests and before the virtual machines: to compare with
/proc/vmstat, they need a host on which nobody else reclaims.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKE_S, RUN_S, END_S = 3600, 900, 60


@dataclass(frozen=True)
class Userland:
    """A release of Debian.

    :param python: lowest version, as of bcc; these versions are why the release is tested.
    :param old: exactly these versions.
    """

    suite: str
    python: tuple[int, int]
    bcc: tuple[int, int]
    old: bool = False


USERLANDS = (
    Userland("bullseye", (3, 9), (0, 18), old=True),
    Userland("sid", (3, 14), (0, 37)),
)


def run(userland: Userland, *command: str, timeout_s: float) -> str:
    """The output of a command in the userland. If the command fails, so does the test."""
    done = subprocess.run(
        [str(ROOT / "tools/userland.sh"), userland.suite, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=timeout_s,
        check=False,
        env={**os.environ, "MMWATCH_RUN_LIVE": "1"},
    )
    if done.returncode:
        pytest.fail(f"{userland.suite}: status {done.returncode}\n{done.stdout}", pytrace=False)
    return done.stdout.strip()


in_each_userland = pytest.mark.parametrize("userland", USERLANDS, ids=lambda userland: userland.suite)
pytestmark = [
    pytest.mark.userland,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: sudo make test"),
    pytest.mark.timeout(MAKE_S + RUN_S + 2 * END_S),
]


def pytest_says(userland: Userland, tests: str) -> str:
    """What pytest says in the end."""
    # SIGINT, so that whatever the tests started ends too.
    bounded = ("timeout", "--signal=INT", f"--kill-after={END_S}", str(RUN_S))
    command = ("python", "-m", "pytest", "-p", "no:cacheprovider", tests)
    return run(userland, *bounded, *command, timeout_s=RUN_S + 2 * END_S).splitlines()[-1].strip("= ")


@in_each_userland
def test_the_live_tests_pass(userland: Userland, summary: list[str]) -> None:
    """Oracle: those of the live tests themselves."""
    began = time.monotonic()
    versions = "import sys, bcc; print(sys.version.split()[0], bcc.__version__)"
    said = run(userland, "python", "-c", versions, timeout_s=MAKE_S).splitlines()[-1]
    python, bcc = (tuple(map(int, version.split(".")[:2])) for version in said.split())
    assert (python, bcc) >= (userland.python, userland.bcc)
    assert not userland.old or (python, bcc) == (userland.python, userland.bcc)
    ready = time.monotonic()
    told = pytest_says(userland, "tests/live")
    summary.append(
        f"{userland.suite}: Python {said.replace(' ', ', bcc ')}: ready after {ready - began:.0f} s, live tests: {told}"
    )


@in_each_userland
def test_the_unit_tests_pass(userland: Userland, summary: list[str]) -> None:
    summary.append(f"{userland.suite}: unit tests: {pytest_says(userland, 'tests/unit')}")
