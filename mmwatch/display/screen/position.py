"""Where the screen is in a recording, and where the user wants to go."""

from __future__ import annotations

from datetime import datetime, timedelta

from mmwatch.display.screen.feed import Controls
from mmwatch.display.spans import Line, Span, Tone, fitted
from mmwatch.display.text import cells


def position_line(controls: Controls, width: int) -> Line:
    """A bar up to the moment shown, and that moment as text."""
    index, count, begin_s, now_s, end_s = controls.position()
    share = (now_s - begin_s) / (end_s - begin_s) if end_s > begin_s else 1.0
    told = f" {index + 1} of {count}  {_clock(now_s)} of {_clock(begin_s)}-{_clock(end_s)}"
    told += "  paused" if controls.paused else f"  {controls.speed:g}x"
    if width > 110:
        told += "  Left/Right step  j/J a minute  [ ] speed  b go to"
    bar = max(10, width - cells(told) - 3)
    filled = round(max(0.0, min(1.0, share)) * bar)
    line = [Span(" ["), Span("#" * filled, Tone.BAR), Span("." * (bar - filled), Tone.DIM), Span(f"]{told}")]
    return fitted(line, width)


def _clock(time_s: float) -> str:
    return datetime.fromtimestamp(time_s).strftime("%H:%M:%S")


def share_of(typed: str, begin_s: float, end_s: float) -> float | None:
    """The place between 0 and 1 that ``50%`` or a time of day stands for; None if it is not in this recording."""
    try:
        if typed.endswith("%"):
            share = float(typed[:-1]) / 100
        else:
            begin = datetime.fromtimestamp(begin_s)
            form = "%H:%M:%S" if typed.count(":") == 2 else "%H:%M"
            wanted = datetime.combine(begin.date(), datetime.strptime(typed, form).time())
            # A time of day before the beginning (ignoring fractions of a second) is on the next day.
            if wanted < begin.replace(microsecond=0):
                wanted += timedelta(days=1)
            offset_s = max(0.0, wanted.timestamp() - begin_s)
            share = offset_s / (end_s - begin_s) if end_s > begin_s else 0.0
    except ValueError:
        return None
    return share if 0 <= share <= 1 else None
