"""``--begin`` and ``--end``: which part of a recording."""

from __future__ import annotations

import argparse
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from mmwatch.errors import MmwatchError, UsageError
from mmwatch.units import clean, parse_duration_s

if TYPE_CHECKING:
    from mmwatch.recording import Moment, Reader, Span


def add(parser: argparse.ArgumentParser) -> None:
    """Add the two options."""
    when = "HH:MM[:SS], 'YYYY-MM-DD HH:MM[:SS]', or +DURATION after its start"
    parser.add_argument("--begin", metavar="TIME", help=f"start at this time: {when}")
    parser.add_argument("--end", metavar="TIME", help="stop at this time")


def span(reader: Reader, arguments: argparse.Namespace) -> Span:
    """The intervals that the options ask for; all without them.

    :raises UsageError: they are not times, or nothing was recorded between them.
    :raises MmwatchError: the recording is empty.
    """
    from mmwatch.recording import ALL

    if arguments.begin is None and arguments.end is None:
        return ALL
    timeline = reader.timeline()
    if not len(timeline.numbers):
        raise MmwatchError(f"{reader.path} has no interval to show", "record for at least one interval")
    start_s = float(timeline.begins_s.min())
    begin, end = (moment(text, start_s) if text else None for text in (arguments.begin, arguments.end))
    if begin and end and begin.elapsed == end.elapsed and end.seconds <= begin.seconds:
        raise UsageError(f"--end {clean(arguments.end)} is not after --begin {clean(arguments.begin)}")
    found = timeline.span(begin, end)
    if found is None:
        first, last = (
            f"{datetime.fromtimestamp(s):%Y-%m-%d %H:%M:%S}" for s in (start_s, float(timeline.ends_s.max()))
        )
        raise UsageError(f"{reader.path} has nothing from that time", f"it covers {first} to {last}")
    return found


_TIME = re.compile(r"(?:(\d{4}-\d\d-\d\d)[ T])?(\d{1,2}:\d\d(?::\d\d)?)")


def moment(text: str, start_s: float) -> Moment:
    """``14:30``, ``14:30:05`` or ``2026-11-23 14:30``, local time, or ``+5m``.

    :param start_s: Unix time of the start of the recording; a time of day is the first one after it.
    :raises UsageError: it is not a time.
    """
    from mmwatch.recording import Moment

    text = text.strip()
    if text.startswith("+"):
        return Moment(parse_duration_s(text[1:]), elapsed=True)
    start = datetime.fromtimestamp(int(start_s))  # the user types whole seconds
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        of_day = datetime.strptime(match[2], "%H:%M:%S" if match[2].count(":") == 2 else "%H:%M").time()
        if match[1]:
            return Moment(datetime.combine(datetime.strptime(match[1], "%Y-%m-%d").date(), of_day).timestamp())
    except (ValueError, OverflowError):  # the year 1, say, has no Unix time in some time zones
        raise UsageError(
            f"not a time: {clean(text)!r}", "use HH:MM, HH:MM:SS, 'YYYY-MM-DD HH:MM', or +5m from the start"
        ) from None
    found = datetime.combine(start.date(), of_day)
    # In a recording that began at 14:30:12, 14:30 is its beginning, not the next day.
    if found < start.replace(second=0 if match[2].count(":") == 1 else start.second):
        found += timedelta(days=1)
    return Moment(found.timestamp())
