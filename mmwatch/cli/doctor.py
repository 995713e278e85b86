"""``mmwatch doctor``: what works on this host, what does not, why, and what to do about it.

For every user and every host, so it leans on nothing that may be missing: not on root, bcc, numpy or pyroute2.
"""

from __future__ import annotations

import argparse
import errno
import importlib.util
import json
import os
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import mmwatch
from mmwatch.cli import options
from mmwatch.errors import EXIT_NO_PERMISSION, EXIT_OK, EXIT_UNAVAILABLE, MmwatchError, NoPermissionError
from mmwatch.kernel.facts import Facts, gather
from mmwatch.kernel.plan import Choice, Filter, Plan, bcc_command, plan
from mmwatch.units import clean, pages_text

WIDTH = 80
SCHEMA = 1
TRIAL_ROWS = 64

EPILOG = """\
As root it also loads, attaches and detaches every probe, to see what the kernel really allows.
exit status: 0 mmwatch can observe this host, 69 it cannot, 77 only permission is missing

examples:
  sudo mmwatch doctor                      all of it
  mmwatch doctor --json | jq .blockers     what stands in the way, for programs
"""


@dataclass(frozen=True)
class Surroundings:
    """What matters beside :class:`Facts`; None is "could not find out".

    :param lru_gen: ``on``, ``off`` or ``absent`` (not built in).
    :param pressure: ``on``, ``off`` (built in, but psi=0) or ``absent``.
    :param process_events: whether they arrive, and why not.
    :param taskstats: likewise.
    """

    numpy: bool | None = None
    pyroute2: bool | None = None
    textual: bool | None = None
    lru_gen: str | None = None
    pressure: str | None = None
    task_delayacct: bool | None = None
    zone_reclaim_mode: int | None = None
    swap_bytes: int | None = None
    process_events: tuple[bool | None, str] = (None, "")
    taskstats: tuple[bool | None, str] = (None, "")


@dataclass(frozen=True)
class Check:
    """One fact about the host.

    :param state: ``ok``, ``limited`` (works, shows less), ``missing`` or ``unknown``.
    :param value: for programs.
    """

    state: str
    value: Any
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Blocker:
    """Why nothing can be observed at all.

    :param permission: more privilege is all that it takes.
    """

    what: str
    remedy: str
    permission: bool


@dataclass(frozen=True)
class Diagnosis:
    """Everything the command prints.

    :param trial: ``passed``, ``failed`` or ``skipped``.
    """

    facts: Facts
    needs: tuple[Choice, ...]
    host: Mapping[str, Check]
    blockers: tuple[Blocker, ...]
    problems: tuple[str, ...] = field(default=())
    trial: str = "skipped"

    @property
    def exit_code(self) -> int:
        """The exit status."""
        if not self.blockers:
            return EXIT_OK
        return EXIT_NO_PERMISSION if all(blocker.permission for blocker in self.blockers) else EXIT_UNAVAILABLE


def add(subparsers: options.Subparsers) -> None:
    """Declare the command."""
    parser = options.command(
        subparsers, "doctor", "say what works on this host, what does not, and what to do about it", run, EPILOG
    )
    parser.add_argument("--no-trial", action="store_true", help="do not load and attach the probes to try them")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    facts = gather()
    chosen = plan(facts, force=os.environ.get("MMWATCH_PROBES") or None)
    found = diagnose(facts, chosen, look_around(facts))
    if not found.blockers and not arguments.no_trial:
        found = try_out(found, chosen)
    if arguments.json:
        print(json.dumps(to_json(found)))
    else:
        print("\n".join(lines(found)))
    return found.exit_code


# ---- looking ----


def look_around(facts: Facts, root: Path = Path("/")) -> Surroundings:
    """What the host is set to, for any user."""
    from mmwatch.host.settings import read_settings

    settings = read_settings(root)
    has = {name: importlib.util.find_spec(name) is not None for name in ("numpy", "pyroute2", "textual")}
    lru_gen: str | None = "absent" if (root / "sys/kernel/mm").is_dir() else None
    if settings.lru_gen_enabled is not None:
        lru_gen = "on" if settings.lru_gen_enabled & 1 else "off"
    return Surroundings(
        numpy=has["numpy"],
        pyroute2=has["pyroute2"],
        textual=has["textual"],
        lru_gen=lru_gen,
        pressure=_pressure(root),
        task_delayacct=settings.task_delayacct,
        zone_reclaim_mode=settings.zone_reclaim_mode,
        swap_bytes=settings.swap_total_bytes,
        process_events=_process_events(),
        taskstats=_taskstats(facts),
    )


def _pressure(root: Path) -> str | None:
    try:
        (root / "proc/pressure/memory").read_bytes()
    except FileNotFoundError:
        return "absent" if (root / "proc").is_dir() else None
    except OSError as error:
        return "off" if error.errno == errno.EOPNOTSUPP else None
    return "on"


def _process_events() -> tuple[bool | None, str]:
    from mmwatch.host.processes import ProcessNames

    names = ProcessNames()
    names.start()
    found = names.available, names.reason
    names.close()
    return found


def _taskstats(facts: Facts) -> tuple[bool | None, str]:
    from mmwatch.host.taskstats import TaskStats

    stats = TaskStats(facts.taskstats or None)
    found = stats.available, stats.reason
    stats.close()
    return found


# ---- judging: pure ----


def diagnose(facts: Facts, chosen: Plan, host: Surroundings) -> Diagnosis:
    """What the facts mean for the user."""
    blockers = [Blocker(*blocker) for blocker in chosen.blockers]
    if host.numpy is False:
        blockers.append(Blocker(f"Python {facts.python} cannot import numpy", _pip("numpy>=1.22"), False))
    nothing_known = not facts.fields and not facts.raw_arguments and not facts.root
    needs = tuple(
        replace(choice, state="unknown" if nothing_known else "planned" if choice.state == "attached" else choice.state)
        for choice in chosen.choices
    )
    return Diagnosis(facts, needs, host_checks(facts, host), tuple(blockers), chosen.problems)


def try_out(found: Diagnosis, chosen: Plan) -> Diagnosis:
    """Load, attach and detach everything, and add what came of it."""
    from mmwatch.kernel.builder_process import Options
    from mmwatch.kernel.tracer import Tracer

    try:
        tracer = Tracer(chosen, Options(table_rows=TRIAL_ROWS))
    except MmwatchError as error:
        hint = error.hint.replace("; see: mmwatch doctor", "").replace("see: mmwatch doctor", "")
        blocker = Blocker(error.message, hint, isinstance(error, NoPermissionError))
        return replace(found, blockers=(*found.blockers, blocker), trial="failed")
    try:
        return replace(found, needs=tracer.choices, trial="passed")
    finally:
        tracer.close()


def host_checks(facts: Facts, host: Surroundings) -> dict[str, Check]:
    """The host, one check after the other; the keys are those of the JSON."""
    return {
        "privileges": _privileges(facts),
        "bcc": _bcc(facts),
        "numpy": _module(host.numpy, "every table", "numpy>=1.22"),
        "pyroute2": _module(host.pyroute2, "names of tasks that have ended, and task times", "pyroute2>=0.7.12"),
        "textual": _module(host.textual, "the full-screen display; without it a plain table", "textual>=8.2.6"),
        "btf": _btf(facts),
        "tracefs": _tracefs(facts),
        "lockdown": _lockdown(facts),
        "lru": _lru(facts, host),
        "filters": _filters(facts),
        "pid_namespace": _pid_namespace(facts),
        "memory_cgroup": _memory_cgroup(facts),
        "numa_nodes": _nodes(facts),
        "zone_reclaim_mode": _zone_reclaim(facts, host),
        "swap": _swap(host),
        "pressure": _psi(host),
        "process_events": _service(host.process_events, "tasks that have ended keep their name and command line"),
        "taskstats": _service(host.taskstats, "reclaim as a share of a task's system time"),
        "task_delayacct": _delayacct(host),
    }


def _pip(requirement: str) -> str:
    return f"{sys.executable or 'python3'} -m pip install '{requirement}', or make setup in a checkout"


def _privileges(facts: Facts) -> Check:
    caps = facts.capabilities
    value = {"root": facts.root, "capabilities": None if caps is None else sorted(caps)}
    if caps is None:
        return Check("unknown", value, "the capabilities of this process cannot be read from /proc/self/status")
    if "CAP_SYS_ADMIN" in caps:
        return Check("ok", value, "root" if facts.root else "CAP_SYS_ADMIN")
    if caps >= {"CAP_BPF", "CAP_PERFMON"}:
        return Check("ok", value, "CAP_BPF and CAP_PERFMON")
    if facts.root:
        return Check(
            "missing", value, "root, but without CAP_SYS_ADMIN: a container?", "give it CAP_BPF and CAP_PERFMON"
        )
    return Check("missing", value, "an ordinary user, who may not load BPF programs", "sudo mmwatch doctor")


def _bcc(facts: Facts) -> Check:
    if facts.bcc is None:
        return Check("unknown", None, f"could not find out whether Python {facts.python} has it")
    if facts.bcc:
        return Check("ok", True, f"found by Python {facts.python}")
    return Check("missing", False, f"Python {facts.python} cannot import it", bcc_command(facts.distribution))


def _module(there: bool | None, gives: str, requirement: str) -> Check:
    if there is None:
        return Check("unknown", None, f"could not find out; gives {gives}")
    return Check("ok", True, "found") if there else Check("missing", False, f"gives {gives}", _pip(requirement))


def _btf(facts: Facts) -> Check:
    if facts.btf is None:
        return Check("unknown", None, "/sys/kernel/btf/vmlinux cannot be read or understood", "try as root")
    if facts.btf:
        return Check("ok", True, "arguments of raw tracepoints and offsets of struct members are known")
    return Check(
        "limited",
        False,
        "none: probes go through perf where tracefs is mounted; no cgroup filter, no PIDs of a namespace",
        "a kernel built with CONFIG_DEBUG_INFO_BTF",
    )


def _tracefs(facts: Facts) -> Check:
    if facts.tracefs == "mounted":
        return Check("ok", "mounted", "mounted")
    if facts.tracefs == "private":
        return Check("ok", "private", "not mounted; read through a mount of mmwatch's own that nobody else sees")
    known = bool(facts.raw_arguments)
    return Check(
        "limited" if known else "missing",
        facts.tracefs,
        facts.tracefs_reason + (": which tracepoints there are is known from BTF alone" if known else ""),
        "mount -t tracefs nodev /sys/kernel/tracing" if facts.root else "run as root, which can mount one of its own",
    )


def _lockdown(facts: Facts) -> Check:
    if facts.lockdown is None:
        return Check("unknown", None, "not built in, or securityfs is not mounted")
    if facts.lockdown == "confidentiality":
        return Check(
            "missing",
            facts.lockdown,
            "confidentiality: BPF programs may not read kernel memory",
            "boot with lockdown=integrity, or without lockdown",
        )
    return Check("ok", facts.lockdown, f"{facts.lockdown}: not in the way")


def _lru(facts: Facts, host: Surroundings) -> Check:
    if host.lru_gen is None:
        return Check("unknown", None, "could not find out whether the multi-generational LRU is on")
    if host.lru_gen != "on":
        return Check("ok", "classic", f"classic; the multi-generational LRU is {_BUILT_IN[host.lru_gen]}")
    silent = "isolate_mode" in (facts.fields.get("vmscan:mm_vmscan_lru_isolate") or ())
    return Check(
        "limited" if silent else "ok",
        "mglru",
        "multi-generational" + ("; on this kernel it tells nothing of its batches" if silent else ""),
        "to see them: echo 0 > /sys/kernel/mm/lru_gen/enabled" if silent else "",
    )


_BUILT_IN = {"off": "switched off", "absent": "not built in"}


def _filters(facts: Facts) -> Check:
    wanted = {
        "pid": Filter(tgids=(1,)),
        "children": Filter(tgids=(1,), children=True),
        "cgroup": Filter(cgroup_id=1),
        "comm": Filter(comm="x"),
    }
    always = plan(facts).problems
    problems = {name: set(plan(facts, one).problems) - set(always) for name, one in wanted.items()}
    works = {name: not found for name, found in problems.items()}
    reason = "; ".join(problem for found in problems.values() for problem in found)
    text = ", ".join(name for name, fine in works.items() if fine) or "none"
    return Check("limited" if reason else "ok", works, f"{text}{reason and f'; {reason}'}")


def _pid_namespace(facts: Facts) -> Check:
    if not facts.pid_namespace:
        return Check("ok", "initial", "the initial one, or /proc does not tell")
    problems = plan(facts).problems
    text = problems[0] if problems else "one of its own: PIDs are shown, and filtered by, as they are in it"
    return Check("limited" if problems else "ok", "own", text)


def _memory_cgroup(facts: Facts) -> Check:
    if facts.memory_cgroup is None:
        return Check(
            "limited",
            None,
            "no hierarchy with the memory controller is mounted: no cgroups are shown, no demo",
            "see /proc/cgroups; cgroup_disable=memory on the kernel's command line?",
        )
    return Check("ok", facts.memory_cgroup, f"version {facts.memory_cgroup}")


def _nodes(facts: Facts) -> Check:
    if not facts.nodes:
        return Check("unknown", None, "could not find out")
    several = len(facts.nodes) > 1
    return Check("ok", list(facts.nodes), f"{len(facts.nodes)} with memory" if several else "one")


def _zone_reclaim(facts: Facts, host: Surroundings) -> Check:
    mode = host.zone_reclaim_mode
    if mode is None:
        return Check("unknown", None, "the kernel has no such switch (no NUMA), or it cannot be read")
    if not mode:
        return Check("ok", 0, "0: a full node's allocations go to another node, without reclaim")
    text = f"{mode}: a full node is reclaimed from before another one is used"
    if len(facts.nodes) == 1:
        return Check("ok", mode, f"{text}; without effect on one node")
    return Check("ok", mode, text, "if tasks stall on path 'node': sysctl vm.zone_reclaim_mode=0")


def _swap(host: Surroundings) -> Check:
    if host.swap_bytes is None:
        return Check("unknown", None, "/proc/meminfo cannot be read")
    text = pages_text(host.swap_bytes, 1) if host.swap_bytes else "none: anonymous memory cannot be reclaimed"
    return Check("ok", host.swap_bytes, text)


def _psi(host: Surroundings) -> Check:
    if host.pressure is None:
        return Check("unknown", None, "/proc/pressure/memory cannot be read")
    if host.pressure == "on":
        return Check("ok", "on", "memory pressure is shown")
    remedy = "boot with psi=1" if host.pressure == "off" else "a kernel built with CONFIG_PSI"
    return Check("limited", host.pressure, f"pressure stall information is {_BUILT_IN[host.pressure]}", remedy)


def _service(found: tuple[bool | None, str], gives: str) -> Check:
    available, reason = found
    if available is None:
        return Check("unknown", None, f"could not find out; gives: {gives}")
    if available:
        return Check("ok", True, gives)
    remedies = {"pyroute2": "see pyroute2 above", "CAP_NET_ADMIN": "run as root, with CAP_NET_ADMIN"}
    remedy = next((remedy for word, remedy in remedies.items() if word in reason), "")
    return Check("limited", False, f"{clean(reason)}; would give: {gives}", remedy)


def _delayacct(host: Surroundings) -> Check:
    gives = "the kernel's own count of each task's time in reclaim, as a second witness"
    if host.task_delayacct is None:
        return Check("unknown", None, f"this kernel has no switch to look at; gives: {gives}")
    if host.task_delayacct:
        return Check("ok", True, f"on: {gives}")
    return Check("limited", False, f"off; would give, for tasks that begin after: {gives}", _DELAYACCT_REMEDY)


_DELAYACCT_REMEDY = "sysctl kernel.task_delayacct=1 (5.14 and newer; else boot without nodelayacct)"


# ---- saying ----


def to_json(found: Diagnosis) -> dict[str, Any]:
    """The diagnosis for programs; keys are only ever added."""
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


def lines(found: Diagnosis) -> list[str]:
    """The diagnosis for people, in 80 columns."""
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


def _verdict(found: Diagnosis) -> list[str]:
    if found.blockers:
        text = ["mmwatch cannot observe this host:"]
        for blocker in found.blockers:
            text += _wrapped("  ! ", blocker.what)
            text += _notes(4, "", blocker.remedy)
        return text
    lost = [choice.need for choice in found.needs if choice.state == "missing"]
    text = ["mmwatch can observe this host."]
    if found.trial == "passed":
        tried = "What else there is" if lost else "Each probe"
        text = [f"mmwatch can observe this host. {tried} was attached, for a moment."]
    if lost:
        text += _wrapped("  cannot be shown: ", ", ".join(lost))
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
