"""The full-screen display: wires a feed, the layout file and the terminal together."""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import json
import locale
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mmwatch import units
from mmwatch.cli.interrupts import held
from mmwatch.cli.live import LiveFeed
from mmwatch.cli.observe import Target
from mmwatch.errors import MmwatchError

if TYPE_CHECKING:
    from mmwatch.cli.playback import Playback
    from mmwatch.display.screen.app import ScreenApp
    from mmwatch.display.screen.layout import Layout
    from mmwatch.model.snapshot import Accounting, Snapshot


def available() -> bool:
    """Whether textual is installed; importing it would take a third of a second."""
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
    """Until the count is reached, or for so long, or until it is left; as :func:`mmwatch.cli.top.show`.

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
        from mmwatch.host.cgroups import limits, memory_mount

        layout, told = arranged(arguments)
        if layout.interval_s is not None:
            interval_s = layout.interval_s
            feed.set_interval_s(interval_s)
        mount = memory_mount()
        services = Services(
            exited=exited,
            limits=lambda path: limits(mount, path),
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
        app = ScreenApp(
            feed,
            layout,
            services,
            interval_s=interval_s,
            ascii_only=ascii_only(),
            headline=headline,
            limit=arguments.limit,
        )
        with held():
            run(app)
    finally:
        feed.end()
        feed.join()
        # What became of a recording, now that the screen is gone. A terminal that takes nothing is not waited for.
        for notice in feed.notices():
            if select.select([], [sys.stderr], [], 0)[1]:
                print(f"mmwatch: {notice}", file=sys.stderr)
    _raise(app.failure or feed.problem, "mmwatch top --plain")


def play(arguments: argparse.Namespace, playback: Playback) -> None:
    """A recording, until it is left.

    :raises MmwatchError: it is damaged, or the screen failed.
    """
    from mmwatch.display.screen.app import ScreenApp
    from mmwatch.display.screen.feed import Services

    layout, told = arranged(arguments)
    services = Services(
        watch=playback.watch,
        recent=playback.recent,
        notices=lambda: once(told),
        save=save_layout,
        export=export,
        notes=lambda: ["a recording is played: limits of cgroups, and who has exited, were not recorded"],
    )
    app = ScreenApp(
        playback,
        layout,
        services,
        controls=playback,
        interval_s=playback.session.interval_s,
        ascii_only=ascii_only(),
        limit=arguments.limit,
    )
    with held():
        run(app)
    _raise(app.failure, "mmwatch replay -b")


def _raise(failure: BaseException | None, instead: str) -> None:
    """:raises MmwatchError: for whatever made the screen end."""
    if isinstance(failure, MmwatchError):
        raise failure
    if failure is not None:
        raise MmwatchError(
            f"the screen failed: {type(failure).__name__}: {units.clean(str(failure))}",
            f"{instead} does without it; please report this",
        ) from failure


def run(app: ScreenApp) -> None:
    """Until it ends, or SIGINT, SIGTERM or SIGHUP ends it; the terminal is then as it was."""
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    others = (*numbers, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)
    before = {number: signal.getsignal(number) for number in others}

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in numbers:
            loop.add_signal_handler(number, app.exit)
        await app.run_async()

    # Modules and classes stay: going through them again and again was a tenth of the CPU time. Nor is it taken back:
    # pyroute2 leaves event loops behind, and Python 3.9 can be loud about their end.
    gc.freeze()
    try:
        asyncio.run(main())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ascii_only() -> bool:
    """Whether the terminal has no other characters; the console's font has few."""
    return locale.getpreferredencoding(False).lower() not in ("utf-8", "utf8") or os.environ.get("TERM") == "linux"


# ---- what the screen asks for ----


def once(notices: list[str]) -> list[str]:
    """What there is to tell; from now on it is told."""
    said, notices[:] = list(notices), []
    return said


def exited(tgid: int) -> bool | None:
    """Whether a process is gone."""
    return not os.path.exists(f"/proc/{tgid}") if tgid else None


def export(svg: str, text: str) -> str:
    """The screen as two files in the current directory, beside what there is; for their owner only, as recordings."""
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
        return f"written: {' and '.join(names)}"
    return f"cannot write the screen: there are too many files named {stem}"


# ---- the layout ----


def layout_file() -> Path:
    """``$XDG_CONFIG_HOME/mmwatch/layout.json``."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(home, "mmwatch", "layout.json")


def save_layout(layout: Layout) -> str:
    """Keep it; what to tell."""
    path = layout_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(layout.to_json(), indent=2) + "\n")
        temporary.replace(path)
    except OSError as error:
        return f"cannot save the layout to {units.clean(str(path))}: {error.strerror}"
    return f"saved to {units.clean(str(path))}"


def arranged(arguments: argparse.Namespace) -> tuple[Layout, list[str]]:
    """The layout that was saved, as the command line changes it; and what is wrong with the file, if anything is."""
    from mmwatch.cli.tables import check_columns, find_column
    from mmwatch.display.screen.layout import Layout

    problems = []
    path = layout_file()
    try:
        layout = Layout.from_json(json.loads(path.read_text()))
    except FileNotFoundError:
        layout = Layout()
    except (OSError, ValueError) as error:
        problems.append(f"{units.clean(str(path))} is ignored: {units.clean(str(error))}; W writes it anew")
        layout = Layout()
    given: frozenset[str] = getattr(arguments, "given", frozenset())
    if "by" in given:
        layout.by = arguments.by
    if "sort" in given:
        layout.sort, layout.reverse = find_column(arguments.sort).key, False
    if "interval" in given:
        layout.interval_s = None
    layout.reverse = arguments.reverse or layout.reverse
    if arguments.columns is not None:
        arguments.by = layout.by
        layout.columns[layout.by] = [column.key for column in check_columns(arguments)]
    return layout, problems
