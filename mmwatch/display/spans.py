"""Text with meaning: what a screen is drawn from. A tone says what a piece of text means; a theme says how that looks.

Whatever a tone tells is also told by the text itself (a sign, a word, a position): colour alone says nothing.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from mmwatch.display.text import cells, cut


class Tone(Enum):
    """What a piece of text means."""

    PLAIN = "plain"
    TITLE = "title"  # a heading
    DIM = "dim"  # present but not important: zeros, units, what has ended
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    BAR = "bar"  # the filled part of a gauge or a bar


class Span(NamedTuple):
    """A piece of clean text (:func:`mmwatch.units.clean`), without line breaks."""

    text: str
    tone: Tone = Tone.PLAIN


Line = list[Span]
"""A line of a screen."""


def width_of(line: Line) -> int:
    """In cells."""
    return sum(cells(span.text) for span in line)


def fitted(line: Line, width: int) -> Line:
    """At most so many cells of it."""
    if width_of(line) <= width:
        return line
    kept: Line = []
    for span in line:
        room = width - width_of(kept)
        # The sign that something is cut off takes a cell; where the rest would fit but for what follows, too.
        text = span.text if cells(span.text) < room else cut(span.text + " ", room)
        kept.append(Span(text, span.tone))
        if text != span.text:
            break
    return kept
