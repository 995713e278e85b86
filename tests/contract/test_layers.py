"""Imports follow the table of CONTRIBUTING.md: data flows one way, and each library is imported in one place."""

from __future__ import annotations

import ast
import graphlib
import importlib
import importlib.util
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "mmwatch"

BASE = {"errors", "units", "abi"}  # every folder may have these
CONTRIBUTING = ROOT / "CONTRIBUTING.md"


def table() -> dict[str, set[str]]:
    """What each folder may import, from the table in CONTRIBUTING.md."""
    rows = re.findall(r"^\| `mmwatch/(\w+)/` \|.*\| ([^|]*) \|$", CONTRIBUTING.read_text(), re.MULTILINE)
    folders = {name for name, _ in rows}
    may = {name: folders if cell == "all" else set(re.findall(r"`(\w+)`", cell)) for name, cell in rows}
    assert folders.issuperset(set().union(*may.values())), "the table names a folder that has no line of its own"
    return may


MAY_IMPORT = {**table(), "abi": set(), "errors": set(), "units": set(), "__main__": {"cli"}, "__init__": set()}
# Other people's packages and the folders that may import them; None stands for all.
THIRD_PARTY: dict[str, set[str] | None] = {
    "bcc": {"kernel"},
    "pyroute2": {"host"},
    "textual": {"display"},
    "rich": {"display"},
    "numpy": None,
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


def layer(module: list[str]) -> str:
    """``kernel`` for ``["mmwatch", "kernel", "facts"]``; ``__init__`` for the package itself."""
    return module[1] if len(module) > 1 else "__init__"


def imported(path: Path, source: str) -> Iterator[tuple[int, list[str]]]:
    """Line and dotted name (split) of everything a module imports, wherever it does so."""
    package = ["mmwatch", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.split(".")
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                # `from mmwatch import units` names a module, `from mmwatch import __version__` does not.
                whole = [*base, alias.name]
                is_module = (
                    PACKAGE.parent.joinpath(*whole).is_dir()
                    or PACKAGE.parent.joinpath(*whole[:-1], f"{alias.name}.py").exists()
                )
                yield node.lineno, whole if is_module else base
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value.split(".")


def in_standard_library(name: str) -> bool:
    spec = importlib.util.find_spec(name)
    if spec is None:
        return False
    if spec.origin in (None, "built-in", "frozen"):
        return True
    library = Path(sysconfig.get_path("stdlib")).resolve()
    inside = Path(str(spec.origin)).resolve()
    return library in inside.parents and not {"site-packages", "dist-packages"} & set(inside.parts)


def problems(path: Path, source: str) -> list[str]:
    """Imports of this module that violate the table."""
    relative = path.relative_to(PACKAGE)
    here = relative.parts[0] if len(relative.parts) > 1 else relative.stem
    found = []
    for line, name in imported(path, source):
        where = f"{path.relative_to(ROOT)}:{line}"
        if name[0] == "mmwatch":
            there = layer(name)
            allowed = MAY_IMPORT[here] | (set() if here == "errors" else {"errors"} if here in BASE else BASE)
            if there not in allowed | {here, "__init__"}:
                found.append(f"{where}: {here} may not import mmwatch.{there}")
        elif name[0] in THIRD_PARTY:
            doors = THIRD_PARTY[name[0]]
            if doors is not None and here not in doors:
                found.append(f"{where}: only {', '.join(sorted(doors))} may import {name[0]}, not {here}")
        elif not in_standard_library(name[0]):
            found.append(f"{where}: {name[0]} is neither in the standard library nor among the packages mmwatch needs")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_table(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    here = relative.parts[0] if len(relative.parts) > 1 else relative.stem
    assert here in MAY_IMPORT, f"mmwatch/{here} is not in the table of CONTRIBUTING.md; add it there"
    assert problems(path, path.read_text()) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("model/x.py", "import bcc"),
        ("model/x.py", "from mmwatch.display import table"),
        ("model/x.py", "def f():\n    from mmwatch import host"),
        ("display/x.py", "from ..recording.store import Store"),
        ("session/x.py", "from mmwatch.display import host"),
        ("session/x.py", "from mmwatch.cli import options"),
        ("kernel/x.py", "import pyroute2"),
        ("cli/x.py", "import importlib\nimportlib.import_module('textual.app')"),
        ("host/x.py", "import requests_or_whatever"),
        ("errors.py", "import mmwatch.units"),
        ("abi.py", "import mmwatch.units"),
    ],
)
def test_a_wrong_import_is_seen(module: str, source: str) -> None:
    assert len(problems(PACKAGE / module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("kernel/x.py", "import bcc, ctypes, numpy\nfrom mmwatch.errors import MmwatchError\nfrom . import facts"),
        ("cli/x.py", "from mmwatch import __version__\nfrom mmwatch.kernel import tracer"),
        ("session/x.py", "from ..recording import Reader\nfrom mmwatch import units"),
    ],
)
def test_a_right_import_is_not(module: str, source: str) -> None:
    assert problems(PACKAGE / module, source) == []


def missing(source: str) -> list[str]:
    """What a program imports from mmwatch by a name that does not exist."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mmwatch":
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                try:
                    if not hasattr(importlib.import_module(node.module), alias.name):
                        importlib.import_module(name)
                except ImportError:
                    found.append(name)
    return found


@pytest.mark.parametrize("folder", ["bench", "tests", "tools"])
def test_programs_beside_the_package_import_what_exists(folder: str) -> None:
    """Guests and bench import some of it where no type checker and no other test looks."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths
    assert {path: gone for path in paths if (gone := missing(path.read_text()))} == {}


def test_an_import_of_a_name_that_is_gone_is_seen() -> None:
    gone = "from mmwatch.cli import observe\nfrom mmwatch.gone import x\nfrom mmwatch.session import observer"
    assert missing(gone) == ["mmwatch.cli.observe", "mmwatch.gone.x"]


def test_no_import_goes_round() -> None:
    """Not even for type checking: what two modules need from each other belongs in a third."""
    names = {tuple(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in MODULES}
    graph = {
        name: {tuple(found) for _, found in imported(path, path.read_text()) if tuple(found) in names} - {name}
        for name, path in names.items()
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules


def test_no_package_hides_the_programs() -> None:
    """An installed mmwatch has the C files in mmwatch/bpf; in the checkout that folder would shadow ../bpf."""
    assert not (PACKAGE / "bpf").exists()
