"""The parts of the tracer that need no kernel."""

from __future__ import annotations

import errno

import pytest
from make_facts import FACTS

from mmwatch.cli import main as command_line
from mmwatch.kernel.builder_process import _turn
from mmwatch.kernel.plan import plan
from mmwatch.kernel.tracer import missed_by_all


def test_ends_are_attached_before_begins() -> None:
    """A reclaim whose begin is seen, but not its end, would seem to go on until its task's next."""
    names = [attachment.event.name for attachment in sorted(plan(FACTS).attachments, key=_turn)]
    assert names[0] == "sched_process_free"
    for begin, end in (
        ("direct_reclaim_begin", "reclaim_end"),
        ("memcg_reclaim_begin", "reclaim_end"),
        ("softlimit_reclaim_begin", "reclaim_end"),
        ("node_reclaim_begin", "reclaim_end"),
        ("kswapd_wake", "kswapd_sleep"),
        ("shrink_slab_start", "shrink_slab_end"),
    ):
        assert names.index(end) < names.index(begin)


@pytest.mark.parametrize(
    ("misses", "paired", "seen_once", "expected"),
    [
        ([], 0, 0, 0),
        ([3, 0, 4], 0, 0, 7),
        ([5, 2, 0], 2, 7, 0),  # what one of a pair missed, the other counted
        ([5, 2, 1], 2, 3, 3),  # two were missed by both
        ([1, 0], 2, 0, 0),  # seen by the other, which has not said so yet
        ([1, 0], 2, 2, 0),  # said so after the misses were read
        ([5, 2, 1, 1, 9], 4, 5, 11),
    ],
)
def test_what_is_missed_is_what_neither_of_a_pair_has_counted(
    misses: list[int], paired: int, seen_once: int, expected: int
) -> None:
    assert missed_by_all(misses, paired, seen_once) == expected


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_output_that_cannot_be_written_is_said_so(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_arguments: object) -> int:
        raise OSError(number, "No room")

    monkeypatch.setattr("mmwatch.cli.report.run", full)
    monkeypatch.setattr("mmwatch.cli.streams._discard", lambda *_: None)
    assert command_line.main(["report", "a.mmw"]) == 1
    assert "cannot write the output: No room" in capsys.readouterr().err


def test_without_a_command_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main([]) == 64
    said = capsys.readouterr()
    assert said.out == ""
    assert all(f"\n    {name} " in said.err for name in command_line.COMMANDS)
