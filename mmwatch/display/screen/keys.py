"""The keys of the screen, declared once: the help, the palette and the check of the manual derive from here."""

from __future__ import annotations

from textual.binding import Binding, BindingType

KEYS: list[BindingType] = [
    Binding("question_mark,h,f1", "help", "help"),
    Binding("slash", "search", "jump to a row"),
    Binding("n", "again", "to the next such row"),
    Binding("f,backslash", "filter", "only rows with this text"),
    Binding("s,f6", "sort", "sort by"),
    Binding("less_than_sign", "sort_next(-1)", "sort by the column before"),
    Binding("greater_than_sign", "sort_next(1)", "sort by the next column"),
    Binding("I,R", "reverse", "sort the other way"),
    Binding("space,Z", "pause", "stop drawing, not counting"),
    Binding("plus", "interval(1)", "longer interval"),
    Binding("minus", "interval(-1)", "shorter interval"),
    Binding("tab", "view(1)", "next view: task, thread, node, cgroup, path"),
    Binding("shift+tab", "view(-1)", "view before"),
    Binding("H", "threads", "threads, or tasks"),
    Binding("a", "cumulative", "since the start, or per second"),
    Binding("o", "active", "only what is active"),
    Binding("t", "tree", "tree by parent, by cgroup, none"),
    Binding("c", "columns", "choose columns"),
    Binding("T", "theme", "next theme"),
    Binding("W", "save", "save the layout"),
    Binding("x", "export", "write the screen as SVG and text"),
    Binding("r", "record", "start or stop recording"),
    Binding("enter", "detail", "all about a row"),
    Binding("escape", "back", "leave the filter, or the cursor"),
    Binding("up,k", "move(-1)", "up"),
    Binding("down", "move(1)", "down"),
    Binding("pageup", "page(-1)", "page up"),
    Binding("pagedown", "page(1)", "page down"),
    Binding("home,g", "end(0)", "to the first row"),
    Binding("end,G", "end(1)", "to the last row"),
    Binding("left", "step(-1)", "replay: an interval back; else columns to the left"),
    Binding("right", "step(1)", "replay: an interval on; else columns to the right"),
    Binding("j", "jump(60)", "replay: a minute on; else down"),
    Binding("J", "jump(-60)", "replay: a minute back"),
    Binding("left_square_bracket", "speed(-1)", "replay: slower"),
    Binding("right_square_bracket", "speed(1)", "replay: faster"),
    Binding("b", "seek", "replay: go to a time"),
    Binding("w", "worst", "replay: to the interval with most time in reclaim; again: to the next after it"),
]
"""What begins with ``replay:`` is for a recording that is played; what follows ``else`` there, for a live session."""

FOOTER = (
    ("q", "quit"),
    ("?", "help"),
    ("Enter", "detail"),
    ("Tab", "view"),
    ("s", "sort"),
    ("f", "filter"),
    ("Space", "pause"),
    ("a", "total"),
    ("t", "tree"),
    ("c", "columns"),
    ("o", "active"),
    ("r", "record"),
    ("x", "export"),
    ("W", "save"),
)
"""The first ones to know, as many as fit."""
