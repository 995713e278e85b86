"""``mmwatch report``: a recording, as tables or JSON."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from mmwatch.cli import options

EPILOG = """\
examples:
  mmwatch report a.mmw                        who reclaimed, by process and path
  mmwatch report a.mmw --by node              from which nodes
  mmwatch report a.mmw --columns +p99,+futile more columns
  mmwatch report a.mmw --json | jq .totals    figures for programs
"""


def add(subparsers: options.Subparsers) -> None:
    """Declare the command."""
    parser = options.command(subparsers, "report", "show a recording as tables or JSON", run, EPILOG)
    parser.add_argument("file", metavar="FILE", help="what mmwatch record wrote")
    options.add_table(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from mmwatch.cli.tables import Table, print_columns, row_order
    from mmwatch.display.plain import report_lines
    from mmwatch.model.snapshot import take, to_json
    from mmwatch.recording import Reader, fold

    if arguments.columns == "help":
        print_columns()
        return 0
    table = Table.of(arguments, recorded=True)
    with Reader(Path(arguments.file)) as reader:
        if not reader.ended_cleanly:
            print(f"mmwatch: {reader.cut_off}", file=sys.stderr)
        snapshot = take(reader.session, fold(reader, arguments.by), arguments.by)
        course = reader.course()
    order = row_order(arguments, snapshot)
    if arguments.json:
        print(json.dumps({**to_json(snapshot, order), "course": [asdict(stretch) for stretch in course]}))
        return 0
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print("\n".join(report_lines(snapshot, table.columns, order, width, course=course)))
    return 0
