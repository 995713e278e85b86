"""RHEL 9 and Debian 11 have Python 3.9, so every file must parse as 3.9. `make lint` checks the library with vermin."""

from __future__ import annotations

import ast
import builtins
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


def unions(tree: ast.AST) -> list[ast.BinOp]:
    """Every ``X | Y`` that joins types: with None or a built-in type on either side."""
    types = {name for name, value in vars(builtins).items() if isinstance(value, type)}
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)
        for side in (node.left, node.right)
        if (isinstance(side, ast.Constant) and side.value is None)
        or (isinstance(side, ast.Name) and side.id in types)
        or (isinstance(side, ast.Subscript) and isinstance(side.value, ast.Name) and side.value.id in types)
    ]


def problems(source: str) -> list[str]:
    tree = ast.parse(source, feature_version=(3, 9))
    annotated = {id(node) for annotation in annotations(tree) for node in ast.walk(annotation)}
    found = [
        f"line {node.lineno}: X | Y is evaluated; use typing.Union"
        for node in unions(tree)
        if id(node) not in annotated
    ]
    if not has_future_annotations(tree):
        found += [
            f"line {node.lineno}: X | Y needs from __future__ import annotations"
            for annotation in annotations(tree)
            for node in ast.walk(annotation)
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)
        ]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_parses_as_python_39(path: Path) -> None:
    assert problems(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    ["A = int | None", "isinstance(x, (str | bytes))", "def f(x: Path | str): ...", "x = cast(list[int] | X, y)"],
)
def test_newer_unions_are_seen(source: str) -> None:
    assert len(problems(source)) >= 1


def test_newer_syntax_is_seen() -> None:
    with pytest.raises(SyntaxError):
        problems("match x:\n    case 1: pass")


def test_unions_in_annotations_and_flags_are_fine() -> None:
    assert problems("from __future__ import annotations\ndef f(x: int | None) -> None:\n    y = A | B | 1") == []
