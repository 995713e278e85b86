"""Single records as lines in the manner of ftrace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmwatch.display.trace import trace_lines
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
}


def lines(*records: dict[str, Any], scans_known: bool = True) -> list[str]:
    made = np.zeros(len(records), RECORD_DTYPE)
    for record, values in zip(made, records):
        for name, value in values.items():
            record[name] = value
    return trace_lines(made, scans_known)


def test_reclaim() -> None:
    assert lines(RECLAIM) == [
        "         python3-12345   [001]  5123.123456: reclaim: path=memcg nid=0 asked=32 scanned=64 reclaimed=32"
        " priority=12 order=0 gfp=0x100cca stall_us=41"
    ]


def test_where_no_batch_tells_what_was_scanned_is_not_known() -> None:
    assert " asked=32 scanned=? reclaimed=32 " in lines({**RECLAIM, "scanned_pages": 0}, scans_known=False)[0]


def test_the_founding_case() -> None:
    case = {**RECLAIM, "path": PATHS.index("node"), "node": 3, "reclaimed_pages": 12_342, "priority": 0}
    assert " path=node nid=3 asked=32 scanned=64 reclaimed=12342 priority=0 " in lines(case)[0]


def test_batch_and_pass() -> None:
    batch = {**RECLAIM, "kind": 1, "file": 1, "duration_ns": 0}
    assert [line.split(": ", 1)[1] for line in lines(batch, {**RECLAIM, "kind": 2})] == [
        "batch: path=memcg nid=0 scanned=64 reclaimed=32 priority=12 file=1",
        "pass: path=memcg nid=0 scanned=64 reclaimed=32 priority=12 stall_us=41",
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
    assert trace_lines(np.zeros(0, RECORD_DTYPE)) == []
