"""RHEL 9 and Debian 11 have Python 3.9: every file is in its syntax. (`make lint` asks vermin about its library.)"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for folder in ("mmwatch", "tests", "bench", "tools") for path in (ROOT / folder).rglob("*.py"))


def annotations(tree: ast.AST) -> list[ast.expr]:
    found: list[ast.expr | None] = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.append(node.returns)
        elif isinstance(node, (ast.AnnAssign, ast.arg)):
            found.append(node.annotation)
    return [annotation for annotation in found if annotation is not None]


def has_future_annotations(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(alias.name == "annotations" for alias in node.names)
        for node in tree.body
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_parses_as_python_39(path: Path) -> None:
    tree = ast.parse(path.read_text(), str(path), feature_version=(3, 9))
    unions = [
        node.lineno
        for annotation in annotations(tree)
        for node in ast.walk(annotation)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)
    ]
    assert not unions or has_future_annotations(tree), f"X | Y in line {unions[0]} needs the __future__ import"
