"""``mmwatch replay``: a recording on the screen of ``top``, or as the text ``top`` would have printed."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mmwatch.cli import options, streams, times
from mmwatch.errors import MmwatchError
from mmwatch.units import clean

if TYPE_CHECKING:
    from mmwatch.recording import Reader, Span

SPEED_MAX = 1000.0

EPILOG = """\
keys besides those of top: Space pauses, Left and Right step, j and J move by a minute, [ and ] change the speed,
b goes to a time, w to the worst interval

examples:
  mmwatch replay a.mmw                          second by second, as it happened
  mmwatch replay a.mmw --begin 14:30 --speed 10 from then on, ten times as fast
  mmwatch replay a.mmw -b --begin +5m --end +6m the sixth minute, as blocks of text
  mmwatch replay a.mmw --json                   the lines top --json would have printed
"""


def add(subparsers: options.Subparsers) -> None:
    """Declare the command."""
    parser = options.command(subparsers, "replay", "show a recording as top showed it", run, EPILOG)
    parser.add_argument("file", metavar="FILE", help="a recording by mmwatch record")
    times.add(parser)
    parser.add_argument(
        "--speed", type=_speed, default=1.0, metavar="X", help="seconds of the recording per second (default 1)"
    )
    parser.add_argument(
        "-b",
        "--batch",
        action="store_true",
        help="print one block of text per interval, without waiting, for pipes and logs",
    )
    options.add_table(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per line and interval, as top does")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from mmwatch.cli.tables import check_columns, print_columns
    from mmwatch.recording import Reader

    if arguments.columns == "help":
        print_columns()
        return 0
    check_columns(arguments)
    with Reader(Path(arguments.file)) as reader:
        if not reader.ended_cleanly:
            streams.say(reader.cut_off)
        if not reader.interval_count:
            raise MmwatchError(f"{reader.path} has no interval to show", "record for at least one interval")
        span = times.span(reader, arguments)
        if not options.is_batch(arguments):
            from mmwatch.cli import screen

            if screen.available():
                from mmwatch.session.playback import Playback

                screen.play(arguments, Playback(reader, span, arguments.speed))
                return 0
            streams.say("textual is not installed (pip install textual); printing blocks of text instead")
        _print(reader, arguments, span)
    return 0


def _print(reader: Reader, arguments: argparse.Namespace, span: Span) -> None:
    from mmwatch.cli.tables import Table
    from mmwatch.cli.top import json_line
    from mmwatch.diagnosis.lately import Lately
    from mmwatch.model.accounting import sum_accounts
    from mmwatch.model.snapshot import take

    table = None if arguments.json else Table.of(arguments)
    total, lately = None, Lately(reader.session)
    for interval in reader.intervals(span):
        snapshot = take(reader.session, interval, arguments.by)
        total = sum_accounts(total, snapshot.accounting)
        lately.add(interval)
        if table is None:
            print(json_line(arguments, snapshot, total, lately))
        else:
            print("\n".join([*table.screen(snapshot, total, None, lately), ""]))


def _speed(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)x?", text)
    speed = float(match[1]) if match else 0.0
    if not 0 < speed <= SPEED_MAX:
        raise argparse.ArgumentTypeError(f"not a speed above 0, up to {SPEED_MAX:.0f}: {clean(text)!r}")
    return speed
