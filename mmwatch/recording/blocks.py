"""Many consecutive intervals as one, straight from the tables: what :func:`mmwatch.model.merge.merge` would make."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from mmwatch.model.accounting import sum_maps
from mmwatch.model.interval import Cost, Interval, Loss, Node
from mmwatch.model.merge import merge_shrinkers
from mmwatch.model.nodes import elsewhere_of
from mmwatch.model.rows import Rows
from mmwatch.recording import checks, values
from mmwatch.recording.checks import Place, integer


def joined(
    batch: Sequence[Mapping[str, Any]],
    rows: Rows,
    numbers: npt.NDArray[np.int64],
    nodes: Mapping[int, Sequence[Node]],
) -> Interval:
    """These rows of table intervals as one interval.

    :param rows: of all of them, side by side; ``numbers`` has the interval of each, ascending.
    :param nodes: by interval.
    :raises Damage: a value is not what mmwatch writes.
    """
    at = [integer(Place("intervals", "interval"), found["interval"]) for found in batch]
    first = values.interval(batch[0], rows=rows[:0])
    last = values.interval(batch[-1], rows=rows, nodes=tuple(nodes.get(at[-1], ())))

    def column(name: str, missing: Any = 0) -> list[Any]:
        return [found.get(name, missing) for found in batch]

    def figures(name: str) -> npt.NDArray[np.int64]:
        return checks.integers("intervals", name, column(name), at)

    def summed(name: str, check: Callable[[Place, Any], Mapping[str, int]]) -> dict[str, int]:
        """The sum of JSON objects, of which most are equal."""
        total: dict[str, int] = {}
        for source, times in Counter(column(name, None)).items():
            place = Place("intervals", name, at[column(name, None).index(source)])
            total = sum_maps(total, {key: value * times for key, value in check(place, source).items()})
        return total

    checks.times_s("intervals", "end_s", column("end_s", None), at)
    missed = column("missed_runs", None)
    return replace(
        last,
        duration_ns=int(figures("duration_ns").sum()),
        edge_begin_pages=first.edge_begin_pages,
        edge_begin_scanned_pages=first.edge_begin_scanned_pages,
        vmstat=_counters(column("vmstat", None), at),
        pressure={**last.pressure, **_waits(column("pressure", None), at, last.pressure)},
        shrinkers=merge_shrinkers(
            one for number, source in zip(at, column("shrinkers", None)) for one in values.shrinkers(number, source)
        ),
        elsewhere=elsewhere_of(rows, numbers, nodes),
        loss=Loss(
            lost=summed("lost", checks.counts),
            suppressed=summed("suppressed", checks.counts),
            missed_runs=None if None in missed else int(figures("missed_runs").sum()),
            **{name: int(figures(name).sum()) for name in values.LOSSES if name != "missed_runs"},
        ),
        cost=Cost(
            cpu_ns=int(figures("cost_cpu_ns").sum()),
            rss_bytes=int(figures("cost_rss_bytes").max()),
            table_rows=int(figures("cost_table_rows").max()),
            table_size=last.cost.table_size,
        ),
    )


def _counters(sources: Sequence[Any], at: Sequence[int]) -> dict[str, int]:
    """The sum of the counters of /proc/vmstat."""
    found = _table(sources)
    if found is not None:
        names, table = found
        if table.dtype == np.int64:
            return dict(zip(names, table.sum(axis=0).tolist()))
    return _sum(checks.counts(Place("intervals", "vmstat", row), source) for source, row in zip(sources, at))


def _waits(sources: Sequence[Any], at: Sequence[int], last: Mapping[str, float]) -> dict[str, float]:
    """Microseconds that tasks waited."""
    wanted = [name for name in last if name.endswith("_us")]
    found = _table(sources)
    if found is not None and set(wanted) <= set(found[0]):
        names, table = found
        return {name: table[:, names.index(name)].sum().item() for name in wanted}
    each = [checks.numbers(Place("intervals", "pressure", row), source) for source, row in zip(sources, at)]
    return {name: sum(one.get(name, 0) for one in each) for name in wanted}


def _table(sources: Sequence[Any]) -> tuple[list[str], npt.NDArray[Any]] | None:
    """Equal JSON objects of numbers as an array, by one call of the parser; None if they are not so simple."""
    with contextlib.suppress(ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        found = json.loads(f"[{','.join(sources)}]")
        names = list(found[0])
        if len(found) != len(sources) or not all(list(one) == names for one in found):
            return None
        figures = list(chain.from_iterable(one.values() for one in found))
        types = set(map(type, figures))
        if types <= {int, float} and all(map(str.isidentifier, names)):
            table = np.array(figures, np.int64 if types <= {int} else np.float64).reshape(len(found), -1)
            if (np.abs(table) <= checks.COUNT_MAX).all():
                return names, table
    return None


def _sum(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        total = sum_maps(total, part)
    return total
