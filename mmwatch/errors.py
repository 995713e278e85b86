"""The errors a user can see: what happened and where, what to do next, and the exit code.

Only :mod:`mmwatch.cli` turns one into text and an exit status; everything else raises.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_ERROR = 1
EXIT_FINDING = 2
EXIT_INCONCLUSIVE = 3
EXIT_USAGE = 64
EXIT_UNAVAILABLE = 69
EXIT_NO_PERMISSION = 77
EXIT_NOT_EXECUTABLE = 126
EXIT_NO_COMMAND = 127


class MmwatchError(Exception):
    """Something the user can act on.

    :param message: what went wrong and where (a path, a PID, an option).
    :param hint: what to do next; a command where there is one.
    """

    exit_code = EXIT_ERROR

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type[MmwatchError], tuple[str, str]]:
        """Pickle both parts."""
        return type(self), (self.message, self.hint)


class UsageError(MmwatchError):
    """The command line is wrong."""

    exit_code = EXIT_USAGE


class UnavailableError(MmwatchError):
    """This machine has nothing to probe with: no BPF, no bcc, no vmscan tracepoints."""

    exit_code = EXIT_UNAVAILABLE


class OutOfMemoryError(MmwatchError):
    """The kernel refused memory, or ended a part of mmwatch to get some back."""


class NoPermissionError(MmwatchError):
    """The kernel or the file system refused, and more privilege would help."""

    exit_code = EXIT_NO_PERMISSION


class CommandError(MmwatchError):
    """A command that mmwatch was to run cannot be run. The exit codes are those of a shell, env(1) and time(1).

    :param found: there is such a file.
    """

    def __init__(self, message: str, hint: str = "", *, found: bool = False) -> None:
        super().__init__(message, hint)
        self.exit_code = EXIT_NOT_EXECUTABLE if found else EXIT_NO_COMMAND
