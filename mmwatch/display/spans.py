"""Text with a meaning. A tone says what a piece of text means; a theme decides how that looks.

Colour is never the only cue: a sign, a word or a position says the same.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from mmwatch.display.text import cells, cut


class Tone(Enum):
    """What a piece of text means."""

    PLAIN = "plain"
    TITLE = "title"  # a heading
    DIM = "dim"  # less important: zeros, units, tasks that have ended
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    BAR = "bar"  # the filled part of a gauge or a bar


class Span(NamedTuple):
    """A piece of clean text (:func:`mmwatch.units.clean`) without line breaks."""

    text: str
    tone: Tone = Tone.PLAIN


Line = list[Span]
"""A line of a screen."""


def text_of(line: Line) -> str:
    """The text alone."""
    return "".join(span.text for span in line)


def width_of(line: Line) -> int:
    """Width of the line in cells."""
    return sum(cells(span.text) for span in line)


def fitted(line: Line, width: int) -> Line:
    """The line, cut to at most ``width`` cells."""
    if width_of(line) <= width:
        return line
    kept: Line = []
    for span in line:
        room = width - width_of(kept)
        # The mark for cut text needs a cell even if this span fits, because more text follows.
        text = span.text if cells(span.text) < room else cut(span.text + " ", room)
        kept.append(Span(text, span.tone))
        if text != span.text:
            break
    return kept
