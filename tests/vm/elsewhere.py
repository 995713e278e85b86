"""Runs a command of mmwatch that finds a function of the kernel under a name the kernel does not know.

``elsewhere.py PYTHON -m mmwatch ARGUMENT...``: as if the name had been right when it was looked up.
"""

from __future__ import annotations

import dataclasses
import sys

from mmwatch.cli import doctor, observe
from mmwatch.cli.main import main
from mmwatch.kernel.facts import Facts, gather


def elsewhere() -> Facts:
    """This host's facts, but for the function."""
    return dataclasses.replace(gather(), functions=frozenset(), symbols={"shrink_node": ("shrink_node.isra.99",)})


if __name__ == "__main__":
    doctor.gather = observe.gather = elsewhere
    sys.exit(main(sys.argv[4:]))
