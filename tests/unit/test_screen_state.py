"""What the screen shows, and in which order, without a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make import make_interval, make_rows, make_session, random_rows
from test_display_plain import host

from mmwatch.display.screen.layout import Layout
from mmwatch.display.screen.lines import column_at, row_spans, title_spans
from mmwatch.display.screen.position import go_to
from mmwatch.display.screen.view import Frame, build
from mmwatch.display.spans import Line, Span, Tone, fitted, width_of
from mmwatch.display.text import spark, to_ascii
from mmwatch.model import history as history_module
from mmwatch.model.accounting import accounting
from mmwatch.model.columns import BY_KEY
from mmwatch.model.groupings import GROUPINGS
from mmwatch.model.history import FADE_S, FADING_MAX, RATES_MAX, History
from mmwatch.model.interval import Interval, Process
from mmwatch.model.merge import merge
from mmwatch.recording import Reader, Writer
from mmwatch.session.playback import Playback

BUSY = {"reclaims": 1, "stall_ns": 1000, "reclaimed_file_pages": 32, "scanned_file_pages": 64}


def interval_of(*tgids: int, at_s: float = 0.0, **fields: Any) -> Interval:
    rows = make_rows(*({"tgid": tgid, "comm": b"task%d" % tgid, **BUSY, "stall_ns": 1000 * tgid} for tgid in tgids))
    return make_interval(rows, end_s=1_700_000_000.0 + at_s, **fields)


def filled(*intervals: Interval) -> History:
    history = History(make_session())
    for interval in intervals:
        history.add(interval)
    return history


def built(history: History, wanted: str = "", **layout: Any) -> Frame:
    frame = build(history, Layout(**layout), wanted)
    assert frame is not None
    return frame


def tgids(frame: Frame) -> list[int]:
    return [int(frame.snapshot.rows["tgid"][row]) if row >= 0 else -1 for row in frame.order.tolist()]


def plain(line: Line) -> str:
    return "".join(span.text for span in line)


# ---- history ----


def test_everything_since_the_start_is_the_sum_of_its_parts() -> None:
    """Oracle: merge of the model, and the account."""
    parts = [
        make_interval(random_rows(40, seed), vmstat={"pgsteal_anon": seed, "pgsteal_file": 1}) for seed in range(5)
    ]
    history = filled(*parts)
    whole = parts[0]
    for part in parts[1:]:
        whole = merge(whole, part)
    found = history.since_start()
    assert found is not None
    for name in ("reclaims", "reclaimed_file_pages", "stall_ns"):
        assert found.rows[name].sum() == whole.rows[name].sum()
    assert history.total is not None
    assert history.total.reclaimed_pages == accounting(history.session, whole).reclaimed_pages
    assert history.total.vmstat_reclaimed_pages == sum(range(5)) + 5


def test_what_is_kept_is_bounded_and_the_sums_are_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "ROWS_MAX", 50)
    history = History(make_session())
    for number in range(200):
        first = 1 + 20 * number
        names = {tgid: Process(tgid, f"task{tgid}") for tgid in range(first, first + 20)}
        history.add(interval_of(*names, at_s=number, processes=names, cgroups={number: "/a"}))
    whole = history.since_start()
    assert whole is not None
    assert len(whole.rows) <= 2 * 50 + 1
    assert len(whole.processes) <= len(whole.rows)
    assert len(whole.cgroups) <= 1
    assert whole.rows["reclaims"].sum() == 200 * 20
    assert whole.rows["stall_ns"].sum() == sum(1000 * tgid for tgid in range(1, 4001))
    assert len(history.rates) <= RATES_MAX
    assert len(history._fading) <= FADING_MAX
    assert len(history._names) <= FADING_MAX


def test_what_was_active_fades() -> None:
    names = {7: Process(7, "seven", "seven --up")}
    history = filled(interval_of(5, 7, processes=names), interval_of(5, at_s=1))
    frame = built(history)
    assert tgids(frame) == [5, 7]
    assert frame.active[frame.order].tolist() == [True, False]
    identity = frame.snapshot.identity(int(frame.order[1]))
    assert (identity["comm"], identity["cmdline"]) == ("task7", "seven --up")
    assert tgids(built(history, active=True)) == [5]
    assert tgids(built(history, cumulative=True)) == [5, 7]
    history.add(interval_of(5, at_s=FADE_S + 2))
    assert tgids(built(history)) == [5]
    assert tgids(built(history, cumulative=True)) == [5, 7]


def test_a_task_that_comes_back_is_there_once() -> None:
    history = filled(interval_of(5, 7), interval_of(5, at_s=1), interval_of(5, 7, at_s=2))
    assert tgids(built(history)) == [7, 5]
    assert built(history).snapshot.accounting.reclaimed_pages == 64


def test_who_only_woke_kswapd_is_not_shown() -> None:
    rows = make_rows({"tgid": 5, "kswapd_wakeups": 3}, {"tgid": 6, **BUSY})
    assert tgids(built(filled(make_interval(rows)))) == [6]


def test_a_storm_that_frees_nothing_shows_over_time() -> None:
    rows = make_rows(
        {"path": "node", "reclaims": 500, "reclaims_futile": 500, "stall_ns": 300_000_000},
        {"path": "node", "tid": 7, "stall_ns": 200_000_000},
        {"path": "direct", "stall_ns": 0},
    )
    assert filled(make_interval(rows)).rates[-1] == {"node": 0.5}


# ---- the table ----


@pytest.mark.parametrize("by", GROUPINGS)
@pytest.mark.parametrize("cumulative", [False, True])
def test_every_grouping_finds_its_rows_again(by: str, cumulative: bool) -> None:
    session, interval = host()
    history = History(session)
    history.add(interval)
    frame = built(history, by=by, cumulative=cumulative)
    assert len(frame.order)
    assert [frame.find(frame.key(line)) for line in range(len(frame.order))] == list(range(len(frame.order)))
    assert frame.find(("no", "such")) is None if by == "task" else True


def test_sorting_and_its_reverse() -> None:
    history = filled(interval_of(3, 9, 5))
    assert tgids(built(history)) == [9, 5, 3]
    assert tgids(built(history, reverse=True)) == [3, 5, 9]
    assert tgids(built(history, sort="pid")) == [9, 5, 3]
    assert tgids(built(history, sort="comm")) == [3, 5, 9]


def test_so_many_rows_and_no_more() -> None:
    frame = build(filled(interval_of(3, 9, 5)), Layout(), limit=2)
    assert frame is not None
    assert tgids(frame) == [9, 5]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("TASK9", [9]), ("9", [9]), ("memcg", [9, 3]), ("--quiet", [3]), ("/web", [3]), ("nobody", []), ("\x1b[2J", [])],
)
def test_filter(wanted: str, found: list[int]) -> None:
    rows = make_rows(
        {"tgid": 9, "comm": b"Task9", **BUSY, "stall_ns": 9}, {"tgid": 3, "comm": b"x", "cgroup_id": 4, **BUSY}
    )
    interval = make_interval(rows, processes={3: Process(3, "x", "x --quiet")}, cgroups={4: "/web"})
    frame = built(filled(interval), wanted, sort="pid")
    assert tgids(frame) == found
    assert frame.matching == (len(found), 2)


def family() -> Interval:
    """1 -> 10 (make) -> 11, 12; 1 -> 20; 30 and 31 of a parent that did nothing; 40, whose parent is unknown."""
    parents = {10: 1, 11: 10, 12: 11, 20: 1, 30: 99, 31: 99, 40: None}
    names = {tgid: Process(tgid, f"p{tgid}", ppid=ppid) for tgid, ppid in parents.items()}
    return interval_of(*parents, processes=names)


def test_tree_by_parent() -> None:
    """1 is above 10 and 20; only what is in the table, or above two of it, has a line."""
    frame = built(filled(family()), tree="parent")
    shown = [
        (frame.names[-1 - row] if row < 0 else int(frame.snapshot.rows["tgid"][row]), depth)
        for row, depth in frame.select(0, 99)
    ]
    assert shown == [("99", 0), (31, 1), (30, 1), ("1", 0), (20, 1), (10, 1), (11, 2), (12, 3), (40, 0)]
    assert frame.headings is not None
    sums = dict(zip(frame.names, frame.headings.rows["stall_ns"].tolist()))
    assert sums["99"] == 61_000
    assert sums["1"] == 53_000


def test_tree_by_parent_with_a_loop() -> None:
    """A number that is used again makes a process its own grandparent."""
    names = {5: Process(5, "a", ppid=6), 6: Process(6, "b", ppid=5)}
    assert sorted(tgids(built(filled(interval_of(5, 6, processes=names)), tree="parent")))[-2:] == [5, 6]


def test_tree_by_cgroup() -> None:
    rows = make_rows(*({"tgid": tgid, "cgroup_id": tgid % 2, **BUSY} for tgid in range(1, 6)))
    frame = built(filled(make_interval(rows, cgroups={1: "/odd"})), tree="cgroup")
    assert sorted(frame.names) == ["(no single cgroup)", "/odd"]
    assert len(frame.order) == 7
    assert frame.find(("heading", "/odd")) is not None


def test_a_tree_of_cgroups_adds_up_what_is_below_each() -> None:
    """A cgroup alone on its line has no heading; one with rows of its own and others below it has both."""
    paths = {1: "/prod/web", 2: "/prod/batch/report", 3: "/prod/batch", 4: "/dev/ci/job"}
    rows = make_rows(*({"tgid": 10 + n, "cgroup_id": n, **BUSY, "stall_ns": 1000 * n} for n in paths))
    history = filled(make_interval(rows, cgroups=paths))

    def shown(by: str) -> list[tuple[object, int]]:
        frame = build(history, Layout(by=by, tree="cgroup"))
        assert frame is not None
        groups = frame.snapshot.rows["cgroup_id"].tolist()
        return [
            (frame.names[-1 - row] if row < 0 else paths[groups[row]].rpartition("/")[2], depth)
            for row, depth in frame.select(0, 99)
        ]

    assert shown("cgroup") == [
        ("/prod", 0),
        ("/prod/batch", 1),
        ("batch", 2),
        ("report", 2),
        ("web", 1),
        ("job", 0),
    ]
    assert shown("task")[:2] == [("/prod", 0), ("/prod/batch", 1)]
    assert ("/dev/ci/job", 0) in shown("task")
    frame = build(history, Layout(by="cgroup", tree="cgroup"))
    assert frame is not None
    assert frame.headings is not None
    sums = dict(zip(frame.names, frame.headings.rows["stall_ns"].tolist()))
    assert (sums["/prod"], sums["/prod/batch"]) == (6000, 5000)


def test_processes_that_have_ended_are_not_shown_among_rates() -> None:
    history = filled(make_interval(make_rows({"tgid": 1, **BUSY}, {"tgid": 2, **BUSY}), end_s=1.0))
    history.add(make_interval(make_rows({"tgid": 2, **BUSY}), end_s=2.0))
    for gone, tgids in ((False, [2, 1]), (True, [2])):
        frame = build(history, Layout(), exited=lambda tgid, gone=gone: gone)  # type: ignore[misc]
        assert frame is not None
        assert frame.snapshot.rows["tgid"][frame.order].tolist() == tgids


# ---- lines ----


def test_signs_stand_where_colour_might_not_be_seen() -> None:
    session, interval = host()
    history = History(session)
    history.add(interval)
    frame = built(history)
    columns = Layout().shown()
    lines = row_spans(frame, columns, [column.width for column in columns], 0, 99, lambda tgid: None)
    by_comm = {plain(line)[9:].split()[0]: line for line in lines}
    bad = by_comm["oracle_worker+"]
    assert plain(bad).startswith("!")
    assert {span.text.strip() for span in bad if span.tone is Tone.BAD} == {"!", "0 99.1x   91.2"}
    assert plain(by_comm["python3"]).startswith(" ")


def test_priority_says_nothing_of_soft_limit_reclaim() -> None:
    """It begins at 0."""
    soft = {**BUSY, "path": "softlimit", "priority_histogram": [1] + [0] * 12, "stall_ns": 1}
    frame = built(filled(make_interval(make_rows(soft))))
    columns = (BY_KEY["pid"], BY_KEY["priority"])
    (line,) = row_spans(frame, columns, [7, 3], 0, 9, lambda tgid: None)
    assert plain(line) == "     100   0"
    assert all(span.tone is Tone.PLAIN for span in line)


def test_a_process_that_ended_is_marked() -> None:
    frame = built(filled(interval_of(5, 7), interval_of(at_s=1)))
    columns = (BY_KEY["pid"], BY_KEY["comm"])
    asked = []
    lines = row_spans(frame, columns, [7, 10], 0, 9, lambda tgid: asked.append(tgid) or tgid == 5)
    assert sorted(map(plain, lines)) == ["       7 task7     ", "x      5 task5     "]
    assert all(span.tone is Tone.DIM for line in lines for span in line)
    assert sorted(asked) == [5, 7]


def test_columns_are_found_by_their_cells() -> None:
    columns = (BY_KEY["pid"], BY_KEY["comm"])
    title = plain(title_spans(columns, columns[0], [7, 14]))
    assert title == "     PID COMM          "
    assert [column and column.key for x in (1, 7, 9, 22, 40) if (column := column_at(columns, [7, 14], x)) or True] == [
        "pid",
        "pid",
        "comm",
        "comm",
        None,
    ]


@pytest.mark.parametrize("width", range(12))
def test_lines_are_cut_to_the_terminal(width: int) -> None:
    line = [Span("abc"), Span("日本"), Span("de", Tone.BAD)]
    found = fitted(line, width)
    assert width_of(found) <= width
    assert plain(found) == plain(line) if width >= 9 else plain(found).endswith("+" * (width > 0))


def test_sparks() -> None:
    assert spark([]) == ""
    assert spark([0, 0]) == "  "
    assert spark([0, 1e-9, 50, 100]) == " ▁▄█"
    assert to_ascii(spark([0, 1, 50, 100])) == " .-#"
    assert to_ascii("é日±") == "???~"


# ---- layout ----


def test_a_layout_is_kept() -> None:
    layout = Layout(by="node", sort="pid", columns={"task": ["pid", "comm"]}, tree="parent", interval_s=2.0)
    assert Layout.from_json(layout.to_json()) == layout


@pytest.mark.parametrize(
    "saved",
    [
        [],
        "x",
        {"by": "user"},
        {"by": ["task"]},
        {"sort": "nonsense"},
        {"reverse": 1.5},
        {"columns": {"task": ["nonsense"]}},
        {"columns": {"user": ["pid"]}},
        {"columns": ["pid"]},
        {"columns": {"task": "pid"}},
        {"interval_s": 0},
        {"interval_s": "1"},
        {"theme": "pink"},
        {"other": 1},
    ],
)
def test_a_broken_layout_is_refused(saved: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Layout.from_json(saved)


def test_totals_take_the_place_of_rates() -> None:
    keys = [column.key for column in Layout(cumulative=True).shown()]
    assert {"reclaimed_total", "scanned_total", "stall_total"} < set(keys)
    assert Layout(cumulative=True).sort_column().key == "stall_total"


# ---- replay ----


@pytest.mark.parametrize(
    ("typed", "place"),
    [("50%", 4), ("100%", 9), ("101%", None), ("", None), ("x", None), ("nan%", None), ("23:59:52", 1), ("00:00", 9)],
)
def test_places_in_a_recording(tmp_path: Path, typed: str, place: int | None) -> None:
    """A recording over midnight; times are local."""
    from datetime import datetime

    begin_s = datetime(2026, 1, 1, 23, 59, 50).timestamp()
    with Writer(tmp_path / "a.mmw", make_session(start_s=begin_s)) as writer:
        for number in range(1, 11):
            writer.write(make_interval(make_rows({}), end_s=begin_s + number, duration_ns=10**9))
    with Reader(tmp_path / "a.mmw") as reader:
        played = Playback(reader)
        assert go_to(played, typed) == (place is not None)
        assert played.position().index == (place or 0)


def test_a_frame_of_ten_thousand_rows_is_whole() -> None:
    rows = random_rows(10_000, 3, tasks=20_000)
    frame = built(filled(make_interval(rows)))
    assert len(np.unique(frame.order)) == len(frame.order) == len(frame.snapshot.rows)


def test_how_long_reclaim_has_gone_on() -> None:
    """A pause of up to ten seconds does not end it."""
    history = History(make_session())

    def add(seconds: float, *paths: str) -> None:
        rows = make_rows(*({"path": path, "stall_ns": 10**6} for path in paths))
        history.add(make_interval(rows, duration_ns=int(seconds * 1e9)))

    add(1, "memcg")
    assert history.lasts_s("memcg") == (1.0, True)
    add(5, "direct")
    assert history.lasts_s("direct") == (5.0, False)
    add(2, "memcg", "direct")
    assert (history.lasts_s("memcg"), history.lasts_s("direct")) == ((8.0, True), (7.0, False))
    add(9)
    assert history.lasts_s("memcg") == (17.0, True)
    add(2)
    assert history.lasts_s("memcg") is None
    add(1, "memcg")
    assert history.lasts_s("memcg") == (1.0, False)
    assert history.lasts_s("node") is None
