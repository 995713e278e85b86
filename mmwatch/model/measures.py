"""What is measured per row: the members of ``struct row`` that are figures, as ``bpf/abi.h`` declares them.

Columns, recordings and JSON derive from :data:`MEASURES`.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmwatch import abi
from mmwatch.abi import (
    NODE_UNKNOWN,
    ORDERS,
    PATHS,
    PRIORITIES,
    PRIORITY_UNKNOWN,
    STALL_BUCKETS,
    STALL_SHIFT_MIN,
    THROTTLE_REASONS,
    Fold,
)

__all__ = [
    "BY_NAME",
    "MEASURES",
    "NODE_UNKNOWN",
    "ORDERS",
    "PATHS",
    "PATH_HELP",
    "PRIORITIES",
    "PRIORITY_UNKNOWN",
    "STALL_BUCKETS",
    "STALL_SHIFT_MIN",
    "THROTTLE_REASONS",
    "Fold",
    "Measure",
]


@dataclass(frozen=True)
class Measure:
    """One figure of a row.

    :param name: as in ``bpf/abi.h``, SQL and JSON.
    :param help: one line, for the manual and the schema's documentation.
    :param unit: ``count``, ``ns``, ``pages`` or ``flags``.
    :param length: of a histogram; 0: a single number.
    :param json: shown in ``rows`` of the JSON output as it is.
    """

    name: str
    help: str
    fold: Fold = Fold.SUM
    unit: str = "count"
    length: int = 0
    json: bool = True


_NOT_IN_JSON = ("stall_histogram",)  # JSON has its percentiles instead

MEASURES: tuple[Measure, ...] = tuple(
    Measure(
        member.name,
        member.help,
        member.fold,
        member.unit,
        member.length if member.fold is Fold.HISTOGRAM else 0,
        member.name not in _NOT_IN_JSON,
    )
    for member in abi.ROW
    if member.fold in abi.MEASURED
)

BY_NAME = {measure.name: measure for measure in MEASURES}

PATH_HELP = {path: abi.PATH_HELP[path] for path in (*PATHS[1:], PATHS[0])}
"""In the order to show them: ``other`` comes last."""
