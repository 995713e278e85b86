"""Where the process begins. Signals are taken care of before the first slow import.

The imports of the command line take a tenth of a second. Python answers Ctrl-C in the middle of one with a traceback.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from mmwatch.cli.descriptors import fill_descriptors
from mmwatch.cli.interrupts import ENDING, finish


def entry() -> NoReturn:
    """The console script."""
    fill_descriptors()
    for number in ENDING:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # otherwise, as nohup wants it
            signal.signal(number, _end)
    from mmwatch.cli.main import main

    status = main()
    finish()
    sys.exit(status)


def _end(number: int, _frame: FrameType | None) -> None:
    try:
        os.write(2, b"mmwatch: interrupted before it began\n")
    finally:
        os._exit(128 + number)
