"""Style of each tone, in the sixteen colours that every terminal has. A Textual theme may map them to others."""

from __future__ import annotations

from collections.abc import Mapping

from rich.style import Style

from mmwatch.display.screen.layout import THEMES
from mmwatch.display.spans import Tone

TEXTUAL = dict(zip(THEMES, ("ansi-dark", "ansi-light", "textual-dark", "textual-light")))
"""Textual's theme for each of ours."""

_SAME = {Tone.PLAIN: Style(), Tone.TITLE: Style(bold=True), Tone.DIM: Style(dim=True)}
_DARK = {
    **_SAME,
    Tone.GOOD: Style(color="green"),
    Tone.WARN: Style(color="yellow"),
    Tone.BAD: Style(color="bright_red", bold=True),
    Tone.BAR: Style(color="cyan"),
}
_LIGHT = {
    **_SAME,
    Tone.GOOD: Style(color="green"),
    Tone.WARN: Style(color="magenta"),  # yellow is illegible on white
    Tone.BAD: Style(color="red", bold=True),
    Tone.BAR: Style(color="blue"),
}


def styles(theme: str) -> Mapping[Tone, Style]:
    """Styles by tone, for one of :data:`~mmwatch.display.screen.layout.THEMES`."""
    return _LIGHT if theme.endswith("light") else _DARK
