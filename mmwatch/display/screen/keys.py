"""The keys of the screen, declared once: the help, the command palette and the test of the manual use this list."""

from __future__ import annotations

from textual.binding import Binding, BindingType

from mmwatch.model.groupings import GROUPINGS

KEYS: list[BindingType] = [
    Binding("question_mark,h,f1", "help", "help"),
    Binding("slash,f3", "search", "search for a row"),
    Binding("n", "again", "go to the next row found"),
    Binding("f,backslash,f4", "filter", "show only rows that contain a text"),
    Binding("s,f6", "sort", "sort by"),
    Binding("less_than_sign", "sort_next(-1)", "sort by the previous column"),
    Binding("greater_than_sign", "sort_next(1)", "sort by the next column"),
    Binding("P", "sort_key('cpu')", "sort by CPU time in reclaim"),
    Binding("M", "sort_key('reclaimed')", "sort by pages reclaimed"),
    Binding("I,R", "reverse", "reverse the order"),
    Binding("space,Z", "pause", "stop drawing; counting goes on"),
    Binding("plus", "interval(1)", "longer interval"),
    Binding("minus", "interval(-1)", "shorter interval"),
    Binding("tab", "view(1)", f"next view: {', '.join(GROUPINGS)}"),
    Binding("shift+tab", "view(-1)", "previous view"),
    Binding("H", "group('thread')", "by thread, or by task"),
    Binding("C", "group('comm')", "by name (comm), or by task"),
    Binding("a", "cumulative", "totals since the start, or rates"),
    Binding("o", "active", "show only active rows"),
    Binding("t,f5", "tree", "tree: by parent, by cgroup, none"),
    Binding("c", "columns", "choose columns"),
    Binding("T", "theme", "next theme"),
    Binding("W", "save", "save the layout"),
    Binding("x", "export", "write the screen as SVG and text"),
    Binding("r", "record", "start or stop recording"),
    Binding("enter", "detail", "show details of the row"),
    Binding("v", "verdict", "what is wrong, why, and what to change"),
    Binding(
        "u", "foreign('there is no filter by user; f filters by name, PID, path or cgroup')", "no filter by user: see f"
    ),
    Binding(
        "f2,f7,f8,f9",
        "foreign('mmwatch changes no process; c chooses columns, W saves the layout')",
        "in htop: set-up, priorities, signals; mmwatch changes no process",
    ),
    Binding("escape", "back", "remove the filter, or the cursor"),
    Binding("up,k", "move(-1)", "up"),
    Binding("down", "move(1)", "down"),
    Binding("pageup", "page(-1)", "page up"),
    Binding("pagedown", "page(1)", "page down"),
    Binding("home,g", "end(0)", "to the first row"),
    Binding("end,G", "end(1)", "to the last row"),
    Binding("left", "step(-1)", "replay: one interval back; else columns to the left"),
    Binding("right", "step(1)", "replay: one interval forward; else columns to the right"),
    Binding("j", "jump(60)", "replay: one minute forward; else down"),
    Binding("J", "jump(-60)", "replay: one minute back"),
    Binding("left_square_bracket", "speed(-1)", "replay: slower"),
    Binding("right_square_bracket", "speed(1)", "replay: faster"),
    Binding("b", "seek", "replay: go to a time"),
    Binding("w", "worst", "replay: go to the interval with the most time in reclaim; again: to the next worst"),
]
"""``replay:`` precedes what a key does in a recording, ``else`` what it does in a live session."""

FOOTER = (
    ("q", "quit"),
    ("?", "help"),
    ("Enter", "detail"),
    ("v", "verdict"),
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
"""The most important keys; as many as fit are shown."""
