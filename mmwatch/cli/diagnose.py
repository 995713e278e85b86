"""``mmwatch diagnose``: what is wrong, who suffers, what it costs, and what to change."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmwatch.cli import interrupts, options, streams, times
from mmwatch.errors import (
    EXIT_FINDING,
    EXIT_INCONCLUSIVE,
    EXIT_OK,
    MmwatchError,
    NoPermissionError,
    UnavailableError,
    UsageError,
)
from mmwatch.session.target import Target, resolve_target
from mmwatch.units import clean, parse_duration_s

if TYPE_CHECKING:
    from mmwatch.diagnosis.observation import Observation
    from mmwatch.diagnosis.subject import Subject
    from mmwatch.diagnosis.verdict import Verdict
    from mmwatch.session.look import Look

DEFAULT_S = 10.0

EPILOG = """\
It first looks at counters, then traces for ten seconds and gives its verdict. Nothing is changed.
exit status: 0 healthy, 2 a finding, 3 inconclusive or degraded

examples:
  sudo mmwatch diagnose                the whole host
  sudo mmwatch diagnose -p 1234        why is this process slow?
  mmwatch diagnose --no-trace          counters only, without root
  mmwatch diagnose --from a.mmw        from a recording
"""


def add(subparsers: options.Subparsers) -> None:
    """Declare the command."""
    parser = options.command(
        subparsers, "diagnose", "say what is wrong, who suffers, what it costs, and what to change", run, EPILOG
    )
    subject = parser.add_argument_group("about whom (default: the whole host)")
    subject.add_argument("-p", "--pid", type=options.count, metavar="PID", help="why is this process slow?")
    subject.add_argument("-c", "--cgroup", metavar="CGROUP", help="why are the tasks of this memory cgroup slow?")
    parser.add_argument("-d", "--duration", metavar="DURATION", help="trace for so long: 10, 30s, 2m (default 10s)")
    parser.add_argument("--no-trace", action="store_true", help="stop after the look at counters; needs no root")
    parser.add_argument(
        "--no-passes",
        dest="passes",
        action="store_false",
        help="do not probe shrink_node: costs less in a reclaim storm",
    )
    parser.add_argument("--from", dest="file", metavar="FILE", help="judge a recording instead of this host")
    times.add(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="show all findings in full, and all rules")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if arguments.pid is not None and arguments.cgroup is not None:
        raise UsageError("-p and -c cannot be combined", "a process is in one cgroup; name either")
    if arguments.no_trace and (arguments.pid is not None or arguments.cgroup is not None):
        raise UsageError("--no-trace cannot be combined with -p or -c", "counters tell about the whole host only")
    if arguments.file is None and (arguments.begin is not None or arguments.end is not None):
        raise UsageError("--begin and --end choose a part of a recording", "add --from FILE")
    if arguments.file is not None:
        for name in ("duration", "no_trace"):
            if getattr(arguments, name):
                raise UsageError(f"--{name.replace('_', '-')} cannot be combined with --from", "a recording is over")
        return from_recording(arguments, Path(arguments.file))
    duration_s = parse_duration_s(arguments.duration) if arguments.duration else DEFAULT_S
    target = resolve_target([arguments.pid] if arguments.pid else None, cgroup=arguments.cgroup)
    for note in target.notes:
        streams.say(note)
    return from_host(arguments, target, duration_s)


def from_recording(arguments: argparse.Namespace, path: Path) -> int:
    """Judge a recording."""
    from mmwatch.diagnosis.observation import observe
    from mmwatch.recording import Reader, series

    with Reader(path) as reader:
        if not reader.ended_cleanly:
            streams.say(reader.cut_off)
        intervals = series(reader, times.span(reader, arguments))
        session = reader.session
    if not intervals:
        raise MmwatchError(f"{clean(str(path))} has no interval to judge", "record for at least one interval")
    tgids = [arguments.pid] if arguments.pid else []
    if tgids and not any((interval.rows["tgid"] == arguments.pid).any() for interval in intervals):
        raise MmwatchError(f"process {arguments.pid} has no reclaim in {clean(str(path))}", f"mmwatch report {path}")
    return conclude(arguments, observe(session, intervals), tgids, arguments.cgroup)


def from_host(arguments: argparse.Namespace, target: Target, duration_s: float) -> int:
    """Look at this host, then trace it."""
    from mmwatch.session.look import Look

    look = Look()
    tgids, cgroup = target.described.get("pid", []), _cgroup(target)
    if arguments.no_trace:
        time.sleep(look.left_s())
        return conclude(arguments, looked_at(look))
    try:
        observation = trace(arguments, look, tuple(tgids), duration_s)
    except (NoPermissionError, UnavailableError) as error:
        streams.say(f"cannot trace: {error.message}", error.hint)
        streams.say("judging by counters alone, which is weaker")
        if tgids or cgroup:
            streams.say("this is about the whole host: -p and -c need tracing")
        time.sleep(look.left_s())
        next_command = "mmwatch doctor" if isinstance(error, UnavailableError) else ""
        return conclude(arguments, looked_at(look), next_command=next_command)
    return conclude(arguments, observation, tgids, cgroup)


def _cgroup(target: Target) -> str | None:
    """The path of the cgroup asked about, from the root of the hierarchy."""
    if "cgroup" not in target.described:
        return None
    from mmwatch.host.cgroups import memory_mount

    mount = memory_mount()
    path = str(target.described["cgroup"])
    return (path[len(str(mount.path)) :] if mount and path.startswith(str(mount.path)) else path) or "/"


def trace(arguments: argparse.Namespace, look: Look, tgids: tuple[int, ...], duration_s: float) -> Observation:
    """Observe the whole host for so long: others may be the cause.

    Ctrl-C ends it early; what was seen so far is judged.
    """
    from mmwatch.session.beat import Beat
    from mmwatch.session.observer import Observer

    def tell_signs() -> None:
        time.sleep(look.left_s())
        _tell(look)

    observer = Observer(
        resolve_target(),
        interval_s=min(1.0, duration_s),
        passes=arguments.passes,
        meanwhile=tell_signs,
        closely=tgids,
        everything=True,
    )
    from mmwatch.diagnosis.gathering import Gathering
    from mmwatch.diagnosis.rules import all_rules

    all_rules()  # import them now, not after the last reading

    found = Gathering()
    try:
        options.protect()
        beat = Beat(min(1.0, duration_s), duration_s)
        try:
            streams.say(f"tracing for {duration_s:g} s; Ctrl-C ends it early")
            while True:
                time.sleep(beat.left_s())
                over = beat.over()
                with interrupts.held():
                    found.add(observer.sample(final=over))
                if over:
                    break
                beat.advance()
        except KeyboardInterrupt:
            interrupts.begin()
            streams.say("interrupted: judging what was seen so far")
            found.add(observer.sample(final=True))
    finally:
        observer.close()
    return found.observation(observer.session)


def _tell(look: Look) -> None:
    """What the look found."""
    from mmwatch.diagnosis.signs import signs

    found = signs(looked_at(look))
    for sign in found:
        streams.say(f"before tracing: {sign.text} ({sign.label})")
    if not found:
        streams.say("before tracing: no counter shows trouble")


def looked_at(look: Look) -> Observation:
    """What counters alone tell."""
    from mmwatch.diagnosis.observation import observe

    return observe(look.session, [look.take()], traced=False)


def conclude(
    arguments: argparse.Namespace,
    observation: Observation,
    tgids: Sequence[int] = (),
    cgroup: str | None = None,
    next_command: str = "",
) -> int:
    """Judge, print, and return the exit status.

    :param next_command: what to do next, if the verdict is no answer and we know better than it.
    """
    from mmwatch.diagnosis.judge import judge
    from mmwatch.diagnosis.subject import restrict, subject

    of = None
    if tgids or cgroup is not None:
        observation = restrict(observation, tgids, cgroup)
        of = subject(observation, tgids, cgroup)
    verdict = judge(observation)
    if verdict.next and next_command:
        verdict = replace(verdict, next=next_command)
    show(arguments, verdict, observation, of)
    return {"healthy": EXIT_OK, "finding": EXIT_FINDING}.get(verdict.status, EXIT_INCONCLUSIVE)


def show(arguments: argparse.Namespace, verdict: Verdict, observation: Observation, of: Subject | None) -> None:
    """Print a verdict."""
    if arguments.json:
        from mmwatch.diagnosis.json import to_json

        print(json.dumps(to_json(verdict, observation, of), allow_nan=False))
        return
    from mmwatch.display.verdict import WIDTH, verdict_lines

    width = min(shutil.get_terminal_size().columns, 100) if sys.stdout.isatty() else WIDTH
    print("\n".join(verdict_lines(verdict, observation, arguments.verbose, width, of)))
