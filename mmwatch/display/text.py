"""Text in terminal cells: a wide character takes two, a combining mark none."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

from mmwatch.units import clean

MORE = "+"
"""Ends text that was cut; every character set has it."""
BLOCKS = " ▁▂▃▄▅▆▇█"
"""From the lowest value to the highest."""
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
    # Combining marks have no width, and a command line may be all marks: limit the number of characters, too.
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


def cut_front(text: str, width: int) -> str:
    """A path in at most ``width`` cells. Its end is kept, from a slash on if one is near."""
    if cells(text) <= width or width <= len(MORE):
        return cut(text, width)
    tail = text[-(width - len(MORE)) :]
    while cells(tail) > width - len(MORE):
        tail = tail[1:]
    slash = tail.find("/")
    return MORE + (tail[slash:] if 0 <= slash <= 2 * len(tail) // 3 else tail)


def field(text: str, width: int, left: bool = False, keep_end: bool = False) -> str:
    """Any text as a field of exactly ``width`` cells.

    :param keep_end: cut the text at its front.
    """
    text = (cut_front if keep_end else cut)(clean(text), width)
    blank = " " * (width - cells(text))
    return text + blank if left else blank + text


def fit(line: str, width: int | None) -> str:
    """A line cut to the terminal's width; None: no limit."""
    return line.rstrip() if width is None else cut(line.rstrip(), width)


def join(parts: list[str], width: int | None, gap: str = "  ") -> list[str]:
    """Parts side by side, on as many lines as needed."""
    lines: list[str] = []
    for part in parts:
        if lines and (width is None or cells(lines[-1]) + len(gap) + cells(part) <= width):
            lines[-1] += gap + part
        else:
            lines.append(part)
    return [fit(line, width) for line in lines]


def spark(values: Sequence[float], blocks: str = BLOCKS) -> str:
    """One bar per value, one cell wide, scaled to the highest. Any value above 0 is visible."""
    highest = max(values, default=0.0)
    return "".join(
        blocks[math.ceil(value / highest * (len(blocks) - 1))] if value > 0 else blocks[0] for value in values
    )


def to_ascii(text: str) -> str:
    """Text for a terminal or a character set that has only ASCII; the width stays the same."""
    if text.isascii():
        return text
    return "".join(char if char.isascii() else _ASCII.get(char, "?" * cells(char)) for char in text)


_ASCII = {"±": "~", "…": "~", **dict(zip(BLOCKS, ASCII_BLOCKS))}
