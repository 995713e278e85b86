"""Text in terminal cells: a wide character takes two, a combining mark none."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

from mmwatch.units import clean

MORE = "+"
"""The end of text that was cut; in every character set there is."""
BLOCKS = " ▁▂▃▄▅▆▇█"
"""From nothing to the most."""
ASCII_BLOCKS = " .,:-=+*#"


def cells(text: str) -> int:
    """The width of clean text in terminal cells."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me") or "\u1160" <= char <= "\u11ff":  # marks; Hangul vowels and finals
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Clean text in at most ``width`` cells, ending in :data:`MORE` when something was cut."""
    # Marks take no room, and a command line may be all marks: there is a limit to the characters, too.
    most = 4 * width
    if len(text) <= most and cells(text) <= width:
        return text
    if width <= 0:
        return ""
    kept, used = "", 0
    for char in text[:most]:
        used += _cells(char)
        if used > width - len(MORE):
            break
        kept += char
    return kept + MORE


def field(text: str, width: int, left: bool = False) -> str:
    """Any text as a column of exactly ``width`` cells."""
    text = cut(clean(text), width)
    blank = " " * (width - cells(text))
    return text + blank if left else blank + text


def fit(line: str, width: int | None) -> str:
    """A whole line within the terminal; None: there is no limit."""
    return line.rstrip() if width is None else cut(line.rstrip(), width)


def join(parts: list[str], width: int | None, gap: str = "  ") -> list[str]:
    """Parts beside each other, on as many lines as they need."""
    lines: list[str] = []
    for part in parts:
        if lines and (width is None or cells(lines[-1]) + len(gap) + cells(part) <= width):
            lines[-1] += gap + part
        else:
            lines.append(part)
    return [fit(line, width) for line in lines]


def spark(values: Sequence[float], blocks: str = BLOCKS) -> str:
    """A bar of one cell for each value, against the highest; anything above nothing shows."""
    highest = max(values, default=0.0)
    return "".join(
        blocks[math.ceil(value / highest * (len(blocks) - 1))] if value > 0 else blocks[0] for value in values
    )
