"""Sessions, rows and intervals for tests. A test sets only the fields it is about."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmwatch.model.interval import Interval, Session
from mmwatch.model.measures import MEASURES, PATHS
from mmwatch.model.rows import ROW_DTYPE, Rows

VMSTAT = {"pgsteal_anon": 0, "pgsteal_file": 0, "pgscan_anon": 0, "pgscan_file": 0}


def make_session(**fields: Any) -> Session:
    return Session(**{"start_s": 1_700_000_000.0, "kernel": "6.18.5", "hostname": "host", "version": "0", **fields})


def make_rows(*rows: dict[str, Any]) -> Rows:
    """Rows of zeros except for the given fields. ``path`` is a name; ``tid`` defaults to ``tgid``."""
    made = np.zeros(len(rows), ROW_DTYPE)
    for row, values in zip(made, rows):
        values = {"tgid": 100, "path": "memcg", "comm": b"task", "start_ns": 1, **values}
        values.setdefault("tid", values["tgid"])
        values["path"] = PATHS.index(values["path"])
        for name, value in values.items():
            row[name] = value
    return made


def random_rows(count: int, seed: int, tasks: int = 50, nodes: int = 4) -> Rows:
    """Rows with something in every measure."""
    random = np.random.default_rng(seed)
    rows = np.zeros(count, ROW_DTYPE)
    rows["tgid"] = random.integers(1, tasks + 1, count)
    rows["tid"] = rows["tgid"] * 10 + random.integers(0, 3, count)
    rows["path"] = random.integers(0, len(PATHS), count)
    rows["node"] = random.integers(-1, nodes, count)
    rows["cgroup_id"] = random.integers(0, 5, count)
    rows["start_ns"] = random.permutation(count) + 1
    rows["comm"] = [b"task%d" % number for number in rows["tgid"]]
    for measure in MEASURES:
        rows[measure.name] = random.integers(0, 1000, (count, measure.length) if measure.length else count)
    rows["target_id"] = random.integers(0, 5, count)
    return rows


def make_interval(rows: Rows | None = None, **fields: Any) -> Interval:
    return Interval(
        **{
            "end_s": 1_700_000_001.0,
            "duration_ns": 1_000_000_000,
            "rows": make_rows() if rows is None else rows,
            "vmstat": VMSTAT,
            **fields,
        }
    )
