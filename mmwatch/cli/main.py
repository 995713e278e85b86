"""The command line: finds and runs the command, and turns errors into messages and exit codes."""

from __future__ import annotations

import argparse
import errno
import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from mmwatch import __version__
from mmwatch.cli import interrupts, streams
from mmwatch.cli.options import suggestion
from mmwatch.errors import EXIT_ERROR, EXIT_OK, EXIT_USAGE, MmwatchError, UsageError
from mmwatch.units import clean

COMMANDS = ("diagnose", "top", "record", "report", "replay", "trace", "demo", "doctor")
"""Each is a module of this package with ``add(subparsers)`` and ``run(arguments)``."""

DESCRIPTION = "Shows who reclaims memory on this host, by which path, on which NUMA node, how hard, and at what cost."

EPILOG = """\
exit status: 0 success, 1 error, 2 a finding, 3 inconclusive, 64 usage, 69 this host cannot be probed,
77 no permission, 130 or 143 interrupted before it was done; record -- COMMAND has that of COMMAND

  sudo mmwatch diagnose                what is wrong, why, and what to change
  sudo mmwatch top                     who reclaims, every second
  sudo mmwatch record -d 30s -o a.mmw  record half a minute; mmwatch report a.mmw shows it
  mmwatch doctor                       what works on this host, what does not, and what to do
"""


class Parser(argparse.ArgumentParser):
    """Usage errors exit with 64, because 2 means that a diagnosis found something. What was mistyped gets a suggestion.

    A command's parser refuses what it does not know itself, so that the usage shown is that of the command.
    """

    def error(self, message: str) -> NoReturn:
        streams.show(self.format_usage())
        streams.show(f"{self.prog}: {clean(message)}\n")
        sys.exit(EXIT_USAGE)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            meant = suggestion(unknown[0].partition("=")[0], self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        return found, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = list(action.choices or ())
        if choices and value not in choices:
            meant = suggestion(str(value), map(str, choices)) or f" (choose from {', '.join(map(str, choices))})"
            raise argparse.ArgumentError(action, f"there is no {value!r}{meant}")


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
    streams.prepare()
    interrupts.install()
    try:
        return streams.finish(_run(argv))
    except SystemExit as end:  # --help, --version, usage
        return streams.finish(int(end.code or EXIT_OK))
    except MmwatchError as error:
        streams.say(error.message, error.hint)
        return streams.finish(error.exit_code)
    except KeyboardInterrupt:
        status = interrupts.status()
        if status:
            streams.say("interrupted before it was done")
        return streams.finish(status)
    except MemoryError:
        streams.say("out of memory")
        return streams.finish(EXIT_ERROR)
    except OSError as error:
        if error.errno == errno.ENOMEM:
            streams.say("out of memory")
            return streams.finish(EXIT_ERROR)
        if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EBADF):
            raise
        return streams.failed(error)


def _run(argv: Sequence[str] | None) -> int:
    parser = build_parser()
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = parser.parse_args(words)
    if arguments.command == "record" and words[-1] == "--":  # argparse swallows it
        raise UsageError("-- needs a COMMAND", "mmwatch record -- COMMAND …")
    if arguments.command is None:
        streams.show(parser.format_help())
        return EXIT_USAGE
    try:
        return int(arguments.run(arguments) or EXIT_OK)
    except (MmwatchError, OSError):
        raise
    except (Exception, SystemExit) as error:
        from mmwatch.session.packages import broken_by

        explained = broken_by(error)
        if explained is None:
            raise
        raise explained from error


if __name__ == "__main__":
    sys.exit(main())
