"""The README names the kernels that the laboratory boots and the userlands that the live tests run in."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_readme_names_the_kernels_of_the_laboratory() -> None:
    tree = ast.parse((ROOT / "tests/vm/lab.py").read_text())
    kernels = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "KERNELS"
    )
    assert isinstance(kernels, ast.Tuple)
    named = {}
    for call in kernels.elts:
        assert isinstance(call, ast.Call)
        name = ast.literal_eval(call.args[0])
        given = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
        named[name] = "classic" + (", MGLRU" if given.get("mglru", True) else "")
    section = (ROOT / "README.md").read_text().partition("## Kernels it is tested on")[2].partition("\n## ")[0]
    shown = dict(re.findall(r"^\| (\S+)[^|]* \| ([^|(]+?)(?: \([^|]*)? \|", section, re.MULTILINE)[1:])
    assert {name: lru.strip() for name, lru in shown.items()} == named


def test_the_readme_names_the_user_lands() -> None:
    tree = ast.parse((ROOT / "tests/userland/test_userlands.py").read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    calls = [node for node in nodes if getattr(node.func, "id", "") == "Userland"]
    versions = [[".".join(map(str, ast.literal_eval(word))) for word in call.args[1:]] for call in calls]
    text = (ROOT / "README.md").read_text()
    shown = re.findall(r"^\| (?:Debian 11|newest of Debian) \| (\S+) \| (\S+) \|$", text, re.MULTILINE)
    assert [list(row) for row in shown] == versions
    assert len(shown) == 2
