"""The kernel's text is bytes: names in it hold any byte, so no reader may use text mode or splitlines().

Text mode decodes by the locale, fails at bytes that are not UTF-8, and turns a carriage return into a newline.
splitlines() also splits at a dozen other characters.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "mmwatch"
READING = ("host", "kernel", "session")
"""The folders that read files of the kernel."""


def offences(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = {keyword.arg for keyword in node.keywords}
        if name == "splitlines":
            yield f"line {node.lineno}: splitlines()"
        if name == "read_text" and isinstance(node.func, ast.Attribute) and "encoding" not in given:
            yield f"line {node.lineno}: read_text() in text mode"
        if name == "open" and isinstance(node.func, ast.Name):
            mode = node.args[1].value if len(node.args) > 1 and isinstance(node.args[1], ast.Constant) else "r"
            if "b" not in str(mode):
                yield f"line {node.lineno}: open() in text mode"


@pytest.mark.parametrize("folder", READING)
def test_files_are_read_as_bytes(folder: str) -> None:
    found = {
        str(path.relative_to(PACKAGE)): list(offences(path.read_text(encoding="utf-8")))
        for path in (PACKAGE / folder).glob("*.py")
    }
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source", ["text.splitlines()", "path.read_text()", "open('/proc/stat')", "open(name, 'r')", "open(name, mode='r')"]
)
def test_an_offence_is_noticed(source: str) -> None:
    assert list(offences(source))
