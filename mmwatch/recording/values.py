"""From what SQLite returns to sessions, intervals and arrays, each value checked."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from mmwatch.model.interval import CgroupMemory, Cost, Inside, Interval, Loss, Node, Probe, Process, Session, Shrinker
from mmwatch.model.measures import BY_NAME as MEASURE
from mmwatch.model.measures import PATHS, Fold
from mmwatch.recording import checks
from mmwatch.recording.checks import COUNT_MAX, Place, integer, maybe
from mmwatch.recording.pack import RawNames, dense
from mmwatch.recording.schema import NULL_FOR, PROCESS_TIMES

_OTHER = PATHS.index("other")
LOSSES = ("missed_runs", "unmatched_begin", "unmatched_end", "under_way", "table_full")


def select(names: Sequence[str]) -> str:
    """The columns of a SELECT; NULL becomes the number that means *unknown* in arrays."""
    return ", ".join(f'ifnull("{name}", {NULL_FOR[name]})' if name in NULL_FOR else f'"{name}"' for name in names)


class Arrays:
    """Makes structured arrays of tuples."""

    def __init__(self, named_paths: Mapping[Any, Any]) -> None:
        """:param named_paths: the file's own numbers of paths. Unknown paths become ``other``."""
        self._names = RawNames()
        self._paths = np.full(256, _OTHER, np.uint32)
        for number, name in named_paths.items():
            if type(number) is int and 0 <= number < 256 and name in PATHS:
                self._paths[number] = PATHS.index(name)

    def array(
        self, table: str, dtype: np.dtype[np.void], names: Sequence[str], found: list[tuple[Any, ...]]
    ) -> npt.NDArray[np.void]:
        """Columns ``names`` of these tuples as an array; a tuple begins with the number of its row or interval.

        :raises Damage: a value is not what mmwatch writes.
        """
        array = np.zeros(len(found), dtype)
        if not found:
            return array
        numbers: Sequence[Any]
        numbers, *columns = zip(*found)
        for name, values in zip(names, columns):
            if name == "comm":
                array[name] = self._comms(table, values, numbers)
            elif name == "path":
                array[name] = self._paths[np.minimum(checks.integers(table, name, values, numbers), 255)]
            elif name in MEASURE and MEASURE[name].fold is Fold.HISTOGRAM:
                array[name] = _histograms(table, name, values, numbers, MEASURE[name].length)
            else:
                array[name] = checks.integers(table, name, values, numbers)
        return array

    def _comms(self, table: str, values: Sequence[Any], numbers: Sequence[Any]) -> list[bytes]:
        if set(map(type, values)) - {str}:
            index = next(index for index, value in enumerate(values) if type(value) is not str)
            Place(table, "comm", numbers[index]).damaged("not a text")
        return [self._names[value] for value in values]


def _histograms(
    table: str, name: str, values: Sequence[Any], numbers: Sequence[Any], length: int
) -> npt.NDArray[np.int64]:
    with contextlib.suppress(ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        counts = dense(values, length)
        if counts.min(initial=0) >= 0 and counts.max(initial=0) <= COUNT_MAX:
            return counts
    # One by one, to find the damaged one.
    counts = np.zeros((len(values), length), np.int64)
    for index, (value, number) in enumerate(zip(values, numbers)):
        place = Place(table, name, number)
        if type(value) is not str:
            place.damaged("not a text")
        for bucket, count in checks.counts(place, value).items():
            if not (
                bucket.isascii() and bucket.isdecimal() and len(bucket) < 4 and int(bucket) < length and count >= 0
            ):
                place.damaged("not a histogram")
            counts[index, int(bucket)] = count
    return counts


def session(found: Mapping[str, Any], missing: set[str], probes: Sequence[Sequence[Any]]) -> Session:
    """The one row of table session.

    :param missing: measures the file has no column for.
    :raises Damage: a value is not what mmwatch writes; other functions here likewise.
    """

    def place(column: str) -> Place:
        return Place("session", column)

    interval_s = checks.real(place("interval_s"), found.get("interval_s", 1.0))
    if not 0 < interval_s <= checks.DURATION_NS_MAX / 1e9:
        place("interval_s").damaged("out of range")
    return Session(
        start_s=checks.time_s(place("start_s"), found.get("start_s")),
        **{
            name: checks.text(place(name), found[name])
            for name in ("kernel", "hostname", "version", "incomparable")
            if name in found
        },
        page_size=integer(place("page_size"), found.get("page_size", 4096)),
        interval_s=interval_s,
        filter=checks.scalars(place("filter"), found.get("filter")),
        unknown=checks.names(place("unknown"), found.get("unknown", "[]")) | missing,
        settings=checks.scalars(place("settings"), found.get("settings")),
        gfp_flags=checks.flags(place("gfp_flags"), found.get("gfp_flags")),
        topology=checks.topology(place("topology"), found.get("topology")),
        since_boot=checks.counts(place("since_boot"), found.get("since_boot"), checks.SINCE_BOOT_MAX),
        uptime_s=checks.time_s(place("uptime_s"), found.get("uptime_s") or 0),
        probes=tuple(
            Probe(
                *(checks.text(Place("probes", field.name, row), value) for field, value in zip(fields(Probe), values))
            )
            for row, *values in probes
        ),
    )


def interval(found: Mapping[str, Any], **rest: Any) -> Interval:
    """One row of table intervals; ``rest`` are the fields from other tables."""
    row = integer(Place("intervals", "interval"), found.get("interval"))

    def place(column: str) -> Place:
        return Place("intervals", column, row)

    def counted(column: str) -> int:
        return integer(place(column), found.get(column, 0))

    def perhaps(column: str) -> int | None:
        known: int | None = maybe(integer, place(column), found.get(column))
        return known

    return Interval(
        end_s=checks.time_s(place("end_s"), found.get("end_s")),
        duration_ns=counted("duration_ns"),
        edge_begin_pages=perhaps("edge_begin_pages") or 0,
        edge_end_pages=perhaps("edge_end_pages") or 0,
        edge_begin_scanned_pages=perhaps("edge_begin_scanned_pages"),
        edge_end_scanned_pages=perhaps("edge_end_scanned_pages"),
        vmstat=checks.counts(place("vmstat"), found.get("vmstat")),
        pressure=checks.numbers(place("pressure"), found.get("pressure")),
        settings=checks.scalars(place("settings"), found.get("settings")),
        memory=checks.counts(place("memory"), found.get("memory")),
        kernel_log=checks.lines(place("kernel_log"), found.get("kernel_log", "[]")),
        kswapd=checks.node_states(place("kswapd"), found.get("kswapd")),
        inside=inside(row, found.get("inside")),
        shrinkers=shrinkers(row, found.get("shrinkers")),
        loss=Loss(
            lost=checks.counts(place("lost"), found.get("lost")),
            suppressed=checks.counts(place("suppressed"), found.get("suppressed")),
            missed_runs=perhaps("missed_runs"),
            **{name: counted(name) for name in LOSSES if name != "missed_runs"},
        ),
        cost=Cost(**{field.name: counted(f"cost_{field.name}") for field in fields(Cost)}),
        **rest,
    )


def inside(row: Any, source: Any) -> tuple[Inside, ...]:
    """Column inside of table intervals."""

    def number(one: Mapping[str, Any], name: str) -> int:
        return integer(Place("intervals", name, row), one.get(name))

    def place(name: str) -> Place:
        return Place("intervals", f"inside.{name}", row)

    return tuple(
        Inside(
            number(one, "tgid"),
            number(one, "tid"),
            checks.text(place("comm"), one.get("comm")),
            path if (path := checks.text(place("path"), one.get("path"))) in PATHS else PATHS[_OTHER],
            None if one.get("node") is None else number(one, "node"),
            number(one, "age_ns"),
        )
        for one in checks.objects(Place("intervals", "inside", row), source)
    )


def shrinkers(row: Any, source: Any) -> tuple[Shrinker, ...]:
    """Column shrinkers of table intervals."""
    place = Place("intervals", "shrinkers", row)
    return tuple(
        Shrinker(
            checks.text(place, one.get("name")),
            *(integer(place, one.get(name)) for name in ("calls", "objects", "shrinker_ns")),
        )
        for one in checks.objects(place, source)
    )


def nodes(found: Sequence[tuple[Any, ...]]) -> dict[Any, list[Node]]:
    """Rows of table nodes by interval; each is its interval and the fields of a :class:`Node` in order."""
    if not found:
        return {}
    intervals, *columns = zip(*found)
    for field, figures in zip(fields(Node), columns):
        rows: Sequence[Any] = intervals
        if field.name != "node" and None in figures:
            rows = [row for row, figure in zip(rows, figures) if figure is not None]
            figures = tuple(figure for figure in figures if figure is not None)
        checks.integers("nodes", field.name, figures, rows)
    by_interval: dict[Any, list[Node]] = {}
    for interval, *row in found:
        by_interval.setdefault(interval, []).append(Node(*row))
    return by_interval


def cgroup_memory(row: Any, number: Any, *figures: Any) -> tuple[int, CgroupMemory]:
    """One row of table cgroup_memory: the cgroup's number, and its figures in order."""
    limit, high, usage, hits = (
        maybe(integer, Place("cgroup_memory", field.name, row), value)
        for field, value in zip(fields(CgroupMemory)[:4], figures)
    )
    if usage is None:
        Place("cgroup_memory", "usage_bytes", row).damaged("not a whole number")
    grown, levels = (
        checks.counts(Place("cgroup_memory", name, row), source)
        for name, source in zip(("grown", "levels"), figures[4:])
    )
    memory = CgroupMemory(limit, high, usage, hits, grown, levels)
    return integer(Place("cgroup_memory", "cgroup_id", row), number) % (1 << 64), memory


def process(row: Any, tgid: Any, comm: Any, cmdline: Any, ppid: Any, *more: Any) -> Process:
    """One row of table processes, with :data:`PROCESS_TIMES` and the placement from table process_times."""
    times, places = more[: len(PROCESS_TIMES)], more[len(PROCESS_TIMES) :]
    return Process(
        integer(Place("processes", "tgid", row), tgid),
        checks.text(Place("processes", "comm", row), comm),
        checks.text(Place("processes", "cmdline", row), cmdline),
        maybe(integer, Place("processes", "ppid", row), ppid),
        *(maybe(integer, Place("process_times", column, row), value) for column, value in zip(PROCESS_TIMES, times)),
        *(
            checks.text(Place("process_times", column, row), value or "")
            for column, value in zip(("mems_allowed", "mempolicy"), places)
        ),
    )
