"""The manual of the format says of every table and column what the schema says. Run this file to renew it."""

from __future__ import annotations

import re
import sqlite3
import sys
from pathlib import Path

import pytest

from mmwatch.recording.schema import TABLES, VERSION

MANUAL = Path(__file__).resolve().parents[2] / "man" / "mmwatch-recording.5"
BEGIN, END = '.\\" tables: made by tests/unit/test_recording_manual.py\n', '.\\" end of tables\n'


def roff(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")


def sentence(text: str) -> str:
    return roff(text[0].upper() + text[1:]) + "."


def tables() -> str:
    """The part of the manual that follows from the schema."""
    lines = []
    for table in TABLES:
        lines += [f".SS {table.name}", sentence(table.help)]
        for column in table.columns:
            lines += [".TP", f'.BR {column.name} " ({column.type.split()[0]})"', sentence(column.help)]
    return "\n".join(lines) + "\n"


def test_the_manual_has_every_table_and_column() -> None:
    part = MANUAL.read_text().partition(BEGIN)[2].partition(END)[0]
    assert part == tables(), f"python {Path(__file__).name} brings the manual up to date"
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


if __name__ == "__main__":
    before, _, rest = MANUAL.read_text().partition(BEGIN)
    MANUAL.write_text(before + BEGIN + tables() + END + rest.partition(END)[2])
    sys.exit(0)
