"""Text with meaning: what a screen is drawn from. A tone says what a piece of text means; a theme says how that looks.

Whatever a tone tells is also told by the text itself (a sign, a word, a position): colour alone says nothing.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


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
