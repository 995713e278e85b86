"""The fixture of the live tests. Its parts are in harness.py, because several folders have a conftest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Mmwatch


@pytest.fixture
def mmwatch(tmp_path: Path) -> Iterator[Mmwatch]:
    """The command line as a subprocess."""
    tool = Mmwatch(tmp_path)
    yield tool
    tool.end_all()
