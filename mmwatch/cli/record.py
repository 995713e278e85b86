"""``mmwatch record``: writes who reclaims to a file that ``report`` reads."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import select
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mmwatch import units
from mmwatch.cli import interrupts, options, streams
from mmwatch.cli.interrupts import held, released
from mmwatch.errors import CommandError, MmwatchError, UsageError
from mmwatch.kernel.builder import make_room_for_files
from mmwatch.session.beat import Beat
from mmwatch.session.observer import Observer
from mmwatch.session.recorder import Recorder
from mmwatch.session.target import Target, resolve_target

if TYPE_CHECKING:  # slow imports run while the compiler works
    from mmwatch.recording import NewFile, Summary, Writer

EPILOG = """\
The recording ends after the duration, when the process or COMMAND ends, or on Ctrl-C. A summary then says what was kept
and what was lost. With COMMAND it still covers the whole host, because others reclaim on its behalf; --only leaves
them out.

examples:
  mmwatch record -d 30s -o a.mmw        half a minute of the whole host
  mmwatch record -p 1234                one process, until it ends or Ctrl-C
  mmwatch record --only -- make -j8     a command and everything it starts
"""


def add(subparsers: options.Subparsers) -> None:
    """Declare the command."""
    parser = options.command(
        subparsers, "record", "record reclaim to a file for report, replay and any SQLite client", run, EPILOG
    )
    options.add_target(parser)
    options.add_interval(parser)
    parser.add_argument("-d", "--duration", metavar="DURATION", help="end after 30, 30s, 5m, 2h")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to FILE (default: mmwatch-DATE-TIME.mmw)")
    parser.add_argument("-f", "--force", action="store_true", help="replace FILE if it exists")
    parser.add_argument(
        "--detail",
        choices=(*options.DETAILS, "none"),
        default="reclaims",
        help="also keep each reclaim, and each pass or batch (default: reclaims); totals are always exact",
    )
    parser.add_argument(
        "--rate-limit",
        type=options.count,
        default=100_000,
        metavar="N",
        help="keep at most N single records per second and count the rest (default 100000)",
    )
    parser.add_argument("--only", action="store_true", help="with COMMAND: record only it and the processes it starts")
    parser.add_argument("command_line", nargs="*", metavar="-- COMMAND", help="run this command; end when it ends")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    interval_s = options.interval_s(arguments)
    duration_s = units.parse_duration_s(arguments.duration) if arguments.duration else float("inf")
    if arguments.only and not arguments.command_line:
        raise UsageError("--only needs a COMMAND", "mmwatch record --only -- COMMAND …")
    path = Path(arguments.output or time.strftime("mmwatch-%Y%m%d-%H%M%S.mmw"))
    target = options.target(arguments)
    if arguments.only and target.wanted:
        raise UsageError("--only cannot be combined with another filter")
    child = Child(arguments.command_line) if arguments.command_line else None
    try:
        if child and arguments.only:
            target = resolve_target([child.pid], children=True)
        recording = Recording(arguments, path, target, interval_s, duration_s, child)
        with held():
            recording.run()
    except KeyboardInterrupt:
        if not interrupts.status():
            raise
        streams.say(f"interrupted before the recording began: {path} was not written")
        return interrupts.status()
    finally:
        if child:
            child.give_up()
    return child.exit_code() if child else 0


class Child:
    """A command that starts once the probes are attached."""

    def __init__(self, command: list[str]) -> None:
        self.command = command
        if shutil.which(command[0]) is None:
            found = os.path.exists(command[0])
            why = "it is not executable" if found else "there is no such program"
            raise CommandError(
                f"cannot run {command[0]!r}: {why}", "name a program, with its path or on PATH", found=found
            )
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
                # Python ignores these two, and exec keeps what is ignored. What the shell had cannot be known.
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                os.execvp(self.command[0], self.command)
        except OSError as error:
            os.write(failed, (error.strerror or "failed").encode())
        finally:
            os._exit(127)

    def go(self) -> None:
        """Start it.

        :raises CommandError: it cannot be executed.
        """
        os.write(self._go, b"1")
        os.close(self._go)
        self._go = -1
        problem = os.read(self._failed, 256).decode()  # empty once exec closes the other end
        if problem:
            self.ended()
            raise CommandError(f"cannot run {self.command[0]!r}: {problem}", found=True)

    def ended(self) -> bool:
        """Whether it has ended. ``status`` then holds the exit status, negative for a signal."""
        if self.status is None and ready([self.pidfd], 0):
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status is not None

    def exit_code(self) -> int:
        """Its exit status as a shell has it, for a signal 128 and its number; 0 while it runs."""
        status = self.status or 0
        return status if status >= 0 else 128 - status

    def give_up(self) -> None:
        """End it if it was never started; leave a running command alone."""
        if self._go >= 0:
            os.close(self._go)
            self._go = -1
            os.waitpid(self.pid, 0)


def watch(pids: Iterable[int]) -> list[int]:
    """A pidfd for each process that is still there.

    :raises UnavailableError: too few files may be open.
    """
    wanted = tuple(dict.fromkeys(pids))
    if wanted:
        make_room_for_files(len(wanted))
    found = []
    for pid in wanted:
        with contextlib.suppress(ProcessLookupError):
            found.append(os.pidfd_open(pid))
    return found


def ready(descriptors: list[int], seconds: float) -> int:
    """How many are readable, after at most so many seconds (or an hour). select() refuses descriptors above 1023."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return len(poll.poll(math.ceil(1000 * min(seconds, 3600))))


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
        self.watched = watch(target.described.get("pid", ())) if child is None else []
        self.filtered = child is None and "pid" in target.described
        detail = options.DETAILS.get(arguments.detail, frozenset())
        self.file: NewFile | None = None
        try:
            self.observer = Observer(
                target, interval_s=interval_s, detail=detail, passes=arguments.passes, meanwhile=self._create
            )
        except BaseException:
            if self.file is not None:
                self.file.discard()
            raise

    def _create(self) -> None:
        """Create the file before anything is attached: a recording that cannot be written need not begin."""
        from mmwatch.recording import NewFile

        self.file = NewFile(self.path, self.arguments.force)

    def run(self) -> None:
        """Record until something ends it, then write what is left and print the summary.

        :raises MmwatchError: the file could not be written, or not to the end.
        """
        from mmwatch.recording import Writer

        assert self.file is not None
        try:
            writer = Writer(self.file, self.observer.session)
        except BaseException:
            self.observer.close()
            raise
        recorder = Recorder(self.observer, writer, self.interval_s, self.arguments.rate_limit)
        try:
            self._go(writer)
            interrupts.begin()
            options.protect()
            streams.say(f"recording to {self.path}; Ctrl-C ends it")
            for notice in self.file.notices:
                streams.say(notice)
            began_s = time.monotonic()
            beat = Beat(self.interval_s, self.duration_s)
            try:
                reason = recorder.run(
                    beat, self._ended, self._wait, lambda: self._progress(time.monotonic() - began_s, recorder, writer)
                )
            except KeyboardInterrupt:
                reason = "interrupted"
            recorder.keep(final=True)
        except CommandError:
            raise
        except MmwatchError:
            self._summary(recorder, writer.close(), "failed")
            raise
        finally:
            self.observer.close()
        self._summary(recorder, writer.close(), reason)

    def _go(self, writer: Writer) -> None:
        """Start the command.

        :raises CommandError: it cannot be executed. No file is left.
        """
        try:
            if self.child:
                self.child.go()
        except CommandError:
            writer.discard()
            raise

    def _ended(self) -> str:
        """Why the recording is over; empty while it goes on."""
        if self.child and self.child.ended():
            return "the command ended"
        if self.filtered and ready(self.watched, 0) == len(self.watched):
            return "the process ended"
        return ""

    def _wait(self, seconds: float) -> None:
        ending = [self.child.pidfd] if self.child else self.watched if len(self.watched) == 1 else []
        with released():
            ready(ending, seconds)

    def _progress(self, seconds: float, recorder: Recorder, writer: Writer) -> None:
        total = recorder.total
        if sys.stderr.isatty() and total:
            size = units.pages_text(writer.size_bytes, 1)
            text = f"{seconds:.0f} s, {total.reclaimed_pages} pages, {recorder.records} records, {size}"
            streams.show(f"\r\x1b[Kmmwatch: {text}, lost {total.lost}")

    def _summary(self, recorder: Recorder, summary: Summary, reason: str) -> None:
        from mmwatch.display.host import accounting_line

        if sys.stderr.isatty():
            streams.show("\r\x1b[K")
        if self.child and self.child.status is not None:
            reason += f" (exit status {self.child.exit_code()})"
        size = units.pages_text(summary.bytes, 1)
        intervals = units.number_text(summary.intervals, "interval")
        kept = f"{intervals}, {sum(summary.records.values())} single records, {size}"
        if not summary.bytes:
            streams.say(f"{reason}: nothing was kept")
            return
        streams.say(f"{reason}: kept {kept} in {summary.path}")
        if recorder.total:
            streams.say(accounting_line(recorder.total, None))
            streams.say(f"to view it: mmwatch report {shlex.quote(str(summary.path))}")
