"""Options that several commands have."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from collections.abc import Iterable
from typing import Any, Callable

from mmwatch.cli import streams
from mmwatch.errors import UsageError
from mmwatch.model.groupings import GROUPINGS
from mmwatch.session.target import Target, resolve_target
from mmwatch.units import clean, parse_duration_s

INTERVAL_MIN_S = 0.02

DETAILS = {
    "reclaims": frozenset({"reclaim"}),
    "passes": frozenset({"reclaim", "pass"}),
    "batches": frozenset({"reclaim", "batch"}),
}
"""The values of ``--detail``, and the record kinds each one selects (:data:`mmwatch.abi.RECORD_KINDS`)."""

Subparsers = Any


class Given(argparse.Action):
    """Store the value, and note that the user gave it: such a value overrides the saved layout."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.given = getattr(namespace, "given", frozenset()) | {self.dest}


def command(
    subparsers: Subparsers, name: str, help_text: str, run: Callable[[argparse.Namespace], int | None], epilog: str = ""
) -> argparse.ArgumentParser:
    """Add a command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=help_text,
        description=help_text[0].upper() + help_text[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    return parser


def suggestion(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'top'?``, or nothing if no known word resembles it."""
    found = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {found[0]!r}?" if found else ""


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add the options that filter what is observed."""
    group = parser.add_argument_group("what to observe (default: the whole host)")
    group.add_argument(
        "-p",
        "--pid",
        action="append",
        type=_pids,
        metavar="PID",
        help="this process, with all its threads (or PID,PID,…)",
    )
    group.add_argument("--children", action="store_true", help="with -p: also all processes it has forked or will fork")
    group.add_argument("-c", "--cgroup", metavar="CGROUP", help="tasks in this memory cgroup and those below it")
    group.add_argument(
        "--no-passes",
        dest="passes",
        action="store_false",
        help="do not probe shrink_node: costs less in a reclaim storm, but shows no passes",
    )
    group.add_argument("--comm", metavar="NAME", help="tasks with this name (the kernel keeps 15 bytes)")


def target(arguments: argparse.Namespace) -> Target:
    """The filter that the options describe. Prints notes about it to stderr.

    :raises MmwatchError: it names something that does not exist.
    """
    pids = [pid for group in arguments.pid or [] for pid in group]
    if arguments.children and not pids:
        raise UsageError("--children needs a process to start from", "add -p PID")
    found = resolve_target(pids, arguments.children, arguments.cgroup, arguments.comm)
    for note in found.notes:
        streams.say(note)
    return found


def protect() -> None:
    """Lock this process's memory and exempt it from the OOM killer, and say where that is refused.

    Call this once everything is attached: processes that are started later would inherit the exemption.
    """
    from mmwatch.host import protection

    for refused in protection.protect():
        streams.say(refused)


def is_batch(arguments: argparse.Namespace) -> bool:
    """Whether to print blocks or lines in sequence: on request, or because no screen can be drawn."""
    return arguments.batch or arguments.json or not sys.stdout.isatty() or os.environ.get("TERM") in (None, "dumb")


def add_interval(parser: argparse.ArgumentParser) -> None:
    """Add the option for the interval."""
    parser.add_argument(
        "-i",
        "--interval",
        default="1",
        action=Given,
        metavar="SEC",
        help="time between readings: 1, 0.5, 500ms, 2m (default 1)",
    )


def interval_s(arguments: argparse.Namespace) -> float:
    """Seconds of ``-i``.

    :raises UsageError: too short.
    """
    seconds = parse_duration_s(arguments.interval)
    if seconds < INTERVAL_MIN_S:
        raise UsageError(
            f"an interval of {clean(arguments.interval)} is too short", f"use {INTERVAL_MIN_S} or more seconds"
        )
    return seconds


def add_table(parser: argparse.ArgumentParser) -> None:
    """Add the options that arrange the table."""
    parser.add_argument(
        "--by", choices=tuple(GROUPINGS), default="task", action=Given, help="what a row stands for (default: task)"
    )
    parser.add_argument(
        "-s", "--sort", action=Given, metavar="COLUMN", help="sort by this column, the worst first (default: stall)"
    )
    parser.add_argument("-r", "--reverse", action="store_true", help="reverse the order")
    parser.add_argument(
        "--columns", metavar="…", help="columns by key, such as comm,path,stall; +KEY adds one; all; help lists them"
    )
    parser.add_argument("--limit", type=_count, metavar="ROWS", help="show at most this many rows")


def add_plain(parser: argparse.ArgumentParser) -> None:
    """Add the options for output without the full-screen display."""
    parser.add_argument(
        "-b", "--batch", action="store_true", help="print one block of text per interval, for pipes and logs"
    )
    parser.add_argument("--plain", action="store_true", help="refresh a plain table instead of the full-screen display")


def _pids(text: str) -> list[int]:
    try:
        pids = [int(word) for word in text.split(",")]
    except ValueError:
        pids = []
    if not pids or min(pids) <= 0:
        raise argparse.ArgumentTypeError(f"not a PID: {clean(text)!r}")
    return pids


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) == 0:  # 18 digits fit into 64 bits
        raise argparse.ArgumentTypeError(f"not a number from 1 to {10**18 - 1}: {clean(text[:40])!r}")
    return int(text)


count = _count
