"""Runs a command of mmwatch with facts that name a kernel function wrongly, so that attaching to it fails.

Usage: ``elsewhere.py PYTHON -m mmwatch ARGUMENT...``
"""

from __future__ import annotations

import dataclasses
import sys

from mmwatch.cli import doctor
from mmwatch.cli.main import main
from mmwatch.kernel.facts import Facts, gather
from mmwatch.session import observer


def elsewhere() -> Facts:
    """This host's facts, with a wrong name for the function."""
    return dataclasses.replace(gather(), functions=frozenset(), symbols={"shrink_node": ("shrink_node.isra.99",)})


if __name__ == "__main__":
    doctor.gather = observer.gather = elsewhere
    sys.exit(main(sys.argv[4:]))
