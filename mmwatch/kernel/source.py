"""The C programs as one text.

BCC rewrites table calls only in the text it is given, not in files that the text includes. So this inserts our own
headers into the text, with ``#line`` so that errors name the right file and line.
"""

from __future__ import annotations

import re
from pathlib import Path

from mmwatch.abi import bpf_directory

_INCLUDE = re.compile(r'#include "(\w+\.h)"')


def program() -> bytes:
    """``reclaim.bpf.c`` with the headers from its directory inserted, each once.

    :raises UnavailableError: the C files are not there.
    """
    return "\n".join(_expanded(bpf_directory(), "reclaim.bpf.c", set())).encode()


def _expanded(directory: Path, name: str, seen: set[str]) -> list[str]:
    """The lines of a file, with each include directive replaced by the included lines."""
    lines = [f'#line 1 "bpf/{name}"']
    for number, line in enumerate((directory / name).read_text(encoding="utf-8").rstrip("\n").split("\n"), 1):
        found = _INCLUDE.fullmatch(line)
        if found is None:
            lines.append(line)
        elif found[1] not in seen:
            seen.add(found[1])
            lines += [*_expanded(directory, found[1], seen), f'#line {number + 1} "bpf/{name}"']
        else:
            lines.append("")
    return [*lines, ""]
