"""Single records as lines in the manner of ftrace."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from make import make_session

from mmwatch.display.trace import Tracing, trace_json, trace_lines
from mmwatch.model.measures import PATHS

# struct record of bpf/abi.h; live, the layout is what BCC reports.
RECORD_DTYPE = np.dtype(
    [(name, "u8") for name in ("time_ns", "duration_ns", "cgroup_id")]
    + [(name, "u8") for name in ("asked_pages", "scanned_pages", "reclaimed_pages")]
    + [(name, "u4") for name in ("kind", "cpu", "tgid", "tid", "path")]
    + [("node", "i4")]
    + [(name, "u4") for name in ("priority", "order", "gfp_flags", "file")]
    + [("comm", "S16")]
)
RECLAIM = {
    "time_ns": 5_123_123_456_789,
    "duration_ns": 41_999,
    "asked_pages": 32,
    "scanned_pages": 64,
    "reclaimed_pages": 32,
    "cpu": 1,
    "tgid": 12_300,
    "tid": 12_345,
    "path": PATHS.index("memcg"),
    "priority": 12,
    "gfp_flags": 0x100CCA,
    "comm": b"python3",
    "cgroup_id": 7,
}


def arguments(*records: dict[str, Any], scans_known: bool = True) -> list[Any]:
    made = np.zeros(len(records), RECORD_DTYPE)
    for record, values in zip(made, records):
        for name, value in values.items():
            record[name] = value
    unknown = frozenset() if scans_known else frozenset({"scanned_file_pages"})
    session = make_session(unknown=unknown, gfp_flags={"GFP_KERNEL": 0xCC0, "__GFP_MOVABLE": 8})
    return [made, Tracing(session, {7: "/a b"}.get, 1_000_000_000.0)]


def lines(*records: dict[str, Any], scans_known: bool = True) -> list[str]:
    return trace_lines(*arguments(*records, scans_known=scans_known))


def test_reclaim() -> None:
    assert lines(RECLAIM) == [
        "         python3-12345   [001]  5123.123456: reclaim: path=memcg nid=0 asked=32 scanned=64 reclaimed=32"
        " priority=12 order=0 gfp=GFP_KERNEL|__GFP_MOVABLE|0x100002 stall_us=41 cgroup=/a b"
    ]


def test_the_time_of_day_and_an_unknown_cgroup() -> None:
    made, tracing = arguments({**RECLAIM, "cgroup_id": 8})
    (line,) = trace_lines(made, replace(tracing, wall_clock=True))
    when = datetime.fromtimestamp(1_000_005_123.123457).isoformat()
    assert f"[001] {when}: reclaim: " in line
    assert line.endswith(" cgroup=?")


def test_json() -> None:
    (text,) = trace_json(*arguments({**RECLAIM, "tid": 0, "node": -1, "priority": 255}))
    found = json.loads(text)
    assert (found["kind"], found["path"], found["cgroup"], found["gfp_flags"]) == ("reclaim", "memcg", "/a b", 0x100CCA)
    assert (found["time_s"], found["time_ns"]) == (1_000_005_123.123457, 5_123_123_456_789)
    assert (found["tid"], found["node"], found["priority"]) == (None, None, None)
    assert (found["duration_ns"], found["asked_pages"]) == (41_999, 32)


def test_where_no_batch_tells_what_was_scanned_is_not_known() -> None:
    assert " asked=32 scanned=? reclaimed=32 " in lines({**RECLAIM, "scanned_pages": 0}, scans_known=False)[0]


def test_the_founding_case() -> None:
    case = {**RECLAIM, "path": PATHS.index("node"), "node": 3, "reclaimed_pages": 12_342, "priority": 0}
    assert " path=node nid=3 asked=32 scanned=64 reclaimed=12342 priority=0 " in lines(case)[0]


def test_batch_and_pass() -> None:
    batch = {**RECLAIM, "kind": 1, "file": 1, "duration_ns": 0}
    assert [line.split(": ", 1)[1] for line in lines(batch, {**RECLAIM, "kind": 2})] == [
        "batch: path=memcg nid=0 scanned=64 reclaimed=32 priority=12 file=1 cgroup=/a b",
        "pass: path=memcg nid=0 scanned=64 reclaimed=32 priority=12 stall_us=41 cgroup=/a b",
    ]


def test_what_is_not_known_is_a_question_mark() -> None:
    unknown = {**RECLAIM, "path": PATHS.index("kswapd"), "node": -1, "asked_pages": 0, "priority": 255, "tid": 0}
    line = lines(unknown)[0]
    assert "python3-?  " in line
    assert "path=kswapd nid=? asked=? scanned=64 reclaimed=32 priority=? order=0" in line
    assert " path=? " in lines({**RECLAIM, "path": 99})[0]


@pytest.mark.parametrize(
    "comm", [b"\x1b[2Jx", b"a\nb", b"\xff\xfe", "\u202eexe".encode(), "日本語タス".encode(), b"15 letters long"]
)
def test_names_stay_in_their_column(comm: bytes) -> None:
    line = lines({**RECLAIM, "comm": comm})[0]
    assert line.isprintable()
    assert line.count(" path=memcg ") == 1


def test_order_and_time() -> None:
    early, late = (lines({**RECLAIM, "time_ns": ns})[0].split("] ")[1].split(":")[0] for ns in (1_002_003, 10**17))
    assert (early, late) == ("    0.001002", "100000000.000000")
    assert lines() == []
