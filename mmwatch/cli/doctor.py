"""``mmwatch doctor``: what works on this host, what does not, why, and what to do about it."""

from __future__ import annotations

import argparse
import json
import os
import textwrap
from dataclasses import asdict
from typing import Any

import mmwatch
from mmwatch.cli import options
from mmwatch.kernel.facts import gather
from mmwatch.kernel.plan import plan
from mmwatch.session.checkup import Checkup, judge, look_around, try_out
from mmwatch.units import clean

WIDTH = 80
SCHEMA = 1

EPILOG = """\
As root it also loads, attaches and detaches every probe, to see what the kernel really allows.
exit status: 0 mmwatch can observe this host, 69 it cannot, 77 only permission is missing

examples:
  sudo mmwatch doctor                      everything
  mmwatch doctor --json | jq .blockers     what makes observing impossible
"""


def add(subparsers: options.Subparsers) -> None:
    """Declare the command."""
    parser = options.command(
        subparsers, "doctor", "say what works on this host, what does not, and what to do about it", run, EPILOG
    )
    parser.add_argument("--no-trial", action="store_true", help="do not load and attach the probes")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    facts = gather()
    chosen = plan(facts, force=os.environ.get("MMWATCH_PROBES") or None)
    found = judge(facts, chosen, look_around(facts))
    if not found.blockers and not arguments.no_trial:
        found = try_out(found, chosen)
    if arguments.json:
        print(json.dumps(to_json(found), allow_nan=False))
    else:
        print("\n".join(lines(found)))
    return found.exit_code


def to_json(found: Checkup) -> dict[str, Any]:
    """The result for programs; tests/contract/test_json.py pins its keys."""
    facts = found.facts
    return {
        "schema": SCHEMA,
        "version": mmwatch.__version__,
        "usable": not found.blockers,
        "trial": found.trial,
        "needs": [asdict(choice) for choice in found.needs],
        "host": {
            "kernel": clean(facts.kernel),
            "machine": clean(facts.machine),
            "distribution": [clean(word) for word in facts.distribution],
            "python": facts.python,
            "checks": {name: asdict(check) for name, check in found.host.items()},
        },
        "blockers": [asdict(blocker) for blocker in found.blockers],
        "problems": list(found.problems),
    }


def lines(found: Checkup) -> list[str]:
    """The result for people, in 80 columns."""
    facts = found.facts
    distribution = clean(facts.distribution[0]) if facts.distribution else "unknown distribution"
    text = [f"mmwatch {mmwatch.__version__} on {clean(facts.kernel)} {clean(facts.machine)}, {distribution}", ""]
    text += [*_verdict(found), ""]
    text += [f"{'NEED':<12}{'STATE':<10}{'PROBE':<19}WHAT IT SHOWS"]
    for choice in found.needs:
        text += _wrapped(f"{choice.need:<12}{choice.state:<10}{choice.probe or '-':<19}", choice.help)
        text += _notes(12, choice.reason, choice.remedy)
    text += ["", f"{'HOST':<19}{'STATE':<10}"]
    for name, check in found.host.items():
        text += _wrapped(f"{name:<19}{check.state:<10}", check.text)
        text += _notes(19, "", check.remedy)
    return text


def _verdict(found: Checkup) -> list[str]:
    if found.blockers:
        text = ["mmwatch cannot observe this host:"]
        for blocker in found.blockers:
            text += _wrapped("  ! ", blocker.what)
            text += _notes(4, "", blocker.remedy)
        return text
    lost = [choice.need for choice in found.needs if choice.state == "missing"]
    tried = found.trial == "passed"
    text = ["mmwatch can observe this host."]
    if lost:
        text += _wrapped("  not available: ", ", ".join(lost))
        text += ["  The other probes were attached and detached again."] if tried else []
    elif tried:
        text[0] += " Every probe was attached and detached again."
    for problem in found.problems:
        text += _wrapped("  ", problem)
    return text


def _notes(indent: int, reason: str, remedy: str) -> list[str]:
    text = _wrapped(" " * indent, reason) if reason else []
    return [*text, *_wrapped(" " * indent + "> ", remedy)] if remedy else text


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [head.rstrip()]
