"""Rules for every test: who may be skipped, and that live tests leave nothing behind.

Tests under ``tests/live`` need root and BPF. As anybody else they are skipped, and the header says so. With
``MMWATCH_RUN_LIVE=1`` (as in ``.ci/run`` and ``make test-live``) a skip counts as a failure unless
``allowed_skips.txt`` gives a reason for it: a test that never runs must not look like one that passes.
"""

from __future__ import annotations

import fnmatch
import os
import signal
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

# A shell has what it runs in the background ignore SIGINT, and what we start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

HERE = Path(__file__).parent
LIVE = HERE / "live"
MUST_RUN = os.environ.get("MMWATCH_RUN_LIVE") == "1"
CLEANUP_SECONDS = 10


def allowed_skips() -> list[str]:
    """The patterns of ``allowed_skips.txt``; each must have its reason beside it."""
    patterns = []
    for number, line in enumerate((HERE / "allowed_skips.txt").read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        pattern, _, reason = line.partition(" ")
        if not reason.strip():
            raise pytest.UsageError(f"tests/allowed_skips.txt:{number}: {pattern} has no reason beside it")
        patterns.append(pattern)
    return patterns


def pytest_report_header() -> str | None:
    if os.geteuid() == 0:
        return None
    return "live tests are left out: they load BPF programs and need root; `sudo make test` runs them"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if LIVE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.live)
        item.fixturenames.insert(0, "nothing_left_behind")  # type: ignore[attr-defined]
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root: sudo make test"))


def _refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip that nobody gave a reason for into a failure."""
    if not MUST_RUN or not report.skipped or hasattr(report, "wasxfail"):
        return
    if any(fnmatch.fnmatchcase(report.nodeid, pattern) for pattern in allowed_skips()):
        return
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid}: {why}\nMMWATCH_RUN_LIVE=1 allows only the skips of tests/allowed_skips.txt"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse(report)
    return report


def _left_over() -> set[str]:
    """Mounts and mmwatch's own control groups, as this process sees them."""
    mounts = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    groups = {
        str(Path(folder, name)) for folder, names, _ in os.walk("/sys/fs/cgroup") for name in names if "mmwatch" in name
    }
    return mounts | groups


@pytest.fixture
def nothing_left_behind() -> Iterator[None]:
    """After a live test the mounts and control groups are those from before; what is just going gets some seconds."""
    before = _left_over()
    yield
    deadline = time.monotonic() + CLEANUP_SECONDS
    while left := _left_over() - before:
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: {', '.join(sorted(left))}")
        time.sleep(0.2)


@pytest.fixture
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local times are the same everywhere."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()
