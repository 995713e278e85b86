"""The command line: finds and runs the command, and turns errors into messages and exit codes."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from mmwatch import __version__
from mmwatch.cli import interrupts
from mmwatch.errors import EXIT_ERROR, EXIT_OK, EXIT_USAGE, MmwatchError
from mmwatch.units import clean

COMMANDS = ("top", "record", "report", "replay", "trace", "demo", "doctor")
"""Each is a module of this package with ``add(subparsers)`` and ``run(arguments)``."""

DESCRIPTION = "Shows who reclaims memory on this host, by which path, on which NUMA node, how hard, and at what cost."

EPILOG = """\
exit status: 0 success, 1 error, 2 a diagnosis or threshold was hit, 64 usage, 69 this host cannot be probed,
77 no permission

  sudo mmwatch top                     who reclaims, every second
  sudo mmwatch record -d 30s -o a.mmw  record half a minute; mmwatch report a.mmw shows it
  mmwatch doctor                       what works on this host, what does not, and what to do
"""


class Parser(argparse.ArgumentParser):
    """Usage errors exit with 64, because 2 means that a diagnosis found something."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        print(f"{self.prog}: {message}", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="mmwatch",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-V", "--version", action="version", version=f"mmwatch {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"mmwatch.cli.{name}").add(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    :returns: the exit status.
    """
    try:
        parser = build_parser()
        arguments = parser.parse_args(argv)
        if arguments.command is None:
            parser.print_help(sys.stderr)
            return EXIT_USAGE
        interrupts.install()
        status = int(arguments.run(arguments) or EXIT_OK)
        sys.stdout.flush()
        return status
    except MmwatchError as error:
        print(f"mmwatch: {clean(error.message)}", file=sys.stderr)
        if error.hint:
            print(f"  {clean(error.hint)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_OK
    except BrokenPipeError:
        # The reader of our output has exited, as head does.
        _say_no_more()
        return EXIT_OK
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
            raise
        _say_no_more()
        print(f"mmwatch: cannot write the output: {error.strerror}", file=sys.stderr)
        print("  make room, or redirect the output", file=sys.stderr)
        return EXIT_ERROR


def _say_no_more() -> None:
    """Discard what is still buffered for standard output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def entry() -> NoReturn:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
