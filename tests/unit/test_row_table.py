"""The table of rows on plain arrays: the tests write what the BPF programs would write."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmwatch.abi import CONTROL, PATHS, ROW, Fold, Member
from mmwatch.kernel.table import HIGH_SLEEP_MAX_NS, INSIDE_MAX, SHARED_ROWS, Changes, RowTable


def field(member: Member) -> tuple[Any, ...]:
    if member.slots and member.type != "char":
        return (member.name, member.format, (member.slots,))
    return (member.name, member.format)


ROWS = np.dtype([field(member) for member in ROW])
FIRST = SHARED_ROWS
"""The first row that belongs to a thread."""


class Made:
    """A table, its control, and a clock that stands still."""

    def __init__(self, entries: int = 64) -> None:
        self.rows = np.zeros(entries, ROWS)
        self.control = np.zeros(1, [field(member) for member in CONTROL])[0]
        self.now_ns = 1000
        self.runtimes_ns: dict[tuple[int, int], int] = {}
        self.table = RowTable(
            self.rows, self.control, lambda: self.now_ns, lambda tgid, tid: self.runtimes_ns.get((tgid, tid))
        )

    def add(self, index: int, **values: Any) -> None:
        """What an event adds to a row; a row that is new is made."""
        row = self.rows[index]
        if index >= FIRST and not row["state"]:
            row["state"], row["start_ns"] = 1, self.now_ns
        for name, value in values.items():
            row[name] = value if isinstance(value, bytes) else row[name] + value
        row["events"] += 1

    @property
    def slot(self) -> int:
        return int(self.control["epoch"]) & 1

    def read(self) -> Changes:
        self.table.begin()
        return self.table.take(self.table.look())


@pytest.fixture
def made() -> Made:
    return Made()


def test_only_growth_is_told_and_only_of_rows_that_changed(made: Made) -> None:
    made.add(
        FIRST, reclaims=5, throttled=np.array([1, 0, 0, 2], "u8"), tgid=7, comm=b"cc1", cgroup_id=3, gfp_flags=0x40
    )
    made.add(FIRST + 1, reclaims=1, tgid=8)
    first = made.read()
    assert (first.rows["tgid"].tolist(), first.rows["reclaims"].tolist()) == ([7, 8], [5, 1])
    assert (first.time_ns, first.in_use) == (1000, 2)
    made.add(FIRST, reclaims=2, throttled=np.array([0, 3, 0, 0], "u8"), priority_histogram=np.eye(16, dtype="u4")[12])
    (row,) = made.read().rows
    assert (row["reclaims"], row["throttled"].tolist(), row["priority_histogram"][12]) == (2, [0, 3, 0, 0], 1)
    assert (row["tgid"], row["comm"], row["cgroup_id"], row["start_ns"], row["gfp_flags"]) == (7, b"cc1", 3, 1000, 0x40)
    assert len(made.read().rows) == 0


def test_every_counter_is_subtracted_and_nothing_else(made: Made) -> None:
    """Oracle: the folds, member by member."""
    random = np.random.default_rng(1)

    def fill() -> None:
        for member in ROW:
            if member.type != "char" and member.name not in ("events", "state", "open_since_ns", "next"):
                made.rows[member.name][FIRST] = random.integers(1000, 2000, made.rows[member.name][FIRST].shape)
        made.add(FIRST)

    fill()
    made.read()
    before = made.rows[FIRST].copy()
    fill()
    (row,) = made.read().rows
    for member in ROW:
        now = made.rows[member.name][FIRST]
        if member.name == "cpu_ns":  # never more than the time in reclaim
            continue
        if member.fold in (Fold.SUM, Fold.HISTOGRAM):
            np.testing.assert_array_equal(row[member.name], np.subtract([now], [before[member.name]])[0], member.name)
        elif member.fold in (Fold.KEY, Fold.LATEST):
            np.testing.assert_array_equal(row[member.name], now, member.name)


def test_counters_wrap_around(made: Made) -> None:
    """A histogram's element has 32 bits."""
    made.rows["stall_histogram"][FIRST, 3] = 0xFFFFFFFF
    made.add(FIRST)
    made.read()
    made.rows["stall_histogram"][FIRST, 3] = 4
    made.add(FIRST)
    assert made.read().rows["stall_histogram"][0, 3] == 5


def test_the_time_of_a_reclaim_under_way_counts_as_it_passes(made: Made) -> None:
    made.add(FIRST, tgid=7)
    made.rows["open_since_ns"][FIRST] = 900
    (row,) = made.read().rows
    assert (row["stall_ns"], row["stall_max_ns"].tolist()) == (100, [100, 100])
    made.now_ns = 1500  # no event in between
    (row,) = made.read().rows
    assert (row["stall_ns"], row["stall_max_ns"].tolist()) == (500, [600, 600])
    made.rows["open_since_ns"][FIRST] = 0
    made.rows["stall_max_ns"][FIRST, made.slot] = 700
    made.now_ns = 9000
    made.add(FIRST, stall_ns=700, reclaims=1)
    (row,) = made.read().rows
    assert (row["stall_ns"], row["reclaims"], row["stall_max_ns"].tolist()) == (100, 1, [700, 700])


def test_the_time_of_a_reclaim_under_way_may_move_to_another_row(made: Made) -> None:
    """The first batch was on another node, so the time given to the first row is taken back."""
    made.rows["open_since_ns"][FIRST] = 900
    made.add(FIRST)
    made.read()
    made.rows["open_since_ns"][FIRST] = 0
    made.rows["events"][FIRST] += 1
    made.rows["open_since_ns"][FIRST + 1] = 900
    made.add(FIRST + 1)
    made.now_ns = 1100
    assert made.read().rows["stall_ns"].view(np.int64).tolist() == [-100, 200]


def test_reclaims_under_way_are_told_the_oldest_first(made: Made) -> None:
    """open_since_ns moves on whenever time is added to the row; the age counts from the begin."""
    for place, (since, began) in enumerate(((900, 800), (700, 700), (0, 100), (950, 300))):
        made.add(FIRST + place, tid=place, open_began_ns=began)
        made.rows["open_since_ns"][FIRST + place] = since
    assert made.read().inside["tid"].tolist() == [3, 1, 0]
    assert made.read().inside["open_began_ns"].tolist() == [300, 700, 800]  # nothing has happened since
    made.rows["open_since_ns"][FIRST + 3] = 0
    assert made.read().inside["tid"].tolist() == [1, 0]
    made = Made(1024)
    many = slice(FIRST, FIRST + INSIDE_MAX + 5)
    made.rows["state"][many] = 1
    made.rows["open_since_ns"][many] = 900
    made.rows["open_began_ns"][many] = np.arange(INSIDE_MAX + 5, 0, -1)
    assert made.read().inside["open_began_ns"].tolist() == list(range(1, INSIDE_MAX + 1))


def test_cpu_time_of_a_reclaim_under_way_is_asked_for(made: Made) -> None:
    """It slept most of the time. What the thread says now is not counted again when the reclaim ends."""
    made.add(FIRST, tgid=7, tid=8, open_runtime_ns=10_000)
    made.rows["open_since_ns"][FIRST] = 500
    made.runtimes_ns[7, 8] = 10_020
    (row,) = made.read().rows
    assert (row["stall_ns"], row["cpu_ns"]) == (500, 20)
    made.now_ns = 2000
    made.runtimes_ns[7, 8] = 10_060
    (row,) = made.read().rows
    assert (row["stall_ns"], row["cpu_ns"]) == (1000, 40)
    made.rows["open_since_ns"][FIRST] = 0
    made.now_ns = 9000
    made.add(FIRST, stall_ns=1600, cpu_ns=100)
    (row,) = made.read().rows
    assert (row["stall_ns"], row["cpu_ns"]) == (100, 40)


def test_cpu_time_of_a_thread_that_cannot_be_asked_comes_when_the_reclaim_ends(made: Made) -> None:
    made.add(FIRST, tgid=7, tid=8, open_runtime_ns=10_000)
    made.rows["open_since_ns"][FIRST] = 500
    (row,) = made.read().rows
    assert (row["stall_ns"], row["cpu_ns"]) == (500, 0)
    made.rows["open_since_ns"][FIRST] = 0
    made.add(FIRST, stall_ns=900, cpu_ns=300)
    (row,) = made.read().rows
    assert (row["stall_ns"], row["cpu_ns"]) == (400, 300)


def test_cpu_time_is_never_more_than_time_in_reclaim_and_is_not_lost(made: Made) -> None:
    """The scheduler's figure may lag by a tick at the begin of a reclaim, which then seems too long."""
    made.add(FIRST, stall_ns=100, cpu_ns=130)
    assert made.read().rows["cpu_ns"].tolist() == [100]
    made.add(FIRST, stall_ns=100, cpu_ns=40)
    assert made.read().rows["cpu_ns"].tolist() == [70]
    made.rows["state"][FIRST] = 2
    made.add(FIRST)
    made.read()
    made.add(FIRST, stall_ns=5, cpu_ns=5)
    assert made.read().rows["cpu_ns"].tolist() == [5]


def test_the_time_of_a_sleep_under_way_counts_as_it_passes_but_not_for_ever(made: Made) -> None:
    made.add(FIRST, high_since_ns=400)
    assert made.read().rows["high_sleep_ns"].tolist() == [600]
    made.now_ns = 3000
    assert made.read().rows["high_sleep_ns"].tolist() == [2000]
    made.rows[FIRST]["high_since_ns"] = 0  # read between the two writes at its end
    assert len(made.read().rows) == 0
    made.add(FIRST, high_sleep_ns=2700)
    assert made.read().rows["high_sleep_ns"].tolist() == [100]
    made.add(FIRST, high_since_ns=3000)  # its end is missed
    made.now_ns = 9 * 10**9
    assert made.read().rows["high_sleep_ns"].tolist() == [HIGH_SLEEP_MAX_NS]
    assert len(made.read().rows) == 0


def test_one_of_several_looks_is_taken_and_the_rest_comes_next(made: Made) -> None:
    made.add(FIRST, reclaims=1, tgid=7, pending_pages=30)
    made.table.begin()
    first = made.table.look()
    made.now_ns = 1100
    made.add(FIRST, reclaims=2)
    made.add(FIRST + 1, reclaims=4, tgid=8)
    made.rows["state"][FIRST + 1] = 2
    second = made.table.look()
    assert (first.pending_pages, first.time_ns, second.time_ns) == (30, 1000, 1100)
    taken = made.table.take(first)
    assert (taken.rows["reclaims"].tolist(), taken.freed.tolist(), taken.in_use) == ([1], [], 1)
    later = made.read()
    assert (later.rows["reclaims"].tolist(), later.freed.tolist()) == ([2, 4], [FIRST + 1])


def test_maxima_are_those_since_the_last_reading(made: Made) -> None:
    for value, others in ((500, 0), (300, 0), (0, 1), (200, 0)):
        slot = made.slot
        if value:
            made.rows["stall_max_ns"][FIRST, slot] = max(made.rows["stall_max_ns"][FIRST, slot], value)
            made.rows["reclaimed_max_pages"][FIRST, slot] = value
        made.add(FIRST, reclaims=others)
        (row,) = made.read().rows
        assert row["stall_max_ns"].tolist() == [value] * 2
        assert row["reclaimed_max_pages"].tolist() == [value] * 2
        assert made.slot != slot


def test_a_maximum_written_while_the_slots_are_switched_is_not_lost(made: Made) -> None:
    """The kernel side may still use the slot it looked up before."""
    made.add(FIRST)
    old = made.slot
    made.read()
    made.rows["stall_max_ns"][FIRST, old] = 900
    made.add(FIRST)
    made.read()
    made.add(FIRST)
    assert made.read().rows["stall_max_ns"][0, 0] in (0, 900)  # late or with the last interval, never twice
    made.add(FIRST)
    made.read()
    made.add(FIRST)
    assert made.read().rows["stall_max_ns"][0, 0] == 0


def test_rows_of_threads_that_are_gone_are_read_and_given_back(made: Made) -> None:
    made.add(FIRST, reclaims=1)
    made.add(FIRST + 1, reclaims=2)
    made.read()
    made.rows["state"][FIRST] = 2
    made.add(FIRST, reclaims=3)
    changes = made.read()
    assert (changes.rows["reclaims"].tolist(), changes.freed.tolist(), changes.in_use) == ([3], [FIRST], 1)
    assert made.rows[FIRST] == np.zeros((), ROWS)
    again = made.read()
    assert (len(again.rows), again.freed.tolist(), again.in_use) == (0, [], 1)


def test_a_row_that_is_used_again_starts_from_nothing(made: Made) -> None:
    made.add(FIRST, reclaims=9, stall_ns=50, tgid=7)
    made.rows["stall_max_ns"][FIRST] = 50
    made.rows["state"][FIRST] = 2
    made.read()
    made.now_ns = 2000
    made.add(FIRST, reclaims=1, stall_ns=4, tgid=8)
    made.rows["stall_max_ns"][FIRST, made.slot] = 4
    (row,) = made.read().rows
    assert (row["reclaims"], row["stall_ns"], row["tgid"], row["start_ns"]) == (1, 4, 8, 2000)
    assert row["stall_max_ns"].tolist() == [4, 4]


def test_a_thread_that_ends_without_anything_new_gives_its_row_back_all_the_same(made: Made) -> None:
    made.add(FIRST, reclaims=1)
    made.read()
    made.rows["state"][FIRST] = 2
    changes = made.read()
    assert (len(changes.rows), changes.freed.tolist()) == (0, [FIRST])


def test_overflow_rows_are_one_a_path_and_never_given_back(made: Made) -> None:
    assert made.rows["path"][:SHARED_ROWS].tolist() == list(range(len(PATHS)))
    assert set(made.rows["node"][:SHARED_ROWS]) == set(made.rows["cpu_node"][:SHARED_ROWS]) == {-1}
    path = PATHS.index("memcg")
    made.add(path, reclaims=4)
    changes = made.read()
    assert (changes.rows["path"].tolist(), changes.rows["reclaims"].tolist()) == ([path], [4])
    assert (changes.freed.tolist(), changes.in_use) == ([], 0)
    made.add(path, reclaims=1)
    assert made.read().rows["reclaims"].tolist() == [1]


@pytest.mark.parametrize("used", [1, 1000, 1024 - FIRST, 1024 - FIRST + 1, 2500, 4096 - FIRST])
def test_the_table_is_scanned_as_far_as_it_has_been_used(used: int) -> None:
    made = Made(4096)
    made.rows["state"][FIRST : FIRST + used] = 1
    made.rows["events"][FIRST : FIRST + used] = 1
    changes = made.read()
    assert (len(changes.rows), changes.in_use) == (used, used)
    scanned = made.table._scan_to
    assert FIRST + used <= scanned <= min(4096, FIRST + used + 2 * 1024)


def test_a_small_table_is_scanned_whole() -> None:
    made = Made(FIRST + 1)
    made.add(FIRST, reclaims=1)
    assert made.read().rows["reclaims"].tolist() == [1]


def test_a_layout_that_cannot_be_read_in_words_is_refused() -> None:
    members = [field(member) for member in ROW]
    shifted = np.dtype([("odd", "u2"), *members])
    with pytest.raises(ValueError, match="not laid out as the reader expects: events"):
        RowTable(np.zeros(16, shifted), np.zeros(1, [field(member) for member in CONTROL])[0])
