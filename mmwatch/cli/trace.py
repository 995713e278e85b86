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
  mmwatch trace --json | jq .duration_ns      for programs
  mmwatch trace | grep priority=0             only reclaims that scanned whole lists
"""


def add(subparsers: options.Subparsers) -> None:
    """Declare the command."""
    parser = options.command(subparsers, "trace", "print each reclaim as it happens, as ftrace does", run, EPILOG)
    options.add_target(parser)
    parser.add_argument("-n", "--count", type=options.count, metavar="COUNT", help="end after this many lines")
    parser.add_argument(
        "-T", "--wall-clock", action="store_true", help="print the time of day, not CLOCK_MONOTONIC as ftrace does"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
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
    from mmwatch.display.trace import Tracing, trace_json, trace_lines

    monotonic_s = time.time() - time.monotonic()
    tracing = Tracing(observer.session, observer.cgroup_name, monotonic_s, arguments.wall_clock)
    to_lines = trace_json if arguments.json else trace_lines
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
                sys.stdout.write("".join(f"{line}\n" for line in to_lines(records, tracing)))
                sys.stdout.flush()
            else:
                time.sleep(DRAIN_S)
            now_lost = observer.tracer.lost_records()
            if now_lost > lost:
                missing = now_lost - lost
                line = f'{{"lost": {missing}}}' if arguments.json else f"# {missing} records were lost here"
                print(f"{line}{'' if arguments.json else ': the ring buffer was full'}", flush=True)
                lost = now_lost
    finally:
        observer.close()
        if lost:
            streams.say(f"{lost} records were lost in total")
    return 0
