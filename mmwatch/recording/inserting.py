"""INSERT statements for the tables of a recording."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mmwatch.recording.pack import integers, plain
from mmwatch.recording.schema import BY_NAME, NULL_FOR


class Insert:
    """An INSERT for many rows of a table. Most columns come directly from a structured array.

    :param null: columns that get NULL.
    """

    def __init__(self, table: str, null: frozenset[str]) -> None:
        names = [column.name for column in BY_NAME[table].columns]
        self.names = [name for name in names if name not in null]
        values = ["NULL" if name in null else self._value(name) for name in names]
        self.sql = f'INSERT INTO "{table}" VALUES ({", ".join(values)})'

    @staticmethod
    def _value(name: str) -> str:
        return f"nullif(?, {NULL_FOR[name]})" if name in NULL_FOR else "?"

    def fill(
        self, array: npt.NDArray[np.void], lists: Mapping[str, list[Any]]
    ) -> tuple[str, Iterator[tuple[Any, ...]]]:
        """Arguments of ``executemany``; columns not in ``lists`` are fields of ``array``."""
        return self.sql, zip(*[lists[name] if name in lists else integers(array[name]) for name in self.names])


def insert_one(db: sqlite3.Connection, table: str, **values: Any) -> None:
    names = [column.name for column in BY_NAME[table].columns]
    assert set(names) == set(values), (table, set(names) ^ set(values))
    db.execute(f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(names))})', [plain(values[name]) for name in names])


def insert_many(db: sqlite3.Connection, table: str, rows: list[tuple[Any, ...]]) -> None:
    db.executemany(f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(BY_NAME[table].columns))})', rows)
