"""``mmwatch record``: what reclaims, to a file that ``report`` reads."""

from __future__ import annotations

import argparse
import os
import select
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mmwatch import units
from mmwatch.cli import options
from mmwatch.cli.interrupts import held, released
from mmwatch.cli.observe import Observer, Target, resolve_target
from mmwatch.errors import MmwatchError, UsageError

if TYPE_CHECKING:
    from mmwatch.model.snapshot import Accounting
    from mmwatch.recording import Summary, Writer

DRAIN_S = 0.05
"""Time between two looks at the ring buffer: it holds 70,000 records, ten times what has been seen in that time."""

EPILOG = """\
Ends after the duration, when the process or COMMAND ends, or at Ctrl-C; always with a summary of what was kept and
what was lost. With COMMAND, still records the whole host, since others reclaim on its behalf; --only leaves them out.

examples:
  mmwatch record -d 30s -o a.mmw        half a minute of the whole host
  mmwatch record -p 1234                one process, until it ends or Ctrl-C
  mmwatch record --only -- make -j8     a command and all it starts
"""


def add(subparsers: options.Subparsers) -> None:
    """Declare the command."""
    parser = options.command(
        subparsers, "record", "record reclaim to a file for report and any SQLite client", run, EPILOG
    )
    options.add_target(parser)
    options.add_interval(parser)
    parser.add_argument("-d", "--duration", metavar="DURATION", help="end after 30, 30s, 5m, 2h")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to (default: mmwatch-DATE-TIME.mmw)")
    parser.add_argument("-f", "--force", action="store_true", help="replace FILE if it exists")
    parser.add_argument(
        "--detail",
        choices=(*options.DETAILS, "none"),
        default="reclaims",
        help="keep each single reclaim too, or each pass or batch (default: reclaims); totals are always exact",
    )
    parser.add_argument(
        "--rate-limit",
        type=options.count,
        default=100_000,
        metavar="N",
        help="keep at most N single records a second and count the others (default 100000)",
    )
    parser.add_argument("--only", action="store_true", help="with COMMAND: only it and the processes it starts")
    parser.add_argument("command_line", nargs="*", metavar="-- COMMAND", help="run this, and end when it ends")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    interval_s = options.interval_s(arguments)
    duration_s = units.parse_duration_s(arguments.duration) if arguments.duration else float("inf")
    if arguments.only and not arguments.command_line:
        raise UsageError("--only needs a COMMAND", "mmwatch record --only -- COMMAND …")
    path = Path(arguments.output or time.strftime("mmwatch-%Y%m%d-%H%M%S.mmw"))
    target = options.target(arguments)
    if arguments.only and target.wanted:
        raise UsageError("--only and another filter exclude each other")
    child = Child(arguments.command_line) if arguments.command_line else None
    try:
        if child and arguments.only:
            target = resolve_target([child.pid], children=True)
        recording = Recording(arguments, path, target, interval_s, duration_s, child)
        with held():
            recording.run()
    finally:
        if child:
            child.give_up()
    return 0


class Child:
    """A command that waits to be let go until the probes are attached."""

    def __init__(self, command: list[str]) -> None:
        self.command = command
        if shutil.which(command[0]) is None:
            raise UsageError(f"cannot run {units.clean(command[0])}: there is no such program")
        wait, self._go = os.pipe()
        self._failed, failed = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(wait, failed)
        os.close(wait)
        os.close(failed)
        self.pidfd = os.pidfd_open(self.pid)
        self.status: int | None = None

    def _become(self, wait: int, failed: int) -> NoReturn:
        try:
            os.close(self._go)
            if os.read(wait, 1):
                os.execvp(self.command[0], self.command)
        except OSError as error:
            os.write(failed, (error.strerror or "failed").encode())
        finally:
            os._exit(127)

    def go(self) -> None:
        """Let it run.

        :raises UsageError: it cannot be executed.
        """
        os.write(self._go, b"1")
        os.close(self._go)
        self._go = -1
        problem = os.read(self._failed, 256).decode()  # ends when exec closes the other end
        if problem:
            self.ended()
            raise UsageError(f"cannot run {units.clean(self.command[0])}: {problem}")

    def ended(self) -> bool:
        """Whether it has ended; ``status`` then holds its exit status, negative for a signal."""
        if self.status is None and select.select([self.pidfd], [], [], 0)[0]:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status is not None

    def give_up(self) -> None:
        """If it was never let go, end it; a command that runs is left to run."""
        if self._go >= 0:
            os.close(self._go)
            self._go = -1
            os.waitpid(self.pid, 0)


class Recording:
    """One run of the command."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        path: Path,
        target: Target,
        interval_s: float,
        duration_s: float,
        child: Child | None,
    ) -> None:
        self.arguments, self.path, self.child = arguments, path, child
        self.interval_s, self.duration_s = interval_s, duration_s
        self.watched = [os.pidfd_open(pid) for pid in target.described.get("pid", ())] if child is None else []
        detail = options.DETAILS.get(arguments.detail, frozenset())
        self.observer = Observer(target, interval_s=interval_s, detail=detail, passes=arguments.passes)
        self.total: Accounting | None = None
        self.records = 0

    def run(self) -> None:
        """Record until something ends it; whatever that is, keep what there is and say what it is.

        :raises MmwatchError: the file could not be written (to the end).
        """
        from mmwatch.recording import Writer

        try:
            writer = Writer(self.path, self.observer.session, force=self.arguments.force)
        except BaseException:
            self.observer.close()
            raise
        try:
            if self.child:
                self.child.go()
            self._say(f"recording to {units.clean(str(self.path))}, Ctrl-C ends it")
            try:
                reason = self._until_something_ends(writer)
            except KeyboardInterrupt:
                reason = "interrupted"
            self._keep(writer, final=True)
        except MmwatchError:
            self._summary(writer.close(), "failed")
            raise
        finally:
            self.observer.close()
        self._summary(writer.close(), reason)

    def _until_something_ends(self, writer: Writer) -> str:
        """Keep interval after interval; returns why it ended."""
        began = time.monotonic()
        beat = began + self.interval_s
        end = began + self.duration_s
        self._allow()
        while True:
            now = time.monotonic()
            if now >= end:
                return "the duration is over"
            if self.child and self.child.ended():
                return "the command ended"
            if self.watched and len(select.select(self.watched, [], [], 0)[0]) == len(self.watched):
                return "the process ended"
            if now >= beat:
                self._keep(writer)
                self._progress(now - began, writer)
                beat = max(beat + self.interval_s, now)
            wait_s = min(beat, end) - time.monotonic()
            if self.observer.tracer.options.detail:
                self._drain(writer)
                wait_s = min(wait_s, DRAIN_S)
            ending = [self.child.pidfd] if self.child else self.watched[:1] if len(self.watched) == 1 else []
            with released():
                select.select(ending, [], [], max(0.0, wait_s))

    def _drain(self, writer: Writer) -> None:
        records = self.observer.tracer.drain()
        if len(records):
            self.records += len(records)
            writer.write_records(records)

    def _allow(self) -> None:
        self.observer.tracer.set_quota(max(1, int(self.arguments.rate_limit * self.interval_s)))

    def _keep(self, writer: Writer, final: bool = False) -> None:
        """An interval, and the records that belong to it: what came before its rows were read."""
        from mmwatch.model.snapshot import accounting

        interval = self.observer.sample(final)
        if self.observer.tracer.options.detail:
            self._drain(writer)
        self._allow()
        writer.write(interval)
        counts = accounting(self.observer.session, interval)
        self.total = self.total.then(counts) if self.total else counts

    def _say(self, text: str) -> None:
        print(f"mmwatch: {text}", file=sys.stderr)

    def _progress(self, seconds: float, writer: Writer) -> None:
        if sys.stderr.isatty() and self.total:
            size = units.pages_text(writer.size_bytes, 1)
            text = f"{seconds:.0f} s, {self.total.reclaimed_pages} pages, {self.records} records, {size}"
            print(f"\r\x1b[Kmmwatch: {text}, lost {self.total.lost}", end="", file=sys.stderr, flush=True)

    def _summary(self, summary: Summary, reason: str) -> None:
        from mmwatch.display.plain import accounting_line

        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr)
        if self.child and self.child.status is not None:
            reason += f" (exit status {self.child.status})"
        size = units.pages_text(summary.bytes, 1)
        intervals = f"{summary.intervals} interval{'' if summary.intervals == 1 else 's'}"
        kept = f"{intervals}, {self.records} single records, {size}"
        self._say(f"{reason}: kept {kept} in {units.clean(str(self.path))}")
        if self.total:
            self._say(accounting_line(self.total, None))
            self._say(f"to see it: mmwatch report {units.clean(str(self.path))}")
