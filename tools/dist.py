"""Builds the checkout's source archive and wheel into a folder, or the kinds named: ``sdist``, ``wheel``, ``editable``.

With the setuptools at hand: no network, no isolation.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path

from setuptools import build_meta


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    os.chdir(Path(__file__).resolve().parent.parent)
    folder.mkdir(parents=True, exist_ok=True)
    for kind in sys.argv[2:] or ["sdist", "wheel"]:
        shutil.rmtree("build", ignore_errors=True)  # what an earlier build left there would get into the wheel
        with contextlib.redirect_stdout(sys.stderr):
            name = getattr(build_meta, f"build_{kind}")(str(folder))
        print(folder / name)
    shutil.rmtree("build", ignore_errors=True)


if __name__ == "__main__":
    main()
