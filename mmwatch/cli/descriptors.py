"""File descriptors 0 to 2, whatever the parent left."""

from __future__ import annotations

import os


def fill_descriptors() -> None:
    """Open those of 0 to 2 that are closed.

    A daemon may start its children with these closed. The next file to be opened would then take such a number, and
    what is meant for stderr would end up in a recording. That file may be a library that an import loads.
    """
    for number, how in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, how)  # takes the lowest free number
