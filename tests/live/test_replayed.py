"""A recording gives back what was seen live: the same intervals, the same JSON, the same screen.

The oracle is ``top`` itself: one observation is both printed as by ``top --json`` and recorded.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from harness import ENDLESS, Gated

from mmwatch.cli.main import build_parser, main
from mmwatch.cli.top import json_line
from mmwatch.diagnosis.lately import Lately
from mmwatch.model.snapshot import take
from mmwatch.recording import Writer
from mmwatch.session.beat import Beat
from mmwatch.session.observer import Observer, intervals
from mmwatch.session.target import resolve_target


def top(*words: str) -> argparse.Namespace:
    return build_parser().parse_args(["top", *words])


@pytest.mark.parametrize("words", [[], ["--by", "thread", "-s", "scanned"], ["--by", "cgroup"]])
def test_replay_prints_what_top_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    path = tmp_path / "a.mmw"
    arguments = top(*words)
    wanted, total = [], None
    with Gated(*ENDLESS) as load:
        observer = Observer(resolve_target(), interval_s=0.3)
        try:
            with Writer(path, observer.session) as writer:
                load.go()
                lately = Lately(observer.session)
                for interval in intervals(observer, Beat(0.3), 4):
                    snapshot = take(observer.session, interval, arguments.by)
                    total = total.then(snapshot.accounting) if total else snapshot.accounting
                    lately.add(interval)
                    wanted.append(json_line(arguments, snapshot, total, lately))
                    writer.write(interval)
        finally:
            observer.close()
    capsys.readouterr()
    assert main(["replay", str(path), "--json", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, live in zip(lines, wanted):
        assert json.loads(line) == json.loads(live)
    assert lines == wanted
    assert max(len(json.loads(line)["rows"]) for line in lines) > 0
