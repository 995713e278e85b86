"""The columns: declared once, sorted with the unknown last, and never a zero for what is not known."""

from __future__ import annotations

import re

import numpy as np
import pytest
from make import make_interval, make_rows, make_session, random_rows

from mmwatch.model.arrangement import DEFAULT, DEFAULT_SORT, active_order, default_keys, is_active, sort_order
from mmwatch.model.columns import BY_KEY, COLUMNS, system_share
from mmwatch.model.groupings import GROUPINGS
from mmwatch.model.interval import CgroupMemory, Process
from mmwatch.model.measures import BY_NAME
from mmwatch.model.snapshot import Snapshot, take


def shown(snapshot: Snapshot, key: str) -> list[str]:
    return [BY_KEY[key].text(value) for value in BY_KEY[key].of(snapshot).tolist()]


def test_declarations_hold_together() -> None:
    assert len(BY_KEY) == len(COLUMNS)
    assert DEFAULT.keys() == GROUPINGS.keys()
    assert {key for keys in DEFAULT.values() for key in keys.split()} | {DEFAULT_SORT} <= BY_KEY.keys()
    for column in COLUMNS:
        assert re.fullmatch(r"[a-z0-9_]+", column.key)
        assert len(column.title) <= column.width
        assert set(column.needs) <= BY_NAME.keys(), column.key
        assert column.help.isascii()


@pytest.mark.parametrize("by", GROUPINGS)
@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.key)
def test_every_column_of_every_grouping(column: object, by: str) -> None:
    assert column in COLUMNS
    for rows in (make_rows(), random_rows(60, seed=1)):
        snapshot = take(make_session(), make_interval(rows), by)
        values = column.of(snapshot)
        assert values.shape == (len(snapshot.rows),)
        assert values.dtype == (object if column.left else float)
        assert all(isinstance(column.text(value), str) for value in values.tolist())
        for reverse in (False, True):
            assert sorted(sort_order(snapshot, column, reverse).tolist()) == list(range(len(snapshot.rows)))


@pytest.mark.parametrize("column", [column for column in COLUMNS if column.needs], ids=lambda column: column.key)
def test_a_column_without_its_measures_is_a_dash(column: object) -> None:
    assert column in COLUMNS
    for name in column.needs:
        snapshot = take(make_session(unknown=frozenset([name])), make_interval(random_rows(5, seed=1)))
        assert set(map(column.text, column.of(snapshot).tolist())) == {"-"}


@pytest.mark.parametrize(
    ("row", "dashes"),
    [
        ({}, {"efficiency", "priority", "overshoot", "p50", "p99", "system", "cgroup", "command", "futile", "longest"}),
        ({"path": "kswapd", "asked_pages": 7}, {"overshoot", "asked"}),
        ({"tgid": 0, "tid": 0}, {"pid"}),
        ({"node": -1}, {"node"}),
        ({"stall_ns": 9}, {"longest"}),  # the one under way has no length yet
    ],
)
def test_what_cannot_be_known_is_a_dash(row: dict[str, object], dashes: set[str]) -> None:
    snapshot = take(make_session(), make_interval(make_rows(row)))
    assert {key: shown(snapshot, key) for key in dashes} == {key: ["-"] for key in dashes}


def test_figures() -> None:
    row = {
        "tid": 101,
        "reclaims": 4,
        "reclaims_futile": 1,
        "asked_pages": 32,
        "reported_pages": 12342,
        "reclaimed_file_pages": 300,
        "reclaimed_anon_pages": 100,
        "scanned_file_pages": 500,
        "stall_ns": 250_000_000,
        "cpu_ns": 100_000_000,
        "stall_max_ns": 200_000_000,
        "priority_histogram": [1] + [0] * 11 + [9],
        "throttled_ns": [10_000_000, 0, 40_000_000, 0],
        "comm": b"python3",
        "node": 2,
    }
    processes = {100: Process(100, "python3", "python3 x.py", system_time_us=500_000)}
    snapshot = take(make_session(), make_interval(make_rows(row), duration_ns=500_000_000, processes=processes))
    wanted = {
        "pid": "100",
        "tid": "-",  # the row is a process
        "comm": "python3",
        "path": "memcg",
        "node": "2",
        "reclaimed": "800",
        "scanned": "1000",
        "efficiency": "80.0",
        "priority": "0",
        "overshoot": "386x",
        "stall": "50.0",
        "longest": "200ms",
        "reclaims": "8",
        "futile": "25.0",
        "asked": "64",
        "file": "600",
        "anon": "200",
        "cpu": "20.0",
        "asleep": "30.0",
        "system": "20.0",
        "throttled": "10.0",
        "reclaims_total": "4",
        "reclaimed_total": "400",
        "scanned_total": "500",
        "stall_total": "250ms",
        "command": "python3 x.py",
    }
    assert {key: shown(snapshot, key) for key in wanted} == {key: [text] for key, text in wanted.items()}


@pytest.mark.parametrize(
    ("nodes", "text"), [([3], "3"), ([0, 1], "0,1"), ([0, 1, 2, 3], "0-3"), ([0, 2, 3], "0,2,3"), ([-1, 4], "4")]
)
def test_nodes(nodes: list[int], text: str) -> None:
    snapshot = take(make_session(), make_interval(make_rows(*({"node": node} for node in nodes))))
    assert shown(snapshot, "node") == [text]


def test_sorted_with_the_unknown_last() -> None:
    asked = [5, 9, 7]
    rows = make_rows(
        *({"tgid": 10 + number, "asked_pages": pages} for number, pages in enumerate(asked)),
        {"tgid": 1, "asked_pages": 100, "path": "kswapd"},
    )
    snapshot = take(make_session(), make_interval(rows))
    tgids = snapshot.rows["tgid"]
    assert tgids[sort_order(snapshot, BY_KEY["asked"])].tolist() == [11, 12, 10, 1]
    assert tgids[sort_order(snapshot, BY_KEY["asked"], reverse=True)].tolist() == [10, 12, 11, 1]


def test_text_is_sorted_upwards_with_the_unknown_last() -> None:
    rows = make_rows(*({"tgid": number, "cgroup_id": number} for number in (1, 2, 3)))
    snapshot = take(make_session(), make_interval(rows, cgroups={1: "/b", 3: "/a"}))
    tgids = snapshot.rows["tgid"]
    assert tgids[sort_order(snapshot, BY_KEY["cgroup"])].tolist() == [3, 1, 2]
    assert tgids[sort_order(snapshot, BY_KEY["cgroup"], reverse=True)].tolist() == [1, 3, 2]


def test_equal_rows_stay_in_the_order_of_their_pids() -> None:
    random = np.random.default_rng(1)
    rows = make_rows(*({"tgid": int(number)} for number in random.permutation(50) + 1))
    for reverse in (False, True):
        snapshot = take(make_session(), make_interval(rows))
        order = sort_order(snapshot, BY_KEY["stall"], reverse)
        assert snapshot.rows["tgid"][order].tolist() == list(range(1, 51))


def test_waking_kswapd_is_not_reclaim() -> None:
    rows = make_rows({"tgid": 1, "kswapd_wakeups": 5}, {"tgid": 2, "scanned_anon_pages": 1}, {"tgid": 3, "stall_ns": 7})
    snapshot = take(make_session(), make_interval(rows))
    assert dict(zip(snapshot.rows["tgid"].tolist(), is_active(snapshot).tolist())) == {1: False, 2: True, 3: True}
    assert snapshot.rows["tgid"][active_order(snapshot, BY_KEY["stall"])].tolist() == [3, 2]


@pytest.mark.parametrize("key", ["priority", "efficiency"])
def test_where_low_is_worse_the_lowest_comes_first(key: str) -> None:
    rows = make_rows(
        *(
            {
                "tgid": 10 + n,
                "priority_histogram": np.eye(13, dtype=int)[priority].tolist(),
                "scanned_file_pages": 100,
                "reclaimed_file_pages": priority,
            }
            for n, priority in enumerate((12, 0, 5))
        ),
        {"tgid": 20},
    )
    snapshot = take(make_session(), make_interval(rows))
    order = sort_order(snapshot, BY_KEY[key])
    assert snapshot.rows["tgid"][order].tolist() == [11, 12, 10, 20]
    reverse = sort_order(snapshot, BY_KEY[key], reverse=True)
    assert snapshot.rows["tgid"][reverse].tolist() == [10, 12, 11, 20]


def test_system_time_is_never_exceeded() -> None:
    """The kernel samples it, so it may be less than the CPU time of a part of it."""
    shares = system_share(np.array([50e6, 150e6, 5e6]), np.array([100_000.0, 100_000.0, 0.0]))
    assert shares[:2].tolist() == [0.5, 1.0]
    assert np.isnan(shares[2])


@pytest.mark.parametrize(
    ("by", "width", "differ", "one_node", "keys"),
    [
        ("task", None, False, True, DEFAULT["task"]),
        ("task", None, True, True, DEFAULT["task"] + " cgroup"),
        ("task", 79, False, True, DEFAULT["task"]),
        ("task", 79, True, True, "pid comm path reclaimed efficiency priority overshoot stall longest cgroup"),
        ("task", 79, True, False, "pid comm path node reclaimed priority overshoot stall longest cgroup"),
        ("task", 39, False, False, "pid comm stall longest"),
        ("node", 39, True, True, "node stall longest reclaims p99"),
    ],
)
def test_default_columns(by: str, width: int | None, differ: bool, one_node: bool, keys: str) -> None:
    assert default_keys(by, width, differ, one_node) == keys.split()


def test_refaults_and_faults_of_cgroups() -> None:
    rows = make_rows({"cgroup_id": 5}, {"cgroup_id": 6, "tgid": 7})
    memory = {5: CgroupMemory(None, None, 1, 0, {"workingset_refault_file": 40, "workingset_refault_anon": 2}, {})}
    interval = make_interval(
        rows, cgroup_memory=memory, duration_ns=2_000_000_000, processes={7: Process(7, major_faults=8)}
    )
    assert shown(take(make_session(), interval, "cgroup"), "refaults") == ["21", "-"]
    assert shown(take(make_session(), interval, "cgroup"), "faults") == ["-", "-"]  # not read
    assert sorted(shown(take(make_session(), interval, "task"), "faults")) == ["-", "4"]
    assert shown(take(make_session(), interval, "node"), "refaults") == ["-"]
