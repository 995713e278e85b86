"""What the keys do and what the signs mean."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from textual.binding import Binding

from mmwatch.display.screen.feed import Controls
from mmwatch.display.screen.keys import KEYS
from mmwatch.display.spans import Line, Span, Tone
from mmwatch.model.measures import PATH_HELP

_SIGNS = (
    (
        "!",
        "bad: priority 2 or lower, far more freed than asked for, half of the time in reclaim; free below min",
    ),
    ("~", "worth a look: a milder form of these; zone_reclaim_mode is on"),
    ("x", "this process has ended; it fades, and stays in the totals (a)"),
    ("[##m..l..h..]", "what is free, up to twice the high watermark; min, low and high are marked"),
    (
        "accounted",
        "pages seen, of those /proc/vmstat counted; by so many pages (±) the two may differ because they cannot be read"
        " at the same instant",
    ),
    ("lost", "events that are in no row of their own; single records are an extra, no figure lacks them"),
    ("missed", "program runs the kernel skipped; ? where it does not count them"),
    ("self", "CPU time and memory of mmwatch itself"),
    ("BPF", "CPU time of the programs in the kernel; ? unless sysctl kernel.bpf_stats_enabled is 1"),
)
_NAMES = {
    "question_mark": "?",
    "slash": "/",
    "backslash": "\\",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "plus": "+",
    "minus": "-",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "space": "Space",
    "escape": "Esc",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "shift+tab": "Shift-Tab",
}


def key_name(key: str) -> str:
    """What is printed on it, of Textual's name."""
    return _NAMES.get(key, key.capitalize() if len(key) > 1 else key)


def help_lines(notes: Sequence[str], controls: Controls | None, width: int) -> list[Line]:
    """The text of the help, wrapped; in a live session without the keys of a replay."""
    lines: list[Line] = [
        [Span("KEYS", Tone.TITLE)],
        _line("q Ctrl-C", "quit"),
        _line(": Ctrl-P", "all commands by name"),
    ]
    for binding in KEYS:
        assert isinstance(binding, Binding)
        replay, _, live = binding.description.partition("; else ")
        if controls is not None:
            what = replay.replace("replay: ", "")
        else:
            what = live or ("" if replay.startswith("replay: ") else replay)
        if what:
            lines.append(_line(" ".join(map(key_name, binding.key.split(","))), what))
    lines += [_line("mouse", "a title sorts, a row selects, twice: detail; the wheel scrolls")]
    lines += [[], [Span("PATHS", Tone.TITLE)], *(_line(path, meaning) for path, meaning in PATH_HELP.items())]
    lines += [[], [Span("SIGNS", Tone.TITLE)], *(_line(sign, meaning) for sign, meaning in _SIGNS)]
    if notes:
        lines += [[], [Span("THIS SESSION", Tone.TITLE)], *([Span("  "), Span(note)] for note in notes)]
    return [piece for line in lines for piece in _wrapped(line, width)]


def _line(key: str, what: str) -> Line:
    return [Span(f"  {key:14}", Tone.TITLE), Span(what)]


def _wrapped(line: Line, width: int) -> list[Line]:
    """The last piece of text on as many lines as it needs."""
    if len(line) < 2:
        return [line]
    first, text = line
    pieces = textwrap.wrap(text.text, max(20, width - len(first.text))) or [""]
    return [[Span(" " * len(first.text)) if number else first, Span(piece)] for number, piece in enumerate(pieces)]
