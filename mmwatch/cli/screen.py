"""The full-screen display: wires the feed, the saved layout and the terminal together."""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import locale
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mmwatch import units
from mmwatch.cli import interrupts, streams
from mmwatch.cli.interrupts import held
from mmwatch.cli.layouts import arranged, save_layout
from mmwatch.errors import MmwatchError
from mmwatch.session.live import LiveFeed
from mmwatch.session.target import Target

if TYPE_CHECKING:
    from mmwatch.display.screen.app import ScreenApp
    from mmwatch.model.accounting import Accounting
    from mmwatch.model.snapshot import Snapshot
    from mmwatch.session.playback import Playback


def available() -> bool:
    """Whether textual is installed. Does not import it, which takes a third of a second."""
    return importlib.util.find_spec("textual") is not None


def show(
    arguments: argparse.Namespace,
    target: Target,
    interval_s: float,
    duration_s: float = float("inf"),
    headline: str = "",
    attached: Callable[[], None] | None = None,
    seen: Callable[[Snapshot, Accounting], None] | None = None,
) -> None:
    """Show a live session until the count is reached, the time is over, or the user quits.

    Parameters are those of :func:`mmwatch.cli.top.show`.

    :raises MmwatchError: nothing can be observed, or the screen failed.
    """
    feed = LiveFeed(
        target,
        interval_s,
        passes=arguments.passes,
        count=arguments.count,
        duration_s=duration_s,
        attached=attached,
        seen=seen,
    )
    feed.start()
    try:
        from mmwatch.display.screen.app import ScreenApp
        from mmwatch.display.screen.feed import Services
        from mmwatch.display.screen.state import State

        layout, told = arranged(arguments)
        if layout.interval_s is not None:
            interval_s = layout.interval_s
            feed.set_interval_s(interval_s)
        services = Services(
            exited=exited,
            watch=feed.watch,
            recent=feed.recent,
            bpf_ns=lambda: feed.bpf_ns,
            record=feed.record,
            recording=lambda: feed.recording,
            notices=lambda: [*once(told), *feed.notices()],
            save=save_layout,
            export=export,
            notes=lambda: feed.notes,
        )
        state = State(
            feed,
            layout,
            services,
            interval_s=interval_s,
            ascii_only=ascii_only(),
            headline=headline,
            limit=arguments.limit,
        )
        app = ScreenApp(state)
        interrupts.begin()
        with held():
            run(app)
    finally:
        feed.end()
        feed.join()
        # The screen has closed: report here how a recording ended. Do not wait for a terminal that accepts no output.
        for notice in feed.notices():
            if select.select([], [sys.stderr], [], 0)[1]:
                streams.say(notice)
    _raise(app.failure or feed.problem, "mmwatch top --plain")


def play(arguments: argparse.Namespace, playback: Playback) -> None:
    """Show a recording until the user quits.

    :raises MmwatchError: it is damaged, or the screen failed.
    """
    from mmwatch.display.screen.app import ScreenApp
    from mmwatch.display.screen.feed import Services
    from mmwatch.display.screen.state import State

    layout, told = arranged(arguments)
    services = Services(
        watch=playback.watch,
        recent=playback.recent,
        notices=lambda: once(told),
        save=save_layout,
        export=export,
        notes=lambda: ["this is a recording: it does not know which processes have exited"],
    )
    state = State(
        playback,
        layout,
        services,
        controls=playback,
        interval_s=playback.session.interval_s,
        ascii_only=ascii_only(),
        limit=arguments.limit,
    )
    app = ScreenApp(state)
    with held():
        run(app)
    _raise(app.failure, "mmwatch replay -b")


def _raise(failure: BaseException | None, instead: str) -> None:
    """:raises MmwatchError: if the screen failed."""
    if isinstance(failure, MmwatchError):
        raise failure
    if failure is not None:
        from mmwatch.session.packages import broken_by

        raise broken_by(failure) or MmwatchError(
            f"the screen failed: {type(failure).__name__}: {units.clean(str(failure))}",
            f"{instead} works without it; please report this",
        ) from failure


def run(app: ScreenApp) -> None:
    """Run until the app or SIGINT, SIGTERM or SIGHUP ends it; restores the terminal and the signal handlers."""
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    others = (*numbers, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)
    before = {number: signal.getsignal(number) for number in others}

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in numbers:
            loop.add_signal_handler(number, app.exit)
        await app.run_async()

    # Keep the collector from scanning modules and classes: that took a tenth of the CPU time. It stays frozen, because
    # pyroute2 leaves event loops behind, and Python 3.9 may complain when they are collected.
    gc.freeze()
    try:
        asyncio.run(main())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ascii_only() -> bool:
    """Whether to draw with ASCII characters only: the locale has no others, or the console font has few."""
    return locale.getpreferredencoding(False).lower() not in ("utf-8", "utf8") or os.environ.get("TERM") == "linux"


# ---- services for the screen ----


def once(notices: list[str]) -> list[str]:
    """The notices; each is returned once."""
    said, notices[:] = list(notices), []
    return said


def exited(tgid: int) -> bool | None:
    """Whether a process is gone; None without a PID."""
    return not os.path.exists(f"/proc/{tgid}") if tgid else None


def export(svg: str, text: str) -> str:
    """Write the screen to two new files in the current directory, readable by their owner only.

    :returns: a message for the user.
    """
    stem = time.strftime("mmwatch-%Y%m%d-%H%M%S")
    for number in range(1000):
        names = [f"{stem}{f'-{number}' if number else ''}{suffix}" for suffix in (".svg", ".txt")]
        try:
            for name, content in zip(names, (svg, text)):
                file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with open(file, "w", encoding="utf-8") as stream:
                    stream.write(content)
        except FileExistsError:
            continue
        except OSError as error:
            return f"cannot write {names[0]} to the current directory: {error.strerror}"
        return f"wrote {' and '.join(names)}"
    return f"cannot write the screen: too many files are named {stem}"
