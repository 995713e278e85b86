"""The confusion matrix of the diagnosis: what each trouble is, and what mmwatch diagnose says first, on each kernel.

``python tests/vm/matrix.py`` boots every kernel once, which takes hours, and prints a table for the README with its
date. ``--from FOLDER`` prints it from guests that have run already. It fails if any verdict is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kernels import MissingError
from lab import CLASSIC, KERNELS, MGLRU
from provoke import boot, chosen, problems
from trouble import HEALTHY
from troubles import TROUBLES

from mmwatch.diagnosis.judge import judge
from mmwatch.diagnosis.observation import observe
from mmwatch.recording import ALL, Reader, series

RIGHT, ABSENT, NO_LOAD = "yes", "", "no load"
BY_NAME = {trouble.name: trouble for trouble in TROUBLES}
Column = tuple[str, str]
"""Kernel and kind of LRU."""


def first_of(recording: Path) -> str:
    """The first finding in a recording, else the status of its verdict."""
    with Reader(recording) as reader:
        verdict = judge(observe(reader.session, series(reader, ALL)))
    return verdict.findings[0].rule.id if verdict.findings else verdict.status


def read(folder: Path, kernel: str) -> dict[Column, dict[str, str]]:
    """By column and name of the trouble: what was found first."""
    found: dict[Column, dict[str, str]] = {}
    for lru in (CLASSIC, MGLRU):
        for file in sorted(folder.glob(f"{lru}-*.json")):
            name = file.stem[len(lru) + 1 :]
            if name not in BY_NAME:
                continue  # of an older list
            result = json.loads(file.read_text())
            said = NO_LOAD if result["error"] else first_of(file.with_suffix(".mmw"))
            if said != BY_NAME[name].expect and problems(BY_NAME[name], result):
                said = NO_LOAD
            found.setdefault((kernel, lru), {})[name] = said
    return found


def table(found: Mapping[Column, Mapping[str, str]]) -> list[str]:
    """Rows are troubles, columns kernels: ``yes``, what was found instead, or nothing if it was not tried."""
    columns = sorted(found, key=lambda one: ([kernel.name for kernel in KERNELS].index(one[0]), one[1]))
    titles = [f"{kernel} {'MGLRU' if lru == MGLRU else lru}" for kernel, lru in columns]
    lines = [f"| load | to be found | {' | '.join(titles)} |", "|---" * (len(columns) + 2) + "|"]
    expected = list(dict.fromkeys(trouble.expect for trouble in TROUBLES))
    for trouble in sorted(TROUBLES, key=lambda one: expected.index(one.expect)):
        cells = [found[column].get(trouble.name) for column in columns]
        if any(cells):
            shown = [ABSENT if cell is None else RIGHT if cell == trouble.expect else cell for cell in cells]
            lines.append(f"| {trouble.name} | {trouble.expect} | {' | '.join(shown)} |")
    return lines


def wrong(found: Mapping[Column, Mapping[str, str]]) -> list[str]:
    """Verdicts that were not those expected."""
    return [
        f"{kernel} {lru} {name}: {said}, not {BY_NAME[name].expect}"
        for (kernel, lru), verdicts in found.items()
        for name, said in verdicts.items()
        if said not in (BY_NAME[name].expect, NO_LOAD)
    ]


def counts(found: Mapping[Column, Mapping[str, str]]) -> str:
    """How many were right, of the troubles and of what only looks like one; loads that did too little are neither."""
    every = [(BY_NAME[name].expect, said) for of_column in found.values() for name, said in of_column.items()]
    verdicts = [one for one in every if one[1] != NO_LOAD]

    def right(of: Iterable[tuple[str, str]]) -> str:
        listed = list(of)
        return f"{sum(1 for wanted, said in listed if wanted == said)} of {len(listed)}"

    troubles = right(one for one in verdicts if one[0] != HEALTHY)
    others = right(one for one in verdicts if one[0] == HEALTHY)
    none = len(every) - len(verdicts)
    return f"{troubles} troubles were found first, {others} others left alone; {none} loads did too little to tell"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help=f"of {', '.join(k.name for k in KERNELS)}")
    parser.add_argument("--lru", choices=(CLASSIC, MGLRU), help="only with this one")
    parser.add_argument("--from", dest="folders", action="append", default=[], metavar="KERNEL=FOLDER", type=str)
    options = parser.parse_args(argv)
    found: dict[Column, dict[str, str]] = {}
    for given in options.folders:
        kernel, _, folder = given.partition("=")
        for column, verdicts in read(Path(folder), kernel).items():
            found.setdefault(column, {}).update(verdicts)
    if not options.folders:
        for kernel in KERNELS:
            if not options.kernels or kernel.name in options.kernels:
                found.update(read(boot(kernel, chosen(kernel, (), options.lru)), kernel.name))
    print(f"{time.strftime('%Y-%m-%d')}: {counts(found)}.\n")
    print("\n".join(table(found)))
    mistakes = wrong(found)
    print("\n".join(["", *mistakes]))
    return 1 if mistakes else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except MissingError as error:
        print(f"matrix: {error}", file=sys.stderr)
        sys.exit(69)
