"""``mmwatch top``: who reclaims now, on the screen, as blocks of text, or as JSON."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

from mmwatch.cli import interrupts, options, streams
from mmwatch.session.beat import Beat
from mmwatch.session.observer import FIRST_INTERVAL_S, Observer, intervals
from mmwatch.session.target import Target

if TYPE_CHECKING:  # slow imports run while the compiler works
    from mmwatch.diagnosis.lately import Lately
    from mmwatch.model.accounting import Accounting
    from mmwatch.model.snapshot import Snapshot

CLEAR = "\x1b[H\x1b[J"

EPILOG = """\
examples:
  mmwatch top                      the whole host, every second; ? shows the keys
  mmwatch top -p 1234 --by thread  the threads of one process
  mmwatch top -b -n 60 > log       a block of text per interval, for a minute
  mmwatch top --by comm            one row per name and path: a loop of short commands is one row
  mmwatch top --json -i 0.5        a JSON object per interval, one per line
"""


def add(subparsers: options.Subparsers) -> None:
    """Declare the command."""
    parser = options.command(
        subparsers, "top", "show live who reclaims memory, by which path, and how hard", run, EPILOG
    )
    options.add_target(parser)
    options.add_interval(parser)
    parser.add_argument("-n", "--count", type=options.count, metavar="COUNT", help="end after this many intervals")
    options.add_plain(parser)
    options.add_table(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per interval, one per line")


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
    """Observe and show until the count is reached, the time is over, or Ctrl-C.

    :param headline: the first line of each screen: drawing a screen clears whatever was printed before it.
    :param attached: called once the probes are attached and count.
    :param seen: called with each interval and the account from the start to its end.
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
        streams.say("textual is not installed (pip install textual); showing a plain table instead")
    if not batch:
        streams.say("compiling the probes; Ctrl-C ends it")
    observer = Observer(target, interval_s=interval_s, passes=arguments.passes)
    try:
        interrupts.begin()
        if attached:
            attached()
        options.protect()
        total: Accounting | None = None
        lately: Lately | None = None
        beat = Beat(interval_s, duration_s, None if batch else FIRST_INTERVAL_S)
        for interval in intervals(observer, beat, arguments.count, quick=not batch):
            from mmwatch.model.accounting import sum_accounts
            from mmwatch.model.snapshot import take

            snapshot = take(observer.session, interval, arguments.by)
            total = sum_accounts(total, snapshot.accounting)
            if seen:
                seen(snapshot, total)
            from mmwatch.diagnosis.lately import Lately

            lately = lately or Lately(observer.session)
            lately.add(interval)
            if table is None:
                print(json_line(arguments, snapshot, total, lately), flush=True)
                continue
            above = [headline] if headline and not batch else []
            columns, height = shutil.get_terminal_size()
            size = os.terminal_size((columns, height - len(above)))
            text = "\n".join([*above, *table.screen(snapshot, total, None if batch else size, lately)])
            print(f"{text}\n" if batch else f"{CLEAR}{text}", end="\n" if batch else "", flush=True)
    finally:
        observer.close()
        if not batch:
            print()


def json_line(arguments: argparse.Namespace, snapshot: Snapshot, total: Accounting, lately: Lately) -> str:
    """What ``--json`` prints for an interval.

    :param total: the account from the start to its end.
    :param lately: has got the interval.
    """
    from mmwatch.cli.tables import row_order
    from mmwatch.diagnosis.json import brief
    from mmwatch.model.json import to_json

    found = to_json(snapshot, row_order(arguments, snapshot), so_far=total)
    judged = lately.verdict()
    found["verdict"] = brief(*judged) if judged else None
    return json.dumps(found, allow_nan=False)
