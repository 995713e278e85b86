"""``mmwatch report``: a recording, as tables or JSON."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from mmwatch.cli import options, streams, times

EPILOG = """\
examples:
  mmwatch report a.mmw                        who reclaimed, by process and path
  mmwatch report a.mmw --by node              by NUMA node
  mmwatch report a.mmw --begin 14:30          from then on
  mmwatch report a.mmw --columns +p99,+futile more columns
  mmwatch report a.mmw --verdict              what was wrong, why, and what to change
  mmwatch report a.mmw --json | jq .totals    figures for programs
"""


def add(subparsers: options.Subparsers) -> None:
    """Declare the command."""
    parser = options.command(subparsers, "report", "show a recording as tables or JSON", run, EPILOG)
    parser.add_argument("file", metavar="FILE", help="a recording by mmwatch record")
    times.add(parser)
    options.add_table(parser)
    parser.add_argument("--verdict", action="store_true", help="say what was wrong instead, as diagnose --from does")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(pid=None, cgroup=None, verbose=False)  # as diagnose has them


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from mmwatch.cli.tables import Table, print_columns, row_order
    from mmwatch.display.report import report_lines
    from mmwatch.model.course import course
    from mmwatch.model.json import to_json
    from mmwatch.model.snapshot import take
    from mmwatch.recording import Reader, fold

    if arguments.columns == "help":
        print_columns()
        return 0
    if arguments.verdict:
        from mmwatch.cli.diagnose import from_recording

        return from_recording(arguments, Path(arguments.file))
    table = Table.of(arguments, recorded=True)
    with Reader(Path(arguments.file)) as reader:
        if not reader.ended_cleanly:
            streams.say(reader.cut_off)
        span = times.span(reader, arguments)
        snapshot = take(reader.session, fold(reader, arguments.by, span), arguments.by)
        over_time = course(reader.stretches(span))
    order = row_order(arguments, snapshot)
    if arguments.json:
        print(json.dumps(to_json(snapshot, order, course=over_time), allow_nan=False))
        return 0
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    shown = report_lines(snapshot, table.columns(snapshot, width), order, width, course=over_time)
    print("\n".join(shown))
    return 0
