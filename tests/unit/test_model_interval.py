"""Folding and merging rows: nothing is lost, whatever the grouping."""

from __future__ import annotations

import numpy as np
import pytest
from make import make_interval, make_rows, random_rows

from mmwatch.abi import ROW
from mmwatch.model.groupings import GROUPINGS
from mmwatch.model.inside import inside_of
from mmwatch.model.interval import Inside, Loss, Process, Shrinker
from mmwatch.model.measures import MEASURES, Fold
from mmwatch.model.merge import merge
from mmwatch.model.rows import IDENTITY, ROW_DTYPE, Rows, fold_rows

KEYS = [list(keys) for keys in GROUPINGS.values()] + [[], ["tgid", "tid", "start_ns", "path", "node"]]


def slow_fold(rows: Rows, keys: list[str]) -> dict[tuple[int, ...], Rows]:
    """The same by the definition, a group at a time."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index in np.argsort(rows["start_ns"], kind="stable").tolist():
        groups.setdefault(tuple(rows[key][index].item() for key in keys), []).append(index)
    folded = {}
    for key, members in groups.items():
        row = rows[members[-1:]].copy()
        for measure in MEASURES:
            if measure.fold in (Fold.SUM, Fold.HISTOGRAM):
                row[measure.name] = rows[measure.name][members].sum(axis=0)
            elif measure.fold is Fold.MAX:
                row[measure.name] = rows[measure.name][members].max()
        folded[key] = row
    return folded


@pytest.mark.parametrize("keys", KEYS, ids="-".join)
@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_fold_is_what_it_says(count: int, keys: list[str]) -> None:
    rows = random_rows(count, seed=count)
    rows["stall_ns"] -= 500  # signed: time moves between the rows of a thread
    before = rows.copy()
    folded, members, groups = fold_rows(rows, keys)
    expected = slow_fold(rows, keys)
    assert len(folded) == len(expected)
    assert members.sum() == count
    assert np.array_equal(np.bincount(groups), members)
    for index, row in enumerate(folded):
        key = tuple(row[name].item() for name in keys)
        for name in ROW_DTYPE.names or ():
            assert np.array_equal(row[name], expected[key][name][0]), name
        assert all(np.array_equal(rows[name][groups == index], np.full(members[index], row[name])) for name in keys)
    assert np.array_equal(rows, before), "the rows that were folded are changed"


def test_folding_nothing_gives_nothing() -> None:
    folded, members, groups = fold_rows(make_rows(), ["tgid"])
    assert (len(folded), len(members), len(groups)) == (0, 0, 0)


def test_rows_that_share_nothing_stay_where_they_are() -> None:
    rows = make_rows({"tgid": 2}, {"tgid": 1})
    folded, _, groups = fold_rows(rows, ["tgid"])
    assert folded is rows
    assert groups.tolist() == [0, 1]


def test_a_slice_of_rows_folds() -> None:
    rows = random_rows(40, seed=3)
    assert np.array_equal(fold_rows(rows[::2], ["path"])[0], fold_rows(rows[::2].copy(), ["path"])[0])


def test_every_member_is_identity_or_measure_and_whole_words() -> None:
    assert ROW_DTYPE.names == (*IDENTITY, *(measure.name for measure in MEASURES))
    assert ROW_DTYPE.itemsize % 8 == 0
    for measure in MEASURES:
        base = ROW_DTYPE[measure.name].subdtype[0] if measure.length else ROW_DTYPE[measure.name]
        assert base.itemsize == 8, measure.name


def test_merge_preserves_sums() -> None:
    first, second = (make_interval(random_rows(200, seed)) for seed in (1, 2))
    second.rows["start_ns"][:100] = first.rows["start_ns"][:100]
    for name in ("tgid", "tid", "path", "node"):
        second.rows[name][:100] = first.rows[name][:100]
    merged = merge(first, second)
    assert 300 <= len(merged.rows) < 400
    for measure in MEASURES:
        parts = np.concatenate([first.rows[measure.name], second.rows[measure.name]])
        if measure.fold in (Fold.SUM, Fold.HISTOGRAM):
            assert np.array_equal(merged.rows[measure.name].sum(axis=0), parts.sum(axis=0)), measure.name
        elif measure.fold is Fold.MAX:
            assert merged.rows[measure.name].max() == parts.max()
    assert merged.duration_ns == 2_000_000_000


def test_merge_takes_the_latest_of_the_later_interval() -> None:
    merged = merge(make_interval(make_rows({"gfp_flags": 1})), make_interval(make_rows({"gfp_flags": 2})))
    assert merged.rows["gfp_flags"].tolist() == [2]


def test_merge_of_what_is_around_the_rows() -> None:
    first = make_interval(
        vmstat={"pgsteal_file": 3, "old": 1},
        edge_begin_pages=64,
        edge_end_pages=1,
        pressure={"some_avg10": 50.0, "some_us": 100},
        processes={1: Process(1, "a", "a --b", system_time_us=5), 2: Process(2, "gone")},
        loss=Loss(lost={"reclaim": 1}, missed_runs=2, unmatched_begin=1),
        cgroups={1: "/old"},
    )
    second = make_interval(
        vmstat={"pgsteal_file": 4},
        edge_begin_pages=1,
        edge_end_pages=32,
        pressure={"some_avg10": 1.0, "some_us": 11},
        processes={1: Process(1, "b", "", system_time_us=6)},
        loss=Loss(lost={"reclaim": 2, "batch": 1}, missed_runs=3, table_full=4),
        cgroups={2: "/new"},
    )
    merged = merge(first, second)
    assert merged.vmstat == {"pgsteal_file": 7, "old": 1}
    assert (merged.edge_begin_pages, merged.edge_end_pages) == (64, 32)
    assert merged.pressure == {"some_avg10": 1.0, "some_us": 111}
    assert merged.processes == {1: Process(1, "b", "a --b", system_time_us=11), 2: Process(2, "gone")}
    assert merged.loss == Loss({"reclaim": 3, "batch": 1}, {}, 5, 1, 0, 4)
    assert merged.cgroups == {1: "/old", 2: "/new"}


def test_runs_missed_that_nobody_could_count_once_are_not_known_in_all() -> None:
    merged = merge(make_interval(loss=Loss(missed_runs=3)), make_interval(loss=Loss(missed_runs=None)))
    assert merged.loss.missed_runs is None


def test_who_is_inside() -> None:
    """Text is clean, a node that is not known is None, and no age is negative."""
    table = np.zeros(2, [(member.name, member.format) for member in ROW])
    table["tgid"], table["tid"], table["path"], table["node"] = 7, [8, 9], 1, [-1, 2]
    table["comm"], table["open_began_ns"] = [b"a\x1b", b"b"], [400, 1001]
    assert inside_of(table, 1000) == (
        Inside(7, 8, "a\\x1b", "direct", None, 600),
        Inside(7, 9, "b", "direct", 2, 0),
    )


def test_of_two_intervals_those_inside_at_the_end_of_the_second_count() -> None:
    one, other = (make_interval(inside=(Inside(number, number, "a", "memcg", 0, 5),)) for number in (1, 2))
    assert merge(one, other).inside == other.inside


def test_shrinkers_of_one_name_are_added_up() -> None:
    one = make_interval(shrinkers=(Shrinker("a", 1, 2, 3), Shrinker("", 4, 5, 6)))
    other = make_interval(shrinkers=(Shrinker("b", 7, 8, 9), Shrinker("a", 10, 20, 30)))
    both = merge(one, other).shrinkers
    assert both == (Shrinker("a", 11, 22, 33), Shrinker("", 4, 5, 6), Shrinker("b", 7, 8, 9))
