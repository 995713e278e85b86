"""``mmwatch replay``: a recording on the screen of ``top``, or as the text ``top`` would have printed."""

from __future__ import annotations

import argparse
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mmwatch.cli import options, streams
from mmwatch.errors import MmwatchError, UsageError
from mmwatch.units import clean, parse_duration_s

if TYPE_CHECKING:
    from mmwatch.recording import Reader

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
    when = "HH:MM[:SS], 'YYYY-MM-DD HH:MM[:SS]', or +DURATION after its start"
    parser.add_argument("--begin", metavar="TIME", help=f"start at this time: {when}")
    parser.add_argument("--end", metavar="TIME", help="stop at this time")
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
        begin_s, end_s = _span(reader, arguments)
        if not options.is_batch(arguments):
            from mmwatch.cli import screen

            if screen.available():
                from mmwatch.session.playback import Playback

                screen.play(arguments, Playback(reader, begin_s, end_s, arguments.speed))
                return 0
            streams.say("textual is not installed (pip install textual); printing blocks of text instead")
        _print(reader, arguments, begin_s, end_s)
    return 0


def _print(reader: Reader, arguments: argparse.Namespace, begin_s: float | None, end_s: float | None) -> None:
    from mmwatch.cli.tables import Table
    from mmwatch.cli.top import json_line
    from mmwatch.model.accounting import sum_accounts
    from mmwatch.model.snapshot import take

    table = None if arguments.json else Table.of(arguments)
    total = None
    for interval in reader.intervals(begin_s, end_s):
        snapshot = take(reader.session, interval, arguments.by)
        total = sum_accounts(total, snapshot.accounting)
        if table is None:
            print(json_line(arguments, snapshot, total))
        else:
            print("\n".join([*table.screen(snapshot, total, None), ""]))


# ---- times ----


def _span(reader: Reader, arguments: argparse.Namespace) -> tuple[float | None, float | None]:
    """``--begin`` and ``--end`` as Unix times.

    :raises UsageError: they are not times, or nothing was recorded between them.
    :raises MmwatchError: the recording is empty.
    """
    _, ends_s, durations_ns = reader.timeline()
    if not len(ends_s):
        raise MmwatchError(f"{reader.path} has no interval to show", "record for at least one interval")
    start_s = float(ends_s[0]) - float(durations_ns[0]) / 1e9
    begin_s = time_s(arguments.begin, start_s) if arguments.begin else None
    end_s = time_s(arguments.end, start_s) if arguments.end else None
    if begin_s is not None and end_s is not None and end_s <= begin_s:
        raise UsageError(f"--end {clean(arguments.end)} is not after --begin {clean(arguments.begin)}")
    if not len(reader.timeline(begin_s, end_s)[0]):
        first, last = (f"{datetime.fromtimestamp(s):%Y-%m-%d %H:%M:%S}" for s in (start_s, float(ends_s[-1])))
        raise UsageError(f"{reader.path} has nothing from that time", f"it covers {first} to {last}")
    return begin_s, end_s


_TIME = re.compile(r"(?:(\d{4}-\d\d-\d\d)[ T])?(\d{1,2}:\d\d(?::\d\d)?)")


def time_s(text: str, start_s: float) -> float:
    """The Unix time of ``14:30``, ``14:30:05``, ``2026-11-23 14:30`` or ``+5m``, local time.

    :param start_s: start of the recording; a time of day is the first one after it.
    :raises UsageError: it is not a time.
    """
    text = text.strip()
    if text.startswith("+"):
        return start_s + parse_duration_s(text[1:])
    start = datetime.fromtimestamp(int(start_s))  # the user types whole seconds
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        of_day = datetime.strptime(match[2], "%H:%M:%S" if match[2].count(":") == 2 else "%H:%M").time()
        if match[1]:
            return datetime.combine(datetime.strptime(match[1], "%Y-%m-%d").date(), of_day).timestamp()
    except ValueError:
        raise UsageError(
            f"not a time: {clean(text)!r}", "use HH:MM, HH:MM:SS, 'YYYY-MM-DD HH:MM', or +5m from the start"
        ) from None
    found = datetime.combine(start.date(), of_day)
    # In a recording that began at 14:30:12, 14:30 is its beginning, not the next day.
    if found < start.replace(second=0 if match[2].count(":") == 1 else start.second):
        found += timedelta(days=1)
    return found.timestamp()


def _speed(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)x?", text)
    speed = float(match[1]) if match else 0.0
    if not 0 < speed <= SPEED_MAX:
        raise argparse.ArgumentTypeError(f"not a speed above 0, up to {SPEED_MAX:.0f}: {clean(text)!r}")
    return speed
