"""``mmwatch top``: who reclaims now, as a refreshing table, as blocks of text, or as JSON."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mmwatch.cli import options
from mmwatch.cli.observe import Observer, Target

if TYPE_CHECKING:
    from mmwatch.model.interval import Interval
    from mmwatch.model.snapshot import Accounting, Snapshot

CLEAR = "\x1b[H\x1b[J"
FIRST_INTERVAL_S = 0.2
"""On a terminal the first screen does not wait for a whole interval."""

EPILOG = """\
examples:
  mmwatch top                      the whole host, every second; ? shows the keys
  mmwatch top -p 1234 --by thread  the threads of one process
  mmwatch top -b -n 60 > log       a block of text per interval, a minute long
  mmwatch top --json -i 0.5        one JSON object per line and interval
"""


def add(subparsers: options.Subparsers) -> None:
    """Declare the command."""
    parser = options.command(
        subparsers, "top", "show live who reclaims memory, by which path, and how hard", run, EPILOG
    )
    options.add_target(parser)
    options.add_interval(parser)
    parser.add_argument("-n", "--count", type=options.count, metavar="COUNT", help="end after so many intervals")
    options.add_plain(parser)
    options.add_table(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object per interval, one per line")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if arguments.columns == "help":
        from mmwatch.cli.tables import print_columns

        print_columns()
        return 0
    interval_s = options.interval_s(arguments)
    show(arguments, options.target(arguments), interval_s)
    return 0


def show(
    arguments: argparse.Namespace,
    target: Target,
    interval_s: float,
    duration_s: float = float("inf"),
    headline: str = "",
    attached: Callable[[], None] | None = None,
    seen: Callable[[Snapshot, Accounting], None] | None = None,
) -> None:
    """Observe and show until the count is reached, or for so long, or until Ctrl-C.

    :param headline: above everything else on a screen, which keeps nothing that was said before.
    :param attached: called when everything from now on is counted.
    :param seen: called with each interval, and what was accounted up to then.
    """
    batch = options.is_batch(arguments)
    table = None
    if not arguments.json:
        from mmwatch.cli.tables import Table

        table = Table.of(arguments)
    else:
        from mmwatch.cli.tables import check_columns

        check_columns(arguments)
    if not batch and not arguments.plain:
        from mmwatch.cli import screen

        if screen.available():
            screen.show(arguments, target, interval_s, duration_s, headline, attached, seen)
            return
        print("mmwatch: textual is not installed (pip install textual): a plain table instead", file=sys.stderr)
    if not batch:
        print("mmwatch: compiling the probes; Ctrl-C ends it", file=sys.stderr)
    observer = Observer(target, interval_s=interval_s, passes=arguments.passes)
    try:
        if attached:
            attached()
        total: Accounting | None = None
        until_s = time.monotonic() + duration_s
        for interval in intervals(observer, interval_s, arguments.count, until_s, quick=not batch):
            from mmwatch.model.snapshot import take

            snapshot = take(observer.session, interval, arguments.by)
            total = total.then(snapshot.accounting) if total else snapshot.accounting
            if seen:
                seen(snapshot, total)
            if table is None:
                print(json_line(arguments, snapshot, total), flush=True)
                continue
            above = [headline] if headline and not batch else []
            columns, height = shutil.get_terminal_size()
            size = os.terminal_size((columns, height - len(above)))
            text = "\n".join([*above, *table.screen(snapshot, total, None if batch else size)])
            print(f"{text}\n" if batch else f"{CLEAR}{text}", end="\n" if batch else "", flush=True)
    finally:
        observer.close()
        if not batch:
            print()


def intervals(
    observer: Observer, interval_s: float, count: int | None, until_s: float = float("inf"), quick: bool = False
) -> Iterator[Interval]:
    """One interval after the other, at a steady beat."""
    beat = time.monotonic()
    if quick and interval_s > FIRST_INTERVAL_S:  # not one of those asked for
        beat += FIRST_INTERVAL_S
        time.sleep(max(0.0, beat - time.monotonic()))
        yield observer.sample()
    shown = 0
    # What is left of the time may be too little for an interval that says anything.
    while (count is None or shown < count) and until_s - beat > interval_s / 5:
        beat = min(max(beat + interval_s, time.monotonic()), until_s)
        time.sleep(max(0.0, beat - time.monotonic()))
        yield observer.sample()
        shown += 1


def json_line(arguments: argparse.Namespace, snapshot: Snapshot, total: Accounting) -> str:
    """What ``--json`` prints of an interval; ``total`` is the account up to its end."""
    from mmwatch.cli.tables import row_order
    from mmwatch.model.snapshot import accounting_json, to_json

    found = to_json(snapshot, row_order(arguments, snapshot))
    found["accounting_so_far"] = accounting_json(total)
    return json.dumps(found)
