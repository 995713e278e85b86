"""Reading the small text files of /proc and /sys."""

from __future__ import annotations

from pathlib import Path


def read_text(path: Path) -> str | None:
    """The text of a file; None if it is missing or may not be read. Bytes that are not UTF-8 become surrogates.

    Not in text mode, which depends on the locale and turns a carriage return, as a name may hold it, into a newline.
    """
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return None
