"""Everything about one task, as lines of a screen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from make import make_interval, make_rows, make_session, random_rows

from mmwatch.display.detail import COMMAND_LINES, detail_lines
from mmwatch.display.spans import Line, Tone
from mmwatch.display.text import cells
from mmwatch.model.interval import CgroupMemory, Interval, Node, Process, Session
from mmwatch.model.measures import BY_NAME, PATHS
from mmwatch.model.records import RECORD_DTYPE, Recent, recents

HOSTILE = [
    "\x1b[2J\x1b]0;x\x07",
    "a\u0301\u0301\u0301" * 40,
    "\u5bb6\u65cf" * 60,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 30,
    "\u202egpj.exe \u05d0\u05d1\u05d2 \u0627\u0644",
    "\udcff\x00\n\r\t",
    "[bold red]x[/]",
]


def text(line: Line) -> str:
    return "".join(span.text for span in line)


def shown(
    *rows: dict[str, Any],
    recent: list[Recent] | None = None,
    width: int = 80,
    session: Session | None = None,
    ascii_only: bool = False,
    **fields: Any,
) -> list[str]:
    interval = make_interval(make_rows(*rows), **fields)
    return [text(line) for line in lines_of(interval, recent, width, session, ascii_only)]


def lines_of(
    interval: Interval,
    recent: list[Recent] | None = None,
    width: int = 80,
    session: Session | None = None,
    ascii_only: bool = False,
) -> list[Line]:
    return detail_lines(session or make_session(), interval, recent or [], width, ascii_only)


def section(lines: list[str], title: str) -> list[str]:
    """The lines from the one that begins with ``title`` to the next empty one."""
    (begin,) = [index for index, line in enumerate(lines) if line.startswith(title)]
    end = lines.index("", begin) if "" in lines[begin:] else len(lines)
    return lines[begin:end]


def histogram(length: int, **counts: int) -> list[int]:
    return [counts.get(f"at{index}", 0) for index in range(length)]


FOUNDING = {
    "tgid": 4242,
    "comm": b"postgres",
    "path": "node",
    "node": 0,
    "cgroup_id": 7,
    "reclaims": 10,
    "asked_pages": 320,
    "reported_pages": 12342,
    "scanned_file_pages": 50000,
    "reclaimed_file_pages": 12342,
    "stall_ns": 900_000_000,
    "cpu_ns": 700_000_000,
    "stall_max_ns": 120_000_000,
    "batches": 50,
    "priority_histogram": histogram(13, at4=10, at3=10, at2=10, at1=10, at0=10),
    "stall_histogram": histogram(128, at70=9, at75=1),
    "order_histogram": histogram(11, at0=10),
    "gfp_flags": 0x100CCA,
}
PROCESS = Process(4242, "postgres", "postgres: checkpointer", 1, 1_000_000, 800_000_000)


def test_the_founding_case() -> None:
    lines = shown(
        FOUNDING,
        processes={4242: PROCESS, 1: Process(1, "systemd")},
        cgroups={7: "/system.slice/pg.service", 3: "/system.slice"},
        cgroup_memory={7: CgroupMemory(None, None, 1 << 30, 5), 3: CgroupMemory(2 << 30, None, 2 << 30, 1234)},
    )
    assert lines[0] == "postgres  PID 4242  parent 1 (systemd)"
    assert lines[1] == "command  postgres: checkpointer"
    assert lines[2].startswith("path node  node 0  in 1.00s up to ")
    assert lines[3].startswith("zone_reclaim_mode: the task reclaims from its own node")
    del lines[3:5]
    assert lines[3:10] == [
        "cgroup   /system.slice/pg.service",
        "memory   1.0G, no limit  /system.slice/pg.service",
        "         2.0G of 2.0G, limit hit 1234 times  /system.slice  full !",
        "time     900ms in reclaim, 90.0% of the interval !",
        "on a CPU 700ms, 70.0% of the process's system time (1.00s)",
        "off CPU  200ms asleep, or waiting for a CPU",
        "delays   800ms in direct reclaim, as the kernel's delay accounting has it",
    ]
    figures = " ".join(section(lines, "PATH ")[1].split())
    assert figures == "node 10 320 12342 38.6x 24.7 0 900ms 45.9ms 109ms 120ms !"
    ladder = section(lines, "PRIORITY  batches at each")
    assert [line.split()[0] for line in ladder[1:]] == ["4", "3", "2!", "1!", "0!"]
    assert {tuple(line.split()[-2:]) for line in ladder[1:]} == {("10", "20.0%")}
    assert section(lines, "TIME OF A RECLAIM")[0].endswith("p50 45.9ms  p99 109ms  longest 120ms")
    assert section(lines, "ORDER") == ["ORDER  0 in all 10 reclaims", "gfp flags of the latest 0x100cca"]
    assert section(lines, "PAGES")[1].split() == ["file", "12342", "50000", "24.7"]


def test_bad_is_told_by_tone_and_sign() -> None:
    lines = lines_of(make_interval(make_rows(FOUNDING)))
    bad = [line for line in lines if any(span.tone is Tone.BAD for span in line)]
    assert bad
    assert all("!" in text(line) for line in bad)
    gentle = {**FOUNDING, "asked_pages": 12342, "priority_histogram": histogram(13, at12=3), "stall_ns": 90_000_000}
    assert not any(span.tone is Tone.BAD for line in lines_of(make_interval(make_rows(gentle))) for span in line)
    cheap = {**FOUNDING, "stall_ns": 900_000, "stall_max_ns": 100_000}
    assert not any(span.tone is Tone.BAD for line in lines_of(make_interval(make_rows(cheap))) for span in line)


def test_passes_are_better_than_batches() -> None:
    row = {**FOUNDING, "passes": 7, "pass_histogram": histogram(13, at12=4, at10=3)}
    ladder = section(shown(row), "PRIORITY  passes at each")
    assert [line.split()[0] for line in ladder[1:]] == ["12", "11", "10"]  # a rung left out shows
    assert ladder[2].split()[-2:] == ["-", "-"]
    without = make_session(unknown=frozenset({"pass_histogram"}))
    assert section(shown(row, session=without), "PRIORITY  batches")


def test_bars_are_as_long_as_their_share() -> None:
    row = {**FOUNDING, "priority_histogram": histogram(13, at12=1000, at11=500, at10=1)}
    bars = [line[5:].split(" ")[0] for line in section(shown(row, ascii_only=True), "PRIORITY")[1:]]
    assert abs(len(bars[0]) - 2 * len(bars[1])) <= 1
    assert bars[2] == "#"
    assert all(line.isascii() for line in shown(row, ascii_only=True))
    assert "█" in "".join(shown(row))


def test_many_buckets_of_time_are_folded() -> None:
    row = {**FOUNDING, "stall_histogram": [1] * 128, "reclaims": 128}
    lines = section(shown(row), "TIME OF A RECLAIM")
    assert 6 <= len(lines) - 1 <= 12
    assert sum(int(line.split()[-2]) for line in lines[1:]) == 128


@pytest.mark.parametrize("bucket", [0, 1, 4, 5, 127])
def test_the_bucket_of_a_time(bucket: int) -> None:
    row = {**FOUNDING, "stall_histogram": histogram(128, **{f"at{bucket}": 3}), "stall_max_ns": 2**62}
    (line,) = section(shown(row), "TIME OF A RECLAIM")[1:]
    low = {0: "0ns", 1: "256ns", 4: "256ns", 5: "512ns", 127: "550s"}[bucket]
    assert line.split()[1] == low
    assert line.split()[-2:] == ["3", "100%"]


def test_what_is_not_known_is_a_question_mark() -> None:
    row = {name: value for name, value in FOUNDING.items() if name not in BY_NAME}
    lines = shown({**row, "stall_ns": 1}, session=make_session(unknown=frozenset(BY_NAME)))
    for wanted in ("time     ?", "PRIORITY  ?", "TIME OF A RECLAIM  ?", "ORDER  ?", "ASLEEP     ?", "KSWAPD     ?"):
        assert any(line.startswith(wanted) for line in lines), wanted
    assert lines[0].endswith("parent ?")
    assert lines[1] == "command  ?"
    assert "cgroup   ?" in lines
    assert "memory   ?" in lines
    figures = "\n".join(section(lines, "PAGES") + section(lines, "PATH ")[1:])
    assert not set("0123456789") & set(figures)


def test_what_is_nothing_is_left_out() -> None:
    lines = shown(FOUNDING)
    assert not [line for line in lines if line.startswith(("ASLEEP", "SHRINKERS", "WRITTEN", "KSWAPD", "FUTILE"))]
    row = {
        **FOUNDING,
        "throttled": [3, 0, 0, 1],
        "throttled_ns": [4_000_000, 0, 0, 100_000],
        "shrinker_calls": 5,
        "shrinker_ns": 1000,
        "shrinker_objects": 9,
        "written_pages": 6,
        "kswapd_wakeups": 7,
        "reclaims_futile": 8,
        "dirty_pages": 11,
    }
    lines = shown(row)
    assert "ASLEEP     writeback 3 times, 4.00ms; congested 1 times, 100us !" in lines
    assert "SHRINKERS  5 calls, 1.00us, 9 objects freed" in lines
    assert "WRITTEN    6 pages by reclaim itself, to swap or file" in lines
    assert "KSWAPD     woken 7 times" in lines
    assert "FUTILE     8 reclaims freed nothing" in lines
    assert "found  dirty 11" in lines
    assert "off CPU  200ms asleep, or waiting for a CPU; throttled for 4.10ms" in lines


def test_several_orders() -> None:
    lines = section(shown({**FOUNDING, "order_histogram": histogram(11, at0=1, at9=3)}), "ORDER")
    assert [line.split()[0] for line in lines[1:3]] == ["0", "9"]
    assert lines[3] == "gfp flags of the latest 0x100cca"


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (0x100CCA, "GFP_HIGHUSER_MOVABLE"),
        (0x100DCA, "GFP_HIGHUSER_MOVABLE __GFP_ZERO"),
        (0x40, "__GFP_IO"),
        (0x80000140, "__GFP_IO __GFP_ZERO 0x80000000"),
        (0, "0x0"),
    ],
)
def test_gfp_flags_have_the_names_of_this_kernel(flags: int, names: str) -> None:
    known = {"GFP_HIGHUSER_MOVABLE": 0x100CCA, "__GFP_IO": 0x40, "__GFP_ZERO": 0x100}
    lines = shown({**FOUNDING, "gfp_flags": flags}, session=make_session(gfp_flags=known))
    assert f"gfp flags of the latest {names}" in lines
    narrow = shown({**FOUNDING, "gfp_flags": 0x100DCA}, session=make_session(gfp_flags=known), width=50)
    assert [line.strip() for line in section(narrow, "ORDER")[2:]] == ["__GFP_ZERO"]


def test_nodes() -> None:
    rows = ({**FOUNDING, "node": 0, "cpu_node": 1}, {**FOUNDING, "node": 1, "cpu_node": 1})
    lines = section(shown(*rows, nodes=(Node(0), Node(1))), "RAN ON")
    assert [line.split()[:4] for line in lines[1:]] == [["1", "0", "10", "12342"], ["1", "1", "10", "12342"]]
    assert not [line for line in shown(FOUNDING, nodes=(Node(0),)) if line.startswith("RAN ON")]


def test_the_target_is_shown_where_it_is_not_the_cgroup_of_the_task() -> None:
    row = {"tgid": 1, "cgroup_id": 7, "target_id": 3, "reclaims": 1, "stall_ns": 5}
    names = {7: "/prod/cache", 3: "/prod", 9: "/other"}
    memory = {number: CgroupMemory(2 << 30, None, 2 << 30, 5) for number in names}
    lines = shown(row, cgroups=names, cgroup_memory=memory)
    assert "target   /prod" in lines
    assert len([line for line in lines if line.endswith("  /prod  full !")]) == 1  # above the task's own
    lines = shown({**row, "target_id": 9, "path": "proactive"}, cgroups=names, cgroup_memory=memory)
    at = lines.index("target   /other")
    assert lines[at + 1] == "memory   2.0G of 2.0G, limit hit 5 times  /other  full !"
    assert "target   ?" in shown(row)
    assert "target   2 different" in shown(row, {**row, "target_id": 9}, cgroups=names)
    for same in ({**row, "target_id": 7}, {**row, "target_id": 0}):
        assert not [line for line in shown(same, cgroups=names) if line.startswith("target")]
    unknown = make_session(unknown=frozenset({"target_id"}))
    assert not [line for line in shown(row, cgroups=names, session=unknown) if line.startswith("target")]


def test_a_cgroup_has_many_tasks() -> None:
    rows = [{**FOUNDING, "tgid": 100 + number, "comm": b"t%d" % number, "path": "memcg"} for number in range(7)]
    lines = shown(*rows, cgroups={7: "/a"})
    assert lines[0] == "7 tasks, 7 threads"
    assert "cgroup   /a" in lines
    tasks = section(lines, "    PID")
    assert len(tasks) == 7
    assert tasks[-1] == "... 2 more"


def test_threads() -> None:
    rows = ({**FOUNDING, "tid": 4242}, {**FOUNDING, "tid": 4243})
    assert shown(*rows)[0].endswith("  2 threads")
    assert shown(rows[1])[0].endswith("  thread 4243")


def test_kswapd_asks_for_no_number() -> None:
    row = {**FOUNDING, "path": "kswapd", "asked_pages": 0}
    assert section(shown(row), "PATH ")[1].split()[2] == "-"


def test_nothing_in_this_stretch() -> None:
    lines = shown(vmstat={"pgsteal_anon": 0, "pgsteal_file": 99})  # somebody else's
    assert lines[-1] == "no reclaim in this time"
    lines = shown({"tgid": 5, "comm": b"idle", "kswapd_wakeups": 3})
    assert lines[0].startswith("idle  PID 5")
    assert lines[-3:] == ["no reclaim in this time", "", "KSWAPD     woken 3 times"]


def test_unattributed() -> None:
    assert shown({**FOUNDING, "tgid": 0, "comm": b""})[0] == "(unattributed)  not attributed to a single process"


def test_recent_reclaims() -> None:
    recent = [
        Recent(1_700_000_000.25, "node", 0, 0, 32, 50000, 12342, 0, 120_000_000),
        Recent(1_700_000_000.5, "kswapd", None, None, None, None, None, None, None),
        Recent(1_700_000_000.75, "memcg", 1, 0, 32, 64, 32, 12, 1000),
    ]
    lines = section(shown(FOUNDING, recent=recent), "LATEST RECLAIMS")
    assert [" ".join(line.split()[1:]) for line in lines[1:]] == [
        "memcg 1 0 32 64 32 12 1.00us",
        "kswapd ? ? ? ? ? ? ?",
        "node 0 0 32 50000 12342 0 120ms !",
    ]
    assert [line[6:12] for line in lines[1:]] == ["20.750", "20.500", "20.250"]
    assert all(cells(line) <= 80 for line in lines)


def test_recents_of_records() -> None:
    records = np.zeros(3, RECORD_DTYPE)
    records["time_ns"] = [1_000_000_000, 2_500_000_000, 3_000_000_000]
    records["kind"] = [0, 0, 1]
    records["path"] = [PATHS.index("memcg"), 99, 0]
    records["node"] = [1, -1, 0]
    records["priority"] = [3, 255, 0]
    records["asked_pages"] = [32, 0, 0]
    records["reclaimed_pages"] = 7
    records["duration_ns"] = 11
    assert recents(records, 1_700_000_000.0) == [
        Recent(1_700_000_001.0, "memcg", 1, 0, 32, 0, 7, 3, 11),
        Recent(1_700_000_002.5, "other", None, 0, None, 0, 7, None, 11),
    ]


@pytest.mark.parametrize("width", [20, 40, 80, 119, 120, 250])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_no_line_is_wider_than_the_screen(width: int, ascii_only: bool) -> None:
    rows = random_rows(60, 1, tasks=3)
    recent = [Recent(1_700_000_000.0, "memcg", 1, 0, 2**40, 2**40, 2**40, 0, 2**60)]
    for mine in (rows, rows[rows["tgid"] == 1], rows[:0], rows[:1]):
        interval = make_interval(mine, nodes=(Node(0), Node(1)), processes={1: replace(PROCESS, tgid=1)})
        for line in lines_of(interval, recent, width, None, ascii_only):
            assert cells(text(line)) <= width


def test_wide_terminals_have_charts_beside_each_other() -> None:
    row = {**FOUNDING, "stall_histogram": histogram(128, at50=1, at60=1, at70=1, at80=1)}
    (line,) = [line for line in shown(row, width=150) if line.startswith("PRIORITY")]
    assert "TIME OF A RECLAIM" in line
    assert len([line for line in shown(row, width=150) if " from " in line]) > 5


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(name: str) -> None:
    raw = name.encode("utf-8", "surrogateescape")[:16]
    lines = lines_of(
        make_interval(
            make_rows({**FOUNDING, "comm": raw}),
            processes={4242: Process(4242, name, name, 1), 1: Process(1, name)},
            cgroups={7: name},
            cgroup_memory={7: CgroupMemory(1, 1, 1, 1)},
        ),
    )
    for line in lines:
        assert cells(text(line)) <= 80
        # U+0301 and the like are no steering characters; everything that is has been made visible.
        assert not set(text(line)) & {chr(code) for code in [*range(32), 0x7F, 0x202E, 0x200D, 0xDCFF]}
    assert len([line for line in lines if text(line).startswith("command ")]) == 1


def test_a_long_command_line_takes_a_few_lines() -> None:
    process = replace(PROCESS, cmdline="\u5bb6" * 500)
    lines = shown(FOUNDING, processes={4242: process})
    assert [cells(line) for line in lines[1 : 1 + COMMAND_LINES]] == [79, 79, 80]
    assert lines[COMMAND_LINES].endswith("+")
    short = shown(FOUNDING, processes={4242: replace(PROCESS, cmdline="x" * 100)})
    assert short[1] + short[2].strip() == "command  " + "x" * 100
