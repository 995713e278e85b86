"""These tests run if named (``pytest tests/userland``) or, like the guests, with ``MMWATCH_RUN_VM=1``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
summaries = pytest.StashKey["list[str]"]()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    named = [(config.invocation_params.dir / argument.split("::")[0]).resolve() for argument in config.args]
    asked_for = os.environ.get("MMWATCH_RUN_VM") == "1" or any(HERE in (path, *path.parents) for path in named)
    return None if asked_for else True


@pytest.fixture
def summary(request: pytest.FixtureRequest) -> list[str]:
    """Lines to print at the end of the session."""
    return request.config.stash.setdefault(summaries, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lines := config.stash.get(summaries, []):
        terminalreporter.section("userlands")
        for line in lines:
            terminalreporter.write_line(line)
