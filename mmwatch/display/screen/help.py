"""The help: what the keys do and what the signs mean."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from textual.binding import Binding

from mmwatch.display.screen.feed import Controls
from mmwatch.display.screen.keys import KEYS
from mmwatch.display.screen.state import State
from mmwatch.display.spans import Line, Span, Tone
from mmwatch.model.measures import PATH_HELP
from mmwatch.units import clean

_SIGNS = (
    (
        "!",
        "bad: priority 2 or lower, 8 times the pages asked for, half the time in reclaim, free memory below min; a row"
        " that spends less than 1% of the time in reclaim is not marked",
    ),
    ("~", "worth a look: a milder form of the above, or zone_reclaim_mode is on"),
    ("x", "the process has ended; it stays in the totals (a)"),
    ("[##m..l..h..]", "free memory, up to twice the high watermark; m, l, h mark min, low and high"),
    (
        "accounted",
        "pages seen, as a share of those /proc/vmstat counted. The two cannot be read at the same instant and may"
        " differ by the pages after ±",
    ),
    (
        "nothing lost",
        "else what was lost, by kind: events that found the row table full, reclaims of which only one end was seen,"
        " program runs that the kernel skipped (missed ?: it does not count them). Reclaims under way at the start have"
        " no time. Lost single records affect no figure",
    ),
    ("refaults", "pages per second, on the whole host, that were read back soon after they were reclaimed"),
    ("self", "CPU time and memory of mmwatch itself"),
    ("BPF", "CPU time of the BPF programs in the kernel; ? unless sysctl kernel.bpf_stats_enabled is 1"),
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
    """The label of a key, by Textual's name for it."""
    return _NAMES.get(key, key.capitalize() if len(key) > 1 else key)


def notes_of(state: State) -> list[str]:
    """What is to be said of this session."""
    session = state.feed.session
    probes = session.probes if session else ()
    notes = [f"{one.need}: {one.state}. {one.reason}" for one in probes if one.state not in ("attached", "off")]
    return [*state.services.notes(), *map(clean, notes)]


def help_lines(notes: Sequence[str], controls: Controls | None, width: int) -> list[Line]:
    """The help as wrapped lines. A live session omits the keys of replay."""
    lines: list[Line] = [
        [Span("KEYS", Tone.TITLE)],
        _line("q F10 Ctrl-C", "quit"),
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
    lines += [_line("mouse", "click a title to sort, a row to select, twice to open it; the wheel scrolls")]
    lines += [[], [Span("PATHS", Tone.TITLE)], *(_line(path, meaning) for path, meaning in PATH_HELP.items())]
    lines += [[], [Span("SIGNS", Tone.TITLE)], *(_line(sign, meaning) for sign, meaning in _SIGNS)]
    if notes:
        lines += [[], [Span("THIS SESSION", Tone.TITLE)], *([Span("  "), Span(note)] for note in notes)]
    return [piece for line in lines for piece in _wrapped(line, width)]


def _line(key: str, what: str) -> Line:
    return [Span(f"  {key:14}", Tone.TITLE), Span(what)]


def _wrapped(line: Line, width: int) -> list[Line]:
    """The last span, on as many lines as it needs."""
    if len(line) < 2:
        return [line]
    first, text = line
    pieces = textwrap.wrap(text.text, max(20, width - len(first.text))) or [""]
    return [[Span(" " * len(first.text)) if number else first, Span(piece)] for number, piece in enumerate(pieces)]
