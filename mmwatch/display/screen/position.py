"""Where the screen is in a recording, and where the user wants to go."""

from __future__ import annotations

from datetime import datetime, timedelta

from mmwatch.display.screen.feed import Controls
from mmwatch.display.spans import Line, Span, Tone, fitted
from mmwatch.display.text import cells


def position_line(controls: Controls, width: int) -> Line:
    """A bar up to the moment shown, and that moment as text."""
    at = controls.position()
    told = f" {at.index + 1} of {at.count}  {_clock(at.now_s)} of {_clock(at.begin_s)}-{_clock(at.end_s)}"
    told += "  paused" if controls.paused else f"  {controls.speed:g}x"
    if width > 110:
        told += "  Left/Right step  j/J a minute  [ ] speed  b go to"
    bar = max(10, width - cells(told) - 3)
    filled = round(at.share * bar)
    line = [Span(" ["), Span("#" * filled, Tone.BAR), Span("." * (bar - filled), Tone.DIM), Span(f"]{told}")]
    return fitted(line, width)


def _clock(time_s: float) -> str:
    return datetime.fromtimestamp(time_s).strftime("%H:%M:%S")


def go_to(controls: Controls, typed: str) -> bool:
    """Move to ``50%`` or to a time of day; False if that is neither, or not in this recording."""
    begin = datetime.fromtimestamp(controls.position().begin_s)
    try:
        if typed.endswith("%"):
            share = float(typed[:-1]) / 100
            if not 0 <= share <= 1:
                return False
            controls.seek(share)
            return True
        form = "%H:%M:%S" if typed.count(":") == 2 else "%H:%M"
        wanted = datetime.combine(begin.date(), datetime.strptime(typed, form).time())
    except ValueError:
        return False
    # A recording may go on past midnight.
    return any(controls.go_to_time((wanted + timedelta(days=days)).timestamp()) for days in (0, 1))
