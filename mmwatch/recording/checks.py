"""Checks each value of a recording where it is read: the file may come from anybody.

What passes has the type, the range and the length that mmwatch writes, so nothing behind the reader needs to doubt it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from mmwatch.model.interval import NodePlace
from mmwatch.recording.schema import NULL_FOR
from mmwatch.units import clean

COUNT_MAX = 1 << 53
"""No figure of one interval is larger: 2^53 ns are 104 days. Sums of a thousand of these still fit 64 bits."""
SINCE_BOOT_MAX = (1 << 64) - 1
INTERVAL_MAX = 1 << 40
DURATION_NS_MAX = 10**18
TIME_S_MAX = 250_000_000_000.0
"""In the year 9892; datetime ends with 9999."""
NODE_MAX = 4095
"""MAX_NUMNODES is 1024 at most (kernel: NODES_SHIFT, arch/*/Kconfig)."""
PAGE_BYTES_MAX = 1 << 24
TEXT_CHARACTERS_MAX = 1 << 16
_U32 = (1 << 32) - 1
_S64 = (-(1 << 63), (1 << 63) - 1)

RANGES: dict[str, tuple[int, int]] = {
    "interval": (1, INTERVAL_MAX),
    "intervals.duration_ns": (1, DURATION_NS_MAX),
    "duration_ns": (0, DURATION_NS_MAX),
    "node": (NULL_FOR["node"], NODE_MAX),
    "cpu_node": (NULL_FOR["cpu_node"], NODE_MAX),
    "stall_ns": (-COUNT_MAX, COUNT_MAX),
    "start_ns": (0, _S64[1]),
    "time_ns": (0, _S64[1]),
    "cgroup_id": _S64,
    "target_id": _S64,
    "page_size": (1, PAGE_BYTES_MAX),
    "rows": (0, 1 << 24),
    "start_monotonic_ns": _S64,
    **dict.fromkeys(("limit_bytes", "high_bytes", "usage_bytes"), (0, 1 << 62)),
    **dict.fromkeys(
        ("tgid", "tid", "ppid", "priority", "gfp_flags", "cpu", "kind", "path", "order", "file"), (0, _U32)
    ),
}
"""Lowest and highest value by column, or by table and column; of all others 0 and :data:`COUNT_MAX`."""


def _range(table: str, column: str) -> tuple[int, int]:
    return RANGES.get(f"{table}.{column}") or RANGES.get(column, (0, COUNT_MAX))


class Place(NamedTuple):
    """A value in the file. ``row`` is the number in the table's first column."""

    table: str
    column: str
    row: object = None

    def damaged(self, what: str) -> NoReturn:
        """:raises Damage: always."""
        row = "" if self.row is None else f", row {self.row}"
        raise Damage(f"table {self.table}, column {self.column}{row}: {what}")


class Damage(ValueError):
    """A value that mmwatch would not have written; the message says where."""


def integers(table: str, column: str, values: Sequence[Any], rows: Sequence[Any]) -> npt.NDArray[np.int64]:
    """A column of whole numbers.

    :param rows: the number of each value's row.
    :raises Damage: a value is none, or out of range.
    """
    if set(map(type, values)) - {int}:
        index = next(index for index, value in enumerate(values) if type(value) is not int)
        Place(table, column, rows[index]).damaged("not a whole number")
    found = np.fromiter(values, np.int64, len(values))
    low, high = _range(table, column)
    if len(found) and (found.min() < low or found.max() > high):
        index = int(np.flatnonzero((found < low) | (found > high))[0])
        Place(table, column, rows[index]).damaged("out of range")
    return found


def integer(place: Place, value: Any) -> int:
    """One whole number. :raises Damage: it is none, or out of range."""
    low, high = _range(place.table, place.column)
    if type(value) is not int:
        place.damaged("not a whole number")
    if not low <= value <= high:
        place.damaged("out of range")
    return value


def maybe(check: Callable[[Place, Any], Any], place: Place, value: Any) -> Any:
    """The checked value, or None for NULL."""
    return None if value is None else check(place, value)


def real(place: Place, value: Any) -> float:
    """A finite number. :raises Damage: it is none."""
    if type(value) not in (int, float) or not math.isfinite(value):
        place.damaged("not a number")
    return float(value)


def time_s(place: Place, value: Any) -> float:
    """A Unix time that the calendar can show. :raises Damage: it is none."""
    found = real(place, value)
    if not 0 <= found <= TIME_S_MAX:
        place.damaged("out of range")
    return found


def times_s(table: str, column: str, values: Sequence[Any], rows: Sequence[Any]) -> npt.NDArray[np.float64]:
    """A column of Unix times. :raises Damage: a value is none."""
    if set(map(type, values)) <= {int, float}:
        found = np.array(values, np.float64)
        if ((found >= 0) & (found <= TIME_S_MAX)).all():
            return found
    return np.array([time_s(Place(table, column, row), value) for value, row in zip(values, rows)])


def total(interval: Any, value: Any) -> int:
    """What ``total()`` made of a column of table rows: a number, unless the column has something else."""
    if type(value) is not float or not abs(value) < _S64[1]:
        raise Damage(f"table rows, interval {interval}: out of range")
    return int(value)


def text(place: Place, value: Any) -> str:
    """Text, cleaned. :raises Damage: it is none, is not UTF-8, or is far too long."""
    if type(value) is not str:
        place.damaged("not a text")
    if len(value) > TEXT_CHARACTERS_MAX:
        place.damaged("too long")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:  # a lone surrogate, from JSON
            place.damaged("not UTF-8")
    return clean(value)


# ---- JSON ----


def counts(place: Place, source: Any, most: int = COUNT_MAX) -> dict[str, int]:
    """A JSON object of whole numbers."""
    found = _object(place, source)
    if set(map(type, found.values())) - {int}:
        place.damaged("not an object of whole numbers")
    if found and not (min(found.values()) >= -most and max(found.values()) <= most):
        place.damaged("out of range")
    return found


def topology(place: Place, source: Any) -> dict[int, NodePlace]:
    """A JSON object by node: its CPUs as text, and the distances to other nodes, an object of whole numbers."""
    found = {}
    for node, value in _object(place, source).items():
        if not (isinstance(value, list) and len(value) == 2 and isinstance(value[1], dict)):
            place.damaged("not the place of a node")
        distances = {_node(place, other): distance for other, distance in value[1].items()}
        if not all(type(distance) is int and 0 <= distance <= NODE_MAX for distance in distances.values()):
            place.damaged("not a distance")
        found[_node(place, node)] = NodePlace(text(place, value[0]), distances)
    return found


def _node(place: Place, number: str) -> int:
    if not (number.isascii() and number.isdecimal() and len(number) < 5):
        place.damaged("not the number of a node")
    return int(number)


def flags(place: Place, source: Any) -> dict[str, int]:
    """A JSON object of bit masks."""
    found = _object(place, source)
    if not all(type(bits) is int and 0 <= bits < 1 << 64 for bits in found.values()):
        place.damaged("not an object of bit masks")
    return found


def numbers(place: Place, source: Any) -> dict[str, float]:
    """A JSON object of finite numbers."""
    found = _object(place, source)
    for value in found.values():
        if abs(real(place, value)) > COUNT_MAX:
            place.damaged("out of range")
    return found


def scalars(place: Place, source: Any) -> dict[str, Any]:
    """A JSON object of texts, numbers, booleans and null, or lists of them."""
    return {
        name: [_scalar(place, one) for one in value] if isinstance(value, list) else _scalar(place, value)
        for name, value in _object(place, source).items()
    }


def node_states(place: Place, source: Any) -> dict[int, str]:
    """A JSON object of text by number of the node."""
    return {_node(place, node): text(place, state) for node, state in _object(place, source).items()}


def objects(place: Place, source: Any) -> list[dict[str, Any]]:
    """A JSON array of objects, whose values are not checked; NULL is an empty one."""
    found = _parsed(place, "[]" if source is None else source, list)
    if not all(isinstance(one, dict) for one in found):
        place.damaged("not an array of objects")
    return found  # type: ignore[no-any-return]


def names(place: Place, source: Any) -> frozenset[str]:
    """A JSON array of texts."""
    return frozenset(lines(place, source))


def lines(place: Place, source: Any) -> tuple[str, ...]:
    """The same in its order."""
    return tuple(text(place, one) for one in _parsed(place, source, list))


def _scalar(place: Place, value: Any) -> Any:
    if isinstance(value, str):
        return text(place, value)
    if value is None or isinstance(value, bool):
        return value
    if abs(real(place, value)) > _S64[1]:
        place.damaged("out of range")
    return value


def _object(place: Place, source: Any) -> dict[str, Any]:
    found = _parsed(place, "{}" if source is None else source, dict)
    return found if all(map(str.isidentifier, found)) else {text(place, name): value for name, value in found.items()}


def _parsed(place: Place, source: Any, kind: type) -> Any:
    if type(source) is not str or len(source) > TEXT_CHARACTERS_MAX:
        place.damaged("too long" if type(source) is str else "not a text")
    try:
        found = json.loads(source)
    except (ValueError, RecursionError):
        place.damaged("not JSON")
    if not isinstance(found, kind):
        place.damaged(f"not a JSON {'object' if kind is dict else 'array'}")
    return found
