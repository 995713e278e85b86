"""Whether the packages that mmwatch uses can be imported here."""

from __future__ import annotations

import importlib

from mmwatch.errors import UnavailableError
from mmwatch.units import clean

USED = ("numpy", "pyroute2", "textual")
"""The packages from PyPI. bcc comes from the distribution, and a separate process imports it."""


def import_problem(name: str) -> str:
    """Why a package cannot be imported; empty if it can. One that is there may still fail, in any way."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        return "not found" if error.name == name else clean(str(error))
    except (Exception, SystemExit) as error:
        return f"found, but it does not import: {told(error)}"
    return ""


def told(error: BaseException) -> str:
    """An exception in one line."""
    return clean(f"{type(error).__name__}: {error}")[:400]


def broken_by(error: BaseException) -> UnavailableError | None:
    """An exception as a message, if the import of a package raised it; None if it is something else."""
    for name in USED:
        problem = import_problem(name)
        if problem:
            # Not the problem found now: numpy complains of its second import, not of what is wrong with it.
            why = problem if isinstance(error, ModuleNotFoundError) else f"it does not import: {told(error)}"
            instead = (
                "top --plain and replay -b work without it" if name == "textual" else "mmwatch doctor says what works"
            )
            return UnavailableError(f"Python package {name}: {why}", f"install it again; {instead}")
    return None
