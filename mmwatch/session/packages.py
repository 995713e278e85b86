"""Whether the packages that mmwatch uses can be imported here."""

from __future__ import annotations

import importlib

from mmwatch.units import clean


def import_problem(name: str) -> str:
    """Why a package cannot be imported; empty if it can. One that is there may still fail, in any way."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        return "not found" if error.name == name else clean(str(error))
    except Exception as error:
        return clean(f"found, but it does not import: {type(error).__name__}: {error}")[:400]
    return ""
