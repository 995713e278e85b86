"""The manual of the format: its version, and its example queries."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from mmwatch.recording.schema import VERSION

MANUAL = Path(__file__).resolve().parents[2] / "man" / "mmwatch-recording.5"


def test_the_manual_names_the_version() -> None:
    assert f"version {VERSION}" in MANUAL.read_text()


def queries() -> list[str]:
    """The examples: what stands between .EX and .EE and begins with SELECT."""
    blocks = re.findall(r"^\.EX\n(.*?)^\.EE", MANUAL.read_text(), re.MULTILINE | re.DOTALL)
    return [block.replace("\\-", "-").replace("\\(aq", "'") for block in blocks if block.startswith("SELECT")]


@pytest.mark.parametrize("query", queries())
def test_the_examples_find_something(query: str, tmp_path: Path) -> None:
    from make import make_session
    from test_recording import full_interval, make_records

    from mmwatch.recording import Writer

    path = tmp_path / "a.mmw"
    with Writer(path, make_session()) as writer:
        for number in range(1, 4):
            writer.write(full_interval(number), make_records(100))
    try:
        found = sqlite3.connect(path).execute(query).fetchall()
    except sqlite3.OperationalError as error:
        raise AssertionError(f"{error}: {query}") from error
    assert found
    assert any(any(row) for row in found)


def test_there_are_examples() -> None:
    assert len(queries()) >= 4
