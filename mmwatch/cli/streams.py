"""Standard input, output and error: sane at the start, whatever the parent left, and flushed at the end.

Data goes to stdout, everything else through :func:`say` to stderr.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import sys
from typing import Any

from mmwatch.cli.descriptors import fill_descriptors
from mmwatch.display.text import to_ascii
from mmwatch.errors import EXIT_ERROR, EXIT_OK
from mmwatch.units import clean

_SUBSTITUTE = "mmwatch"
_GONE = (errno.EPIPE, errno.ESHUTDOWN, errno.ECONNRESET)


def prepare() -> None:
    """Make the streams usable, even if they were closed, and text printable in any character set."""
    fill_descriptors()
    sys.stdin = sys.stdin or _opened(0, "r")
    sys.stdout = sys.stdout or _opened(1, "w")
    sys.stderr = sys.stderr or _opened(2, "w")
    codecs.register_error(_SUBSTITUTE, _substitute)
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) in ("strict", "surrogateescape") and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_SUBSTITUTE)


def _opened(number: int, mode: str) -> Any:
    return open(number, mode, closefd=False)


def _substitute(error: Any) -> tuple[str, int]:
    """What :func:`to_ascii` shows in place of characters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return to_ascii(error.object[error.start : error.end]), error.end


def say(text: str, hint: str = "") -> None:
    """Print a message for the user, and what to do about it. There may be nobody left to read it."""
    lines = f"mmwatch: {clean(text)}\n" + (f"  {clean(hint)}\n" if hint else "")
    show(lines)


def show(text: str) -> None:
    """Print clean text to stderr as it is."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError):
        _discard(sys.stderr, 2)


def finish(status: int) -> int:
    """Write what is left of the output.

    :returns: the exit status: ``status``, or an error if the output could not be written.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        return failed(error, status)
    return status


def failed(error: OSError, status: int = EXIT_OK) -> int:
    """The output could not be written; nothing more is.

    :returns: ``status`` if its reader has exited, as head does.
    """
    _discard(sys.stdout, 1)
    if error.errno in _GONE:
        return status
    say(f"cannot write the output: {error.strerror}", "make room, or redirect the output")
    return EXIT_ERROR


def _discard(stream: Any, number: int) -> None:
    """Let what is still buffered vanish, also what the interpreter writes at its end."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)
        stream.flush()
