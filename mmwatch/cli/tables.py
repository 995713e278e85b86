"""The table options of a command line, applied to snapshots."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass

from mmwatch.display import plain
from mmwatch.errors import UsageError
from mmwatch.model.columns import BY_KEY, COLUMNS, DEFAULT, DEFAULT_SORT, Column, active_order
from mmwatch.model.snapshot import Accounting, Snapshot
from mmwatch.units import clean


def print_columns() -> None:
    """What ``--columns help`` prints."""
    width = max(len(column.key) for column in COLUMNS)
    for column in COLUMNS:
        print(f"{column.key:<{width}}  {column.title:<8} {column.help}")


def _column(key: str) -> Column:
    if key not in BY_KEY:
        raise UsageError(f"no column is named {clean(key)!r}", f"there are: {', '.join(BY_KEY)}")
    return BY_KEY[key]


def check_columns(arguments: argparse.Namespace) -> tuple[Column, ...]:
    """The columns asked for with ``--columns`` and ``-s``.

    :raises UsageError: there is no such column.
    """
    default = [BY_KEY[key] for key in DEFAULT[arguments.by].split()]
    _column(arguments.sort or DEFAULT_SORT)
    if not arguments.columns:
        return tuple(default)
    if arguments.columns == "all":
        return COLUMNS
    words = [word.strip() for word in arguments.columns.split(",") if word.strip()]
    if words and all(word.startswith("+") for word in words):
        return (*default, *(_column(word[1:]) for word in words))
    return tuple(_column(word) for word in words)


def row_order(arguments: argparse.Namespace, snapshot: Snapshot) -> plain.Order:
    """The rows to show, in the order asked for."""
    return active_order(snapshot, _column(arguments.sort or DEFAULT_SORT), arguments.reverse)[: arguments.limit]


@dataclass(frozen=True)
class Table:
    """A table as the command line wants it."""

    arguments: argparse.Namespace
    columns: tuple[Column, ...]

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Table:
        """:raises UsageError: there is no such column."""
        return cls(arguments, check_columns(arguments))

    def screen(self, snapshot: Snapshot, total: Accounting, size: os.terminal_size | None) -> list[str]:
        """Host, table and accounting as lines: all rows, or as many as fit a terminal."""
        width = size.columns if size else None
        lines = plain.host_lines(snapshot, width, total)
        order = row_order(self.arguments, snapshot)
        limit = max(1, size.lines - len(lines) - 3) if size else None
        return [*lines, "", *plain.table_lines(snapshot, self.columns, order, width, limit)]
