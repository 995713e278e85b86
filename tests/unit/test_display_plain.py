"""The screen of ``mmwatch top`` and the text of ``mmwatch report``, as a person sees them."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import pytest
from make import VMSTAT, make_interval, make_rows, make_session, random_rows

from mmwatch.display.host import NODES_MAX, accounting_line, filter_text, gauge, host_lines, node_lines
from mmwatch.display.report import course_lines, refault_lines, report_lines
from mmwatch.display.spans import Tone, text_of
from mmwatch.display.table import empty_line, table_lines
from mmwatch.display.text import cells
from mmwatch.model.accounting import Accounting
from mmwatch.model.arrangement import DEFAULT, active_order
from mmwatch.model.columns import BY_KEY, COLUMNS
from mmwatch.model.course import Stretch
from mmwatch.model.groupings import GROUPINGS
from mmwatch.model.interval import Cost, Interval, Loss, Node, Process, Session
from mmwatch.model.merge import merge
from mmwatch.model.snapshot import Snapshot, take

HOSTILE = (
    b"\x1b[2J\x1b[31mred",
    b"line\nfeed\r",
    "e\u0301\u0301te\u0301".encode(),
    "日本語タスク".encode()[:15],
    "🐍🐍🐍".encode(),
    "\u202egpj.exe".encode(),
    b"\xff\xfe\x80",
)

pytestmark = pytest.mark.usefixtures("in_utc")


def row(tgid: int, comm: bytes, path: str, node: int, **fields: Any) -> dict[str, Any]:
    return {"tgid": tgid, "comm": comm, "path": path, "node": node, "cgroup_id": 1, **fields}


def host() -> tuple[Session, Interval]:
    """Two nodes; one of them below its low watermark, with node reclaim in the founding case's manner."""
    founding = {
        "reclaims": 31,
        "asked_pages": 992,
        "reported_pages": 98_304,
        "reclaimed_file_pages": 98_304,
        "scanned_file_pages": 112_001,
        "stall_ns": 912_000_000,
        "stall_max_ns": 41_300_000,
        "priority_histogram": [1, *[0] * 11, 30],
    }
    limit = {
        "reclaims": 30,
        "asked_pages": 960,
        "reported_pages": 960,
        "reclaimed_anon_pages": 960,
        "scanned_anon_pages": 1_920,
        "stall_ns": 1_234_567,
        "stall_max_ns": 61_000,
        "priority_histogram": [0] * 12 + [30],
    }
    rows = make_rows(
        row(4194303, b"oracle_worker_1", "node", 0, **founding),
        row(812, b"python3", "memcg", 0, **limit),
        row(812, b"python3", "memcg", 1, **limit),
        row(77, b"kswapd0", "kswapd", 0, reclaims=1, scanned_file_pages=64, stall_ns=900_000, stall_max_ns=900_000),
        *(row(900 + number, comm, "direct", 1, **limit) for number, comm in enumerate(HOSTILE)),
        row(5, b"idle", "other", 0, kswapd_wakeups=3),
    )
    seen = 98_304 + 9 * 960
    interval = make_interval(
        rows,
        vmstat={
            "pgsteal_anon": 9 * 960,
            "pgsteal_file": 98_304,
            "workingset_refault_file": 2_674,
            "pgscan_anon": 9 * 1_920,
            "pgscan_file": 112_065,
            "pgsteal_kswapd": 0,
            "pgscan_kswapd": 64,
        },
        edge_begin_pages=0,
        edge_end_pages=0,
        nodes=(
            Node(0, 13_000, 11_520, 14_400, 17_280, 4_000_000, 3_000_000, 700_000),
            Node(1, 900_000, 11_520, 14_400, 17_280, 4_000_000, 1_000, 0),
        ),
        pressure={"some_avg10": 12.34, "full_avg10": 5.0},
        settings={"zone_reclaim_mode": 1},
        cgroups={1: "/system.slice/db.service"},
        processes={812: Process(812, "python3", "python3 load.py --big")},
        loss=Loss(missed_runs=0),
        cost=Cost(cpu_ns=4_000_000, rss_bytes=38 << 20),
    )
    assert sum(interval.vmstat[name] for name in ("pgsteal_anon", "pgsteal_file")) == seen
    return make_session(kernel="6.18.5-amd64", settings={"zone_reclaim_mode": 0, "lru_gen_enabled": 7}), interval


def screen(width: int, by: str = "task", limit: int | None = None) -> str:
    session, interval = host()
    snapshot = take(session, interval, by)
    lines = host_lines(snapshot, width, snapshot.accounting)
    return "\n".join([*lines, "", *table(snapshot, width, limit)])


def table(snapshot: Snapshot, width: int | None, limit: int | None = None) -> list[str]:
    columns = [BY_KEY[key] for key in DEFAULT[snapshot.by].split()]
    return table_lines(snapshot, columns, active_order(snapshot, BY_KEY["stall"]), width, limit)


TOP_80 = """\
2023-11-14 22:13:21  host  6.18.5-amd64  interval 1.00s  mmwatch 0.4% 38M
NODE  FREE  0   min  low  high      MIN   LOW  HIGH  FILE  ANON RECL/s
   0   51M  [####m##..l....h....]   45M   56M   68M   11G  2.7G  99264
   1  3.4G  [####m####l####h####]   45M   56M   68M  3.9M    0B   7680
! node 1 had 3.4G free while node 0 gave up 98304 pages in 913ms
zone_reclaim_mode 1 (0 lets tasks use the other node)  LRU MGLRU
PSI some 12.3% full 5.0%  kswapd frees 0/s  refaults 2674/s
accounted 100.00% (106944 of 106944 pages, ±0)  scanned 100.00%  nothing lost
so far  accounted 100.00% (106944 of 106944 ±0)  scanned 100.00%  nothing lost

    PID COMM           PATH      NODE RECL/s SCAN/s EFF% PRI  OVER STALL%  WORST
4194303 oracle_worker+ node      0     98304   112k 87.8   0 99.1x   91.2 41.3ms
    812 python3        memcg     0,1    1920   3840 50.0  12  1.0x    0.2 61.0us
    900 \\x1b[2J\\x1b[3+ direct    1       960   1920 50.0  12  1.0x    0.1 61.0us
    901 line\\x0afeed\\+ direct    1       960   1920 50.0  12  1.0x    0.1 61.0us
    902 é́té            direct    1       960   1920 50.0  12  1.0x    0.1 61.0us
    903 日本語タス     direct    1       960   1920 50.0  12  1.0x    0.1 61.0us
    904 🐍🐍🐍         direct    1       960   1920 50.0  12  1.0x    0.1 61.0us
    905 \\u202egpj.exe  direct    1       960   1920 50.0  12  1.0x    0.1 61.0us
    906 \\xff\\xfe\\x80   direct    1       960   1920 50.0  12  1.0x    0.1 61.0us
     77 kswapd0        kswapd    0         0     64  0.0   -     -    0.1  900us"""

TOP_132 = """\
2023-11-14 22:13:21  host  6.18.5-amd64  interval 1.00s  mmwatch 0.4% 38M
NODE  FREE  0   min  low  high      MIN   LOW  HIGH  FILE  ANON RECL/s
   0   51M  [####m##..l....h....]   45M   56M   68M   11G  2.7G  99264
   1  3.4G  [####m####l####h####]   45M   56M   68M  3.9M    0B   7680
! node 1 had 3.4G free while node 0 gave up 98304 pages in 913ms
zone_reclaim_mode 1 (0 lets tasks use the other node)  LRU MGLRU  PSI some 12.3% full 5.0%  kswapd frees 0/s  \
refaults 2674/s
accounted 100.00% (106944 of 106944 pages, ±0)  scanned 100.00%  nothing lost
so far  accounted 100.00% (106944 of 106944 pages, ±0)  scanned 100.00%  nothing lost

    PID COMM           PATH      NODE RECL/s SCAN/s EFF% PRI  OVER STALL%  WORST
4194303 oracle_worker+ node      0     98304   112k 87.8   0 99.1x   91.2 41.3ms
    812 python3        memcg     0,1    1920   3840 50.0  12  1.0x    0.2 61.0us
    900 \\x1b[2J\\x1b[3+ direct    1       960   1920 50.0  12  1.0x    0.1 61.0us
    901 line\\x0afeed\\+ direct    1       960   1920 50.0  12  1.0x    0.1 61.0us
    902 é́té            direct    1       960   1920 50.0  12  1.0x    0.1 61.0us
    903 日本語タス     direct    1       960   1920 50.0  12  1.0x    0.1 61.0us
    904 🐍🐍🐍         direct    1       960   1920 50.0  12  1.0x    0.1 61.0us
    905 \\u202egpj.exe  direct    1       960   1920 50.0  12  1.0x    0.1 61.0us
    906 \\xff\\xfe\\x80   direct    1       960   1920 50.0  12  1.0x    0.1 61.0us
     77 kswapd0        kswapd    0         0     64  0.0   -     -    0.1  900us"""

REPORT_80 = """\
recorded 2023-11-14 22:13:20 +0000, for 1.00s, on host, kernel 6.18.5-amd64
no filter

PATH      RECLAIMS   RECL   SCAN EFF% PRI  OVER  STALL     P50     P99  WORST
node            31  98304   112k 87.8   0 99.1x  912ms       -       - 41.3ms
direct         210   6720  13440 50.0  12  1.0x 8.64ms       -       - 61.0us
memcg           60   1920   3840 50.0  12  1.0x 2.47ms       -       - 61.0us
kswapd           1      0     64  0.0   -     -  900us       -       -  900us

! node 1 had 3.4G free while node 0 gave up 98304 pages in 913ms
accounted 100.00% (106944 of 106944 pages, ±0)  scanned 100.00%  nothing lost
refaults 2674 pages came back soon after they were reclaimed, 2.5% of the pages
reclaimed (whole host)

    PID COMM           PATH      NODE RECL/s SCAN/s EFF% PRI  OVER STALL%  WORST
4194303 oracle_worker+ node      0     98304   112k 87.8   0 99.1x   91.2 41.3ms
    812 python3        memcg     0,1    1920   3840 50.0  12  1.0x    0.2 61.0us
    900 \\x1b[2J\\x1b[3+ direct    1       960   1920 50.0  12  1.0x    0.1 61.0us
... 7 more"""


def test_top_at_80_columns() -> None:
    assert screen(80) == TOP_80


def test_top_at_132_columns() -> None:
    assert screen(132) == TOP_132


def test_the_course_of_a_recording() -> None:
    begin_s = time.mktime((2026, 1, 2, 10, 0, 0, 0, 0, -1))
    pages = [0, 1, 500, 100_000, 0]
    course = [Stretch(begin_s + n, 1.5 if n == 0 else 1.0, count, count * 10_000) for n, count in enumerate(pages)]
    assert course_lines(course) == [
        "",
        "10:00:00 to 10:00:05, 1s each mark; most time in reclaim: 10:00:03 to 10:00:04",
        "RECL/s | ..# | up to 100k",
        "STALL% | ..# | up to 100.0",
    ]
    untold = [stretch._replace(reclaimed_pages=None) for stretch in course]
    assert [line[:6] for line in course_lines(untold)[2:]] == ["STALL%"]
    assert course_lines(course[:1]) == []


def test_report() -> None:
    session, interval = host()
    snapshot = take(session, interval)
    columns = [BY_KEY[key] for key in DEFAULT["task"].split()]
    lines = report_lines(snapshot, columns, active_order(snapshot, BY_KEY["stall"]), 80, 3)
    assert "\n".join(lines) == REPORT_80


@pytest.mark.parametrize("by", GROUPINGS)
@pytest.mark.parametrize("width", [40, 80, 132])
def test_no_line_is_too_wide_or_steers_the_terminal(by: str, width: int) -> None:
    session, interval = host()
    snapshot = take(dataclasses.replace(session, filter={"cgroup": "/a\x1b[2J", "pid": [1, 2]}), interval, by)
    everything = [column for column in COLUMNS if column.key not in ("tid",)]
    lines = host_lines(snapshot, width, snapshot.accounting) + table(snapshot, width)
    order = active_order(snapshot, BY_KEY["comm"])
    lines += report_lines(snapshot, everything, order, width)
    for line in lines:
        assert cells(line) <= width
        assert line.isprintable()


@pytest.mark.parametrize("by", GROUPINGS)
def test_default_columns_fit_80_cells(by: str) -> None:
    session, interval = host()
    lines = table(take(session, interval, by), 80)
    assert not any(line.endswith("+") for line in lines[:1])
    assert max(map(cells, table(take(session, make_interval(random_rows(99, 1)), by), 80))) <= 80


def test_widths_do_not_depend_on_the_rows() -> None:
    session, interval = host()
    empty = table(take(session, make_interval()), 80)
    assert table(take(session, interval), 80)[0] == empty[0]


def test_the_last_column_of_text_gets_the_rest_of_the_line() -> None:
    session, interval = host()
    snapshot = take(session, interval)
    columns = [BY_KEY["pid"], BY_KEY["command"]]
    order = np.flatnonzero(snapshot.rows["tgid"] == 812)
    assert table_lines(snapshot, columns, order, 20)[1] == "    812 python3 loa+"
    assert table_lines(snapshot, columns, order, 80)[1] == "    812 python3 load.py --big"


def test_without_a_limit_a_last_column_of_text_is_whole() -> None:
    session, interval = host()
    long = "x" * 500
    snapshot = take(session, dataclasses.replace(interval, processes={812: Process(812, "python3", long)}), "task")
    lines = table_lines(snapshot, [BY_KEY["pid"], BY_KEY["command"]], active_order(snapshot, BY_KEY["stall"]), None)
    assert f"    812 {long}" in lines


def test_without_a_limit_a_cgroup_is_whole_wherever_it_stands() -> None:
    _, interval = host()
    long = "/a" * 60
    groups = dict.fromkeys(interval.rows["cgroup_id"].tolist(), long)
    snapshot = take(make_session(), dataclasses.replace(interval, cgroups=groups), "cgroup")
    for line in table(snapshot, None)[1:2]:
        assert line.startswith(f"{long} ")


def test_what_was_cut_off_is_told() -> None:
    session, interval = host()
    lines = table(take(session, interval), 80, 2)
    assert (len(lines), lines[-1]) == (4, "... 8 more")


# ---- an empty table is never mute ----


@pytest.mark.parametrize(
    ("session", "vmstat", "says"),
    [
        ({}, VMSTAT, "no reclaim in this interval: nobody had to free memory"),
        ({}, {}, "no reclaim in this interval was seen"),
        ({}, {**VMSTAT, "pgsteal_file": 5}, "nothing seen, but the kernel counted 5 pages: see `mmwatch doctor`"),
        (
            {"filter": {"pid": 1}},
            {**VMSTAT, "pgsteal_file": 5},
            "no task that matches the filter reclaimed in this interval; the whole host: 5 pages",
        ),
    ],
)
def test_empty(session: dict[str, Any], vmstat: dict[str, int], says: str) -> None:
    snapshot = take(make_session(**session), make_interval(vmstat=vmstat))
    assert empty_line(snapshot) == says
    assert table(snapshot, None)[1:] == [says]


# ---- the account ----


def account(**fields: Any) -> Accounting:
    return Accounting(
        **{
            "reclaimed_pages": 99_264,
            "scanned_pages": 200,
            "vmstat_reclaimed_pages": 99_264,
            "vmstat_scanned_pages": 200,
            "edge_begin_pages": 0,
            "edge_end_pages": 0,
            "edge_begin_scanned_pages": 0,
            "edge_end_scanned_pages": 0,
            "incomparable": "",
            "loss": Loss(missed_runs=0),
            "vmstat": {},
            **fields,
        }
    )


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            {},
            "accounted 100.00% (99264 of 99264 pages, ±0)  scanned 100.00% ±0  nothing lost",
        ),
        (
            {"scanned_pages": 198, "edge_end_scanned_pages": 3, "loss": Loss(missed_runs=0, under_way=2)},
            "accounted 100.00% (99264 of 99264 pages, ±0)  scanned 99.00% within ±3  nothing lost, "
            "2 under way at the start",
        ),
        (
            {"edge_end_scanned_pages": None},
            "accounted 100.00% (99264 of 99264 pages, ±0)  scanned 100.00%  nothing lost",
        ),
        (
            {"incomparable": "a filter is on"},
            "accounted: not comparable (a filter is on)  nothing lost",
        ),
        (
            {"vmstat_reclaimed_pages": 0, "reclaimed_pages": 0, "scanned_pages": None, "loss": Loss()},
            "accounted - (0 of 0 pages, ±0)  scanned ?  missed ?",
        ),
        (
            {
                "edge_begin_pages": 60,
                "edge_end_pages": 4,
                "loss": Loss({"reclaim": 1, "batch": 2}, {"batch": 7}, 3, 4, 5, 6),
            },
            "accounted 100.00% (99264 of 99264 pages, ±64)  scanned 100.00% ±0  "
            "lost 3 suppressed 7 missed 3 no-end 4 no-begin 5 table-full 6",
        ),
    ],
)
def test_accounting(fields: dict[str, Any], says: str) -> None:
    assert accounting_line(account(**fields), None) == says


@pytest.mark.parametrize(
    ("seen", "counted", "percent"),
    [
        (10**9, 10**9, "100.00%"),
        (10**9 - 1, 10**9, "99.99%"),
        (10**9 + 1, 10**9, "100.01%"),
        (1, 3, "33.33%"),
        (0, 3, "0.00%"),
    ],
)
def test_a_hundred_percent_is_the_whole(seen: int, counted: int, percent: str) -> None:
    line = accounting_line(account(reclaimed_pages=seen, vmstat_reclaimed_pages=counted), 132)
    assert line.startswith(f"accounted {percent} (")


def test_a_narrow_account_leaves_out_only_zeros() -> None:
    assert accounting_line(account(), 80).endswith("  nothing lost")
    some = account(loss=Loss(missed_runs=None, unmatched_end=2))
    assert accounting_line(some, 80) == "accounted 100.00% (99264 of 99264 ±0)  scanned 100.00% ±0  missed ? no-begin 2"
    huge = account(reclaimed_pages=10**12, vmstat_reclaimed_pages=10**12)
    assert accounting_line(huge, 80, "so far  ").endswith("  nothing lost")


# ---- nodes ----


@pytest.mark.parametrize(
    ("free", "picture"),
    [
        (0, "[....m....l....h....]"),
        (50, "[##..m....l....h....]"),
        (100, "[####m....l....h....]"),
        (150, "[####m##..l....h....]"),
        (200, "[####m####l....h....]"),
        (330, "[####m####l####h....]"),
        (450, "[####m####l####h##..]"),
        (600, "[####m####l####h####]"),
        (9999, "[####m####l####h####]"),
        (None, ""),
    ],
)
def test_gauge(free: int | None, picture: str) -> None:
    assert gauge(Node(0, free, 100, 200, 300)) == picture


def lines_of(snapshot: Snapshot) -> list[str]:
    return [text_of(line) for line in node_lines(snapshot)]


@pytest.mark.parametrize(
    ("free", "kswapd", "tone"),
    [
        (99, "running", Tone.BAD),
        (100, "running", Tone.WARN),
        (200, "running", Tone.PLAIN),
        (200, "gave up", Tone.BAD),
        (None, "sleeping", Tone.PLAIN),
    ],
)
def test_how_bad_a_node_is(free: int | None, kswapd: str, tone: Tone) -> None:
    interval = make_interval(nodes=(Node(0, free, 100, 200, 300),), kswapd={0: kswapd})
    assert node_lines(take(make_session(), interval))[1][0].tone is tone


def test_a_node_without_watermarks() -> None:
    assert gauge(Node(0, 5, 0, 0, 0)) == "[####m####l####h####]"
    assert gauge(Node(0, 5)) == ""
    lines = lines_of(take(make_session(), make_interval(nodes=(Node(0, 5),))))
    assert lines[1].split() == ["0", "20K", "-", "-", "-", "-", "-", "0"]
    assert "unknown" in lines_of(take(make_session(), make_interval()))[0]


def test_many_nodes_are_folded_to_the_worst() -> None:
    free = [10_000] * 16
    free[3], free[12] = 150, 50
    nodes = tuple(Node(number, pages, 100, 200, 300) for number, pages in enumerate(free))
    rows = make_rows({"node": 9, "reclaimed_file_pages": 500}, {"node": -1, "reclaimed_file_pages": 7})
    lines = lines_of(take(make_session(), make_interval(rows, nodes=nodes)))
    assert len(lines) == 1 + NODES_MAX
    assert [int(line.split()[0]) for line in lines[1:-1]] == [0, 1, 2, 3, 4, 9, 12]
    assert lines[6].split()[-1] == "500"
    assert lines[-1] == " ... 9 more nodes, none of them below the high watermark"


def test_kswapd_per_node_where_it_is_known() -> None:
    nodes = (Node(0, 1, 1, 2, 3), Node(1, 1, 1, 2, 3))
    lines = lines_of(take(make_session(), make_interval(nodes=nodes, kswapd={1: "gave up"})))
    assert [line.rstrip().endswith(end) for line, end in zip(lines, ("KSWAPD", "  -", "  gave up"))] == [True] * 3


def test_a_rate_without_a_probe_is_a_dash() -> None:
    session = make_session(unknown=frozenset(["reclaimed_anon_pages"]))
    lines = lines_of(take(session, make_interval(random_rows(9, 1), nodes=(Node(0, 1, 1, 2, 3),))))
    assert lines[1].split()[-1] == "-"


# ---- what controls reclaim ----


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "zone_reclaim_mode ?  LRU ?"),
        ({"zone_reclaim_mode": None, "lru_gen_enabled": None}, "zone_reclaim_mode none  LRU classic"),
        ({"zone_reclaim_mode": 1, "lru_gen_enabled": 0}, "zone_reclaim_mode 1  LRU classic"),
        ({"zone_reclaim_mode": 0, "lru_gen_enabled": 7}, "zone_reclaim_mode 0  LRU MGLRU"),
    ],
)
def test_settings(settings: dict[str, Any], says: str) -> None:
    text = "\n".join(host_lines(take(make_session(settings=settings), make_interval()), 80))
    assert f"{says}  PSI off  kswapd ?" in text


def test_pages_that_came_back() -> None:
    """The one counter of old kernels, the two of newer ones, none; then a recording of several intervals."""
    for vmstat, says in (
        ({}, "refaults ?"),
        ({"workingset_refault": 7}, "refaults 7/s"),
        ({"workingset_refault_anon": 1, "workingset_refault_file": 2, "workingset_activate_file": 9}, "refaults 3/s"),
    ):
        snapshot = take(make_session(), make_interval(vmstat=vmstat))
        assert host_lines(snapshot, None)[-2].endswith(says)
    counts = {"pgsteal_anon": 1, "pgsteal_file": 7, "workingset_refault_file": 2}
    (line,) = refault_lines(take(make_session(), merge(*2 * [make_interval(vmstat=counts)])).accounting, None)
    assert line.endswith(" 4 pages came back soon after they were reclaimed, 25.0% of the pages reclaimed (whole host)")


@pytest.mark.parametrize(
    ("vmstat", "says"),
    [
        ({"pgsteal_kswapd": 0, "pgscan_kswapd": 0}, "kswapd idle"),
        ({"pgsteal_kswapd": 50, "pgscan_kswapd": 80}, "kswapd frees 50/s"),
        ({"pgsteal_kswapd": 0, "pgscan_kswapd": 80}, "kswapd frees 0/s"),
        ({"pgsteal_kswapd_dma": 1, "pgsteal_kswapd_normal": 2, "pgscan_kswapd_normal": 9}, "kswapd frees 3/s"),
    ],
)
def test_kswapd(vmstat: dict[str, int], says: str) -> None:
    assert says in "\n".join(host_lines(take(make_session(), make_interval(vmstat=vmstat)), 80))


def test_a_filter_is_named() -> None:
    chosen = {"pid": [12, 13], "children": True, "cgroup": "/a\x1bb", "comm": None}
    assert filter_text(chosen) == "pid 12,13, children, cgroup /a\\x1bb"
    lines = host_lines(take(make_session(filter=chosen), make_interval()), 80)
    assert lines[1] == "only pid 12,13, children, cgroup /a\\x1bb"
