"""The arrangement of the screen, which the user can save."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mmwatch.model.arrangement import DEFAULT_SORT, RECORDED, default_keys
from mmwatch.model.columns import BY_KEY, Column
from mmwatch.model.groupings import GROUPINGS

TREES = ("", "parent", "cgroup")
"""No tree, by parent process, by memory cgroup."""
TREES_OF = {"task": TREES, "thread": TREES, "cgroup": ("", "cgroup")}
"""Those that each grouping has."""
THEMES = ("terminal-dark", "terminal-light", "dark", "light")
"""The first two use the terminal's own colours and background."""

MORE = {
    "task": ("p99", "cgroup", "cpu", "asleep", "futile", "command"),
    "thread": ("p99", "cgroup", "cpu", "asleep", "futile", "command"),
    "comm": ("reclaims", "p99", "futile", "asked", "file", "anon"),
    "node": ("p50", "futile", "asked", "file", "anon"),
    "cgroup": ("faults", "p50", "p99", "futile", "asked", "file", "anon"),
    "target": ("p50", "p99", "futile", "asked", "file", "anon"),
    "path": ("p50", "futile", "asked", "file", "anon"),
}
"""Columns that a wide terminal shows besides the default ones, by grouping."""


@dataclass
class Layout:
    """How the table is shown.

    :param columns: keys by grouping, if not the default ones.
    :param cumulative: totals since the start instead of the last interval.
    :param active: leave out rows that did nothing in the last interval.
    :param interval_s: None: as on the command line.
    """

    by: str = "task"
    sort: str = DEFAULT_SORT
    reverse: bool = False
    columns: dict[str, list[str]] = field(default_factory=dict)
    cumulative: bool = False
    active: bool = False
    tree: str = ""
    theme: str = THEMES[0]
    interval_s: float | None = None

    def shown(self, width: int = 0, cgroups_differ: bool = False, one_node: bool = False) -> tuple[Column, ...]:
        """The columns; cumulative ones are sums instead of rates.

        :param width: cells of the table; more columns join the default ones if they fit.
        :param cgroups_differ: as for :func:`mmwatch.model.columns.default_keys`; ``one_node`` likewise.
        """
        chosen = self.columns.get(self.by)
        keys = chosen or default_keys(self.by, width - 1 if width else None, cgroups_differ, one_node)
        columns = dict.fromkeys(self._column(key) for key in keys)
        room = width - sum(column.width + 1 for column in columns)
        for column in map(self._column, () if chosen else MORE[self.by]):
            if column not in columns and column.width < room:
                columns[column] = None
                room -= column.width + 1
        # What takes the width that is left stands at the end.
        return tuple(sorted(columns, key=lambda column: column.grows and column.key != self.by and not chosen))

    def sort_column(self) -> Column:
        """The column the table is sorted by."""
        return self._column(self.sort)

    def _column(self, key: str) -> Column:
        return BY_KEY[RECORDED.get(key, key) if self.cumulative else key]

    def to_json(self) -> dict[str, Any]:
        """The layout in the form that :meth:`from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: Any) -> Layout:
        """:raises ValueError: ``saved`` is not what :meth:`to_json` makes; the message says what is wrong."""
        if not isinstance(saved, Mapping):
            raise ValueError("not an object")
        unknown = set(saved) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"no such setting: {min(map(str, unknown))}")
        layout = cls(**saved)
        allowed: list[tuple[str, Any, Any]] = [
            ("by", layout.by, GROUPINGS),
            ("sort", layout.sort, BY_KEY),
            ("tree", layout.tree, TREES),
            ("theme", layout.theme, THEMES),
            *((name, getattr(layout, name), (True, False)) for name in ("reverse", "cumulative", "active")),
        ]
        for name, value, choices in allowed:
            if not isinstance(value, (str, bool)) or value not in choices:
                raise ValueError(f"{name} cannot be {value!r}")
        if not isinstance(layout.columns, dict) or not set(layout.columns) <= set(GROUPINGS):
            raise ValueError("columns are not by grouping")
        for keys in layout.columns.values():
            if not isinstance(keys, list) or not all(isinstance(key, str) and key in BY_KEY for key in keys):
                raise ValueError(f"no such columns: {keys!r}")
        if layout.interval_s is not None and not (
            isinstance(layout.interval_s, (int, float)) and 0.02 <= layout.interval_s <= 86400
        ):
            raise ValueError(f"interval_s cannot be {layout.interval_s!r}")
        return layout
