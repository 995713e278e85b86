"""Values to text and back. Everything else in mmwatch holds integers in base units."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from mmwatch.errors import UsageError

NS_PER_S = 1_000_000_000

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
DURATION_MAX_S = 100 * 365 * 86400.0
"""A hundred years. Python's clocks and 64-bit nanoseconds hold 292."""
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}


def parse_duration_s(text: str) -> float:
    """Seconds in ``10``, ``10s``, ``500ms``, ``5m``, ``2h`` or ``1d``.

    :raises UsageError: the text is not a duration, or is zero or more than a hundred years.
    """
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if seconds <= 0:
        raise UsageError(f"not a duration: {clean(text)!r}", "use a number above 0, such as 10, 500ms, 10s, 5m or 2h")
    if seconds > DURATION_MAX_S:
        raise UsageError(
            f"{clean(text[:40])!r} is too long", f"the longest duration is {DURATION_MAX_S / _SECONDS['d']:.0f}d"
        )
    return seconds


def clean(text: str) -> str:
    """``text`` with everything that could control a terminal made visible.

    comm, cmdline and cgroup names are chosen by whoever runs the process. Control and format characters
    (escape sequences, newlines, bidirectional overrides), lone surrogates and unassigned code points become
    ``\\xNN`` or ``\\uNNNN``. Letters, marks, signs and emoji of any script stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if unicodedata.category(char)[0] not in "CZ" or char == " " else _escape(ord(char)) for char in text
    )


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8, as os.fsdecode keeps it
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def ancestors(path: str) -> list[str]:
    """The paths above that of a cgroup, the nearest first, without the root."""
    words = path.strip("/").split("/")
    return ["/" + "/".join(words[:end]) for end in range(len(words) - 1, 0, -1)]


def number_list(text: str) -> tuple[int, ...]:
    """The numbers of a kernel list: ``0-2,8`` gives (0, 1, 2, 8). What is no number below 2^16 is left out."""
    numbers: list[int] = []
    for part in text.strip().split(","):
        found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part)
        if found:
            numbers.extend(range(int(found[1]), int(found[2] or found[1]) + 1))
    return tuple(numbers)


def number_ranges(numbers: Sequence[int]) -> str:
    """The opposite of :func:`number_list`: ``0-2,8``. Ascending numbers."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] + 1 == number:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


_CONTAINER_ID = re.compile(r"(?<![0-9a-f])([0-9a-f]{12})[0-9a-f]{52}(?![0-9a-f])")
_POD_ID = re.compile(r"(?<=pod)([0-9a-f]{8})[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}")


def cgroup_text(path: str) -> str:
    """A cgroup's path with the IDs of containers and pods as short as their tools print them, and LXC's by name."""
    return _POD_ID.sub(r"\1", _CONTAINER_ID.sub(r"\1", path)).replace("/lxc.payload.", "/")


def unescape(text: str) -> str:
    """A path of /proc/self/mountinfo with its octal escapes undone (kernel: fs/seq_file.c, mangle_path)."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def decode(raw: bytes) -> str:
    """The text of a NUL-terminated kernel string, cleaned."""
    return clean(raw.split(b"\0", 1)[0].decode("utf-8", "surrogateescape"))


def number_text(number: int, noun: str) -> str:
    """``1 interval``, ``2 intervals``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def count_text(value: float | None, width: int = 5) -> str:
    """A count in at most ``width`` characters: ``98304``, ``1235k``; ``-`` if unknown."""
    if value is None:
        return "-"
    if 0 < abs(value) < 1:
        return f"{value:.1f}"
    whole = f"{value:.0f}"
    if len(whole) <= width:
        return whole
    for suffix in "kMGTPE":
        value /= 1000
        for text in (f"{value:.1f}{suffix}", f"{value:.0f}{suffix}"):
            if len(text) <= width:
                return text
    return whole


def ns_text(value: float | None) -> str:
    """A time in at most six characters: ``850ns``, ``12.3us``, ``4.56ms``, ``1.20s``, ``12.3m``; ``-`` if unknown."""
    if value is None:
        return "-"
    for limit, scale, suffix in ((1e3, 1, "ns"), (1e6, 1e3, "us"), (1e9, 1e6, "ms"), (600e9, 1e9, "s")):
        if abs(value) < limit * 0.9995:
            scaled = value / scale
            digits = 0 if scale == 1 or abs(scaled) >= 100 else 1 if abs(scaled) >= 10 else 2
            return f"{scaled:.{digits}f}{suffix}"
    return f"{value / 60e9:.1f}m" if abs(value) < 36000e9 else f"{value / 3600e9:.1f}h"


def ratio_text(value: float | None, percent: bool = True) -> str:
    """A share as a percentage (``98.7``), or a factor (``386x``); ``-`` if unknown."""
    if value is None:
        return "-"
    if percent:
        return f"{value * 100:.1f}" if abs(value) < 0.9995 else f"{value * 100:.0f}"
    return f"{value:.1f}x" if value < 99.95 else f"{count_text(value, 4)}x"


def pages_text(pages: float | None, page_size: int) -> str:
    """Pages as bytes with a binary unit: ``860M``, ``3.2G``; ``-`` if unknown."""
    if pages is None:
        return "-"
    value = float(pages * page_size)
    for suffix in "BKMGT":
        if abs(value) < 999.5 or suffix == "T":
            return f"{value:.0f}{suffix}" if abs(value) >= 9.95 or suffix == "B" else f"{value:.1f}{suffix}"
        value /= 1024
    raise AssertionError("unreachable")
