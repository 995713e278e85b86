"""The C programs as one text: every header once, and lines that keep their place."""

from __future__ import annotations

import re
from pathlib import Path

from mmwatch.kernel.source import program

BPF = Path(__file__).resolve().parents[2] / "bpf"


def test_every_header_is_in_it_once() -> None:
    text = program().decode()
    for header in BPF.glob("*.h"):
        assert text.count(header.read_text().partition("*/\n")[2].split("#include")[0].strip()[:200]) == 1, header
    assert re.findall(r'^#include "', text, re.MULTILINE) == []


def test_every_line_is_where_the_compiler_is_told() -> None:
    """Oracle: the files."""
    place, number, seen = BPF, 0, 0
    for line in program().decode().splitlines():
        directive = re.fullmatch(r'#line (\d+) "bpf/(.+)"', line)
        if directive:
            place, number = BPF / directive[2], int(directive[1])
            continue
        original = place.read_text().splitlines()
        if number <= len(original):
            assert line == original[number - 1] or (line == "" and original[number - 1].startswith('#include "'))
            seen += bool(line)
        else:
            assert line == ""
        number += 1
    assert seen > 1000
