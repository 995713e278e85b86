"""The table options of a command line, applied to snapshots."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass

from mmwatch.cli.options import suggestion
from mmwatch.diagnosis.lately import Lately
from mmwatch.display.host import host_lines
from mmwatch.display.table import Order, table_lines
from mmwatch.display.verdict import finding_line
from mmwatch.errors import UsageError
from mmwatch.model.accounting import Accounting
from mmwatch.model.arrangement import DEFAULT, DEFAULT_SORT, RECORDED, active_order, cgroups_differ, default_keys
from mmwatch.model.columns import BY_KEY, COLUMNS, Column
from mmwatch.model.snapshot import Snapshot
from mmwatch.units import clean


def print_columns() -> None:
    """Print the list of columns: ``--columns help``."""
    width = max(len(column.key) for column in COLUMNS)
    for column in COLUMNS:
        print(f"{column.key:<{width}}  {column.title:<8} {column.help}")


def find_column(name: str) -> Column:
    """By key, by title, or by a prefix that only one key has."""
    if name in BY_KEY:
        return BY_KEY[name]
    titled = [column for column in COLUMNS if column.title.lower() == name.lower()]
    begun = [column for column in COLUMNS if column.key.startswith(name.lower())] if name else []
    for found in (titled, begun):
        if len(found) == 1:
            return found[0]
    meant = suggestion(name, BY_KEY)
    raise UsageError(f"no column is named {clean(name)!r}{meant}", "mmwatch top --columns help lists them")


def _columns(keys: Sequence[str], recorded: bool) -> tuple[Column, ...]:
    """:param recorded: sums instead of rates."""
    return tuple(BY_KEY[RECORDED.get(key, key) if recorded else key] for key in keys)


def check_columns(arguments: argparse.Namespace, recorded: bool = False) -> tuple[Column, ...]:
    """The columns given with ``--columns``; also checks ``-s``.

    :param recorded: the default columns are sums instead of rates.
    :raises UsageError: there is no such column.
    """
    default = _columns(DEFAULT[arguments.by].split(), recorded)
    find_column(arguments.sort or DEFAULT_SORT)
    if arguments.columns is None:
        return default
    if arguments.columns == "all":
        return COLUMNS
    words = [word.strip() for word in arguments.columns.split(",") if word.strip()]
    if not words:
        raise UsageError("--columns '' names no column", "mmwatch top --columns help lists them")
    added = any(word.startswith("+") for word in words)
    chosen = [*(default if added else []), *(find_column(word.lstrip("+")) for word in words)]
    return tuple(dict.fromkeys(chosen))


def row_order(arguments: argparse.Namespace, snapshot: Snapshot) -> Order:
    """The rows to show, sorted as the options say."""
    return active_order(snapshot, find_column(arguments.sort or DEFAULT_SORT), arguments.reverse)[: arguments.limit]


@dataclass(frozen=True)
class Table:
    """A table as the options arrange it."""

    arguments: argparse.Namespace
    recorded: bool
    chosen: tuple[Column, ...]

    @classmethod
    def of(cls, arguments: argparse.Namespace, recorded: bool = False) -> Table:
        """:raises UsageError: there is no such column."""
        return cls(arguments, recorded, check_columns(arguments, recorded))

    def columns(self, snapshot: Snapshot, width: int | None) -> tuple[Column, ...]:
        """The columns given, or those that suit this snapshot."""
        if self.arguments.columns is not None:
            return self.chosen
        one_node = len(snapshot.interval.nodes) < 2
        return _columns(default_keys(self.arguments.by, width, cgroups_differ(snapshot), one_node), self.recorded)

    def screen(
        self, snapshot: Snapshot, total: Accounting, size: os.terminal_size | None, lately: Lately | None = None
    ) -> list[str]:
        """Host, accounting and table as lines: all rows, or as many as fit in the terminal.

        :param lately: judges the newest intervals.
        """
        width = size.columns if size else None
        judged = lately.verdict() if lately else None
        lines = host_lines(snapshot, width, total, finding_line(judged[0]) if judged else "")
        order = row_order(self.arguments, snapshot)
        limit = max(1, size.lines - len(lines) - 3) if size else None
        return [*lines, "", *table_lines(snapshot, self.columns(snapshot, width), order, width, limit)]
