"""``mmwatch trace``: one line per reclaim as it happens, as ftrace prints them."""

from __future__ import annotations

import argparse
import sys
import time

from mmwatch.cli import interrupts, options, streams
from mmwatch.session.observer import Observer

DRAIN_S = 0.02

EPILOG = """\
examples:
  mmwatch trace -n 20                         the next twenty reclaims of the host
  mmwatch trace -p 1234 --detail batches      also each batch of inactive pages
  mmwatch trace | grep priority=0             only reclaims that scanned whole lists
"""


def add(subparsers: options.Subparsers) -> None:
    """Declare the command."""
    parser = options.command(subparsers, "trace", "print each reclaim as it happens, as ftrace does", run, EPILOG)
    options.add_target(parser)
    parser.add_argument("-n", "--count", type=options.count, metavar="COUNT", help="end after this many lines")
    parser.add_argument(
        "--detail",
        choices=tuple(options.DETAILS),
        default="reclaims",
        help="print each reclaim (default), and with it each pass or each batch",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    target = options.target(arguments)
    observer = Observer(target, detail=options.DETAILS[arguments.detail], names=False, passes=arguments.passes)
    from mmwatch.display.trace import trace_lines

    scans_known = "scanned_file_pages" not in observer.session.unknown
    lines_left = arguments.count if arguments.count is not None else sys.maxsize
    lost = 0
    try:
        interrupts.begin()
        options.protect()
        streams.say(f"tracing {arguments.detail}; Ctrl-C ends it")
        while lines_left > 0:
            records = observer.tracer.drain()[:lines_left]
            if len(records):
                lines_left -= len(records)
                sys.stdout.write("".join(f"{line}\n" for line in trace_lines(records, scans_known)))
                sys.stdout.flush()
            else:
                time.sleep(DRAIN_S)
            now_lost = observer.tracer.lost_records()
            if now_lost > lost:
                print(f"# {now_lost - lost} records were lost here: the ring buffer was full", flush=True)
                lost = now_lost
    finally:
        observer.close()
        if lost:
            streams.say(f"{lost} records were lost in total")
    return 0
