"""What works on this host: which need has a probe, which host settings matter for reclaim, what prevents observing.

It must run for every user on every host, so nothing here depends on root, bcc, numpy or pyroute2.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmwatch.errors import EXIT_NO_PERMISSION, EXIT_OK, EXIT_UNAVAILABLE, MmwatchError, NoPermissionError
from mmwatch.kernel.facts import Facts
from mmwatch.kernel.plan import Choice, Filter, Plan, bcc_command, plan
from mmwatch.session.packages import USED, import_problem
from mmwatch.session.shortage import told_where_memory_is_short
from mmwatch.units import clean, pages_text

TRIAL_ROWS = 64


@dataclass(frozen=True)
class Surroundings:
    """Host settings and services that :class:`Facts` does not have; None is unknown.

    :param lru_gen: ``on``, ``off`` or ``absent`` (not built in).
    :param pressure: ``on``, ``off`` (built in, but psi=0) or ``absent``.
    :param process_events: whether they arrive, and the reason if not.
    :param taskstats: likewise.
    """

    numpy: bool | None = None
    pyroute2: bool | None = None
    textual: bool | None = None
    broken: Mapping[str, str] = field(default_factory=dict)  # why packages cannot be imported
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
    """Why nothing can be observed.

    :param permission: more privilege would be enough.
    """

    what: str
    remedy: str
    permission: bool


@dataclass(frozen=True)
class Checkup:
    """What ``mmwatch doctor`` prints.

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


# ---- looking ----


def look_around(facts: Facts, root: Path = Path("/")) -> Surroundings:
    """The settings and services of this host, as far as any user can see them."""
    from mmwatch.host.settings import read_settings

    settings = read_settings(root)
    wanted = (*USED, "bcc") if facts.bcc else USED
    broken = {name: why for name in wanted if (why := import_problem(name))}
    lru_gen: str | None = "absent" if os.path.isdir(root / "sys/kernel/mm") else None
    if settings.lru_gen_enabled is not None:
        lru_gen = "on" if settings.lru_gen_enabled & 1 else "off"
    return Surroundings(
        numpy="numpy" not in broken,
        pyroute2="pyroute2" not in broken,
        textual="textual" not in broken,
        broken=broken,
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
        return "absent" if os.path.isdir(root / "proc") else None
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


def judge(facts: Facts, chosen: Plan, host: Surroundings) -> Checkup:
    """What the facts mean for the user."""
    blockers = [Blocker(*blocker) for blocker in chosen.blockers]
    if host.numpy is False:
        why = host.broken.get("numpy", "not found")
        blockers.append(Blocker(f"Python {facts.python} cannot import numpy: {why}", _pip("numpy>=1.22"), False))
    if "bcc" in host.broken:
        what = f"Python {facts.python} cannot import bcc: {host.broken['bcc']}"
        blockers.append(Blocker(what, bcc_command(facts.distribution), False))
    nothing_known = not facts.fields and not facts.raw_arguments and not facts.root
    needs = tuple(
        replace(choice, state="unknown" if nothing_known else "planned" if choice.state == "attached" else choice.state)
        for choice in chosen.choices
    )
    return Checkup(facts, needs, host_checks(facts, host, chosen.problems), tuple(blockers), chosen.problems)


def try_out(found: Checkup, chosen: Plan) -> Checkup:
    """Load, attach and detach everything, and add the result."""
    from mmwatch.kernel.builder_process import Options
    from mmwatch.kernel.tracer import Tracer

    try:
        with told_where_memory_is_short():
            tracer = Tracer(chosen, Options(table_rows=TRIAL_ROWS))
    except MmwatchError as error:
        hint = error.hint.replace("; see: mmwatch doctor", "").replace("see: mmwatch doctor", "")
        blocker = Blocker(error.message, hint, isinstance(error, NoPermissionError))
        return replace(found, blockers=(*found.blockers, blocker), trial="failed")
    try:
        return replace(found, needs=tracer.choices, trial="passed")
    finally:
        tracer.close()


def host_checks(facts: Facts, host: Surroundings, problems: tuple[str, ...]) -> dict[str, Check]:
    """The checks of the host; their names are keys of the JSON.

    :param problems: those of the plan without a filter.
    """
    return {
        "privileges": _privileges(facts),
        "bcc": _bcc(facts, host),
        "numpy": _module(host, "numpy", "every table", "numpy>=1.22"),
        "pyroute2": _module(host, "pyroute2", "names of tasks that have ended, and task times", "pyroute2>=0.7.12"),
        "textual": _module(host, "textual", "the full-screen display; without it a plain table", "textual>=8.2.6"),
        "btf": _btf(facts),
        "tracefs": _tracefs(facts),
        "lockdown": _lockdown(facts),
        "lru": _lru(facts, host),
        "filters": _filters(facts, problems),
        "pid_namespace": _pid_namespace(facts, problems),
        "memory_cgroup": _memory_cgroup(facts),
        "numa_nodes": _nodes(facts),
        "zone_reclaim_mode": _zone_reclaim(facts, host),
        "swap": _swap(host),
        "pressure": _psi(host),
        "process_events": _service(host.process_events, "names and command lines of tasks that have ended"),
        "taskstats": _service(host.taskstats, "time in reclaim relative to a task's system time"),
        "task_delayacct": _delayacct(host),
    }


def _pip(requirement: str) -> str:
    return f"{sys.executable or 'python3'} -m pip install '{requirement}', or make setup in a checkout"


def _privileges(facts: Facts) -> Check:
    caps = facts.capabilities
    value = {"root": facts.root, "capabilities": None if caps is None else sorted(caps)}
    if caps is None:
        return Check("unknown", value, "/proc/self/status does not show the capabilities of this process")
    if "CAP_SYS_ADMIN" in caps:
        return Check("ok", value, "root" if facts.root else "CAP_SYS_ADMIN")
    if caps >= {"CAP_BPF", "CAP_PERFMON"}:
        return Check("ok", value, "CAP_BPF and CAP_PERFMON")
    if facts.root:
        return Check("missing", value, "root, but without CAP_SYS_ADMIN: a container?", "add CAP_BPF and CAP_PERFMON")
    return Check("missing", value, "not root: BPF programs cannot be loaded", "sudo mmwatch doctor")


def _bcc(facts: Facts, host: Surroundings) -> Check:
    if "bcc" in host.broken:
        return Check("missing", False, host.broken["bcc"], bcc_command(facts.distribution))
    if facts.bcc is None:
        return Check("unknown", None, f"unknown whether Python {facts.python} has it")
    if facts.bcc:
        return Check("ok", True, f"found by Python {facts.python}")
    return Check("missing", False, f"Python {facts.python} cannot import it", bcc_command(facts.distribution))


def _module(host: Surroundings, name: str, gives: str, requirement: str) -> Check:
    there, problem = getattr(host, name), host.broken.get(name)
    if there is None:
        return Check("unknown", None, f"unknown; needed for {gives}")
    text = f"{problem}; needed for {gives}" if problem else f"needed for {gives}"
    return Check("ok", True, "found") if there else Check("missing", False, text, _pip(requirement))


def _btf(facts: Facts) -> Check:
    if facts.btf is None:
        return Check("unknown", None, "/sys/kernel/btf/vmlinux cannot be read or understood", "try as root")
    if facts.btf:
        return Check("ok", True, "it describes raw tracepoints and struct members")
    return Check(
        "limited",
        False,
        "none: tracepoints attach through perf if tracefs is mounted; no cgroup filter, no PID namespaces",
        "a kernel built with CONFIG_DEBUG_INFO_BTF",
    )


def _tracefs(facts: Facts) -> Check:
    if facts.tracefs == "mounted":
        return Check("ok", "mounted", "mounted")
    if facts.tracefs == "private":
        return Check("ok", "private", "not mounted; mmwatch reads it through a private mount")
    known = bool(facts.raw_arguments)
    return Check(
        "limited" if known else "missing",
        facts.tracefs,
        facts.tracefs_reason + (": tracepoints are known from BTF alone" if known else ""),
        "mount -t tracefs nodev /sys/kernel/tracing" if facts.root else "run as root: mmwatch then mounts it privately",
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
        return Check("unknown", None, "unknown whether the multi-generational LRU is on")
    if host.lru_gen != "on":
        return Check("ok", "classic", f"classic; the multi-generational LRU is {_BUILT_IN[host.lru_gen]}")
    silent = "isolate_mode" in (facts.fields.get("vmscan:mm_vmscan_lru_isolate") or ())
    return Check(
        "limited" if silent else "ok",
        "mglru",
        "multi-generational" + ("; this kernel has no events for its batches" if silent else ""),
        "to see them: echo 0 > /sys/kernel/mm/lru_gen/enabled" if silent else "",
    )


_BUILT_IN = {"off": "switched off", "absent": "not built in"}


def _filters(facts: Facts, always: tuple[str, ...]) -> Check:
    wanted = {
        "pid": Filter(tgids=(1,)),
        "children": Filter(tgids=(1,), children=True),
        "cgroup": Filter(cgroup_id=1),
        "comm": Filter(comm="x"),
    }
    problems = {name: set(plan(facts, one).problems) - set(always) for name, one in wanted.items()}
    works = {name: not found for name, found in problems.items()}
    reason = "; ".join(problem for found in problems.values() for problem in found)
    text = ", ".join(name for name, fine in works.items() if fine) or "none"
    return Check("limited" if reason else "ok", works, f"{text}{reason and f'; {reason}'}")


def _pid_namespace(facts: Facts, problems: tuple[str, ...]) -> Check:
    if not facts.pid_namespace:
        return Check("ok", "initial", "the initial one, or /proc does not show it")
    text = problems[0] if problems else "not the initial one: PIDs are shown and filtered as seen in this namespace"
    return Check("limited" if problems else "ok", "own", text)


def _memory_cgroup(facts: Facts) -> Check:
    if facts.memory_cgroup is None:
        return Check(
            "limited",
            None,
            "no hierarchy with the memory controller is mounted: no cgroups, no demo",
            "see /proc/cgroups; was the kernel booted with cgroup_disable=memory?",
        )
    return Check("ok", facts.memory_cgroup, f"version {facts.memory_cgroup}")


def _nodes(facts: Facts) -> Check:
    if not facts.nodes:
        return Check("unknown", None, "unknown")
    several = len(facts.nodes) > 1
    return Check("ok", list(facts.nodes), f"{len(facts.nodes)} with memory" if several else "one")


def _zone_reclaim(facts: Facts, host: Surroundings) -> Check:
    mode = host.zone_reclaim_mode
    if mode is None:
        return Check("unknown", None, "the kernel has no such sysctl (no NUMA), or it cannot be read")
    if not mode:
        return Check("ok", 0, "0: when a node is full, allocations go to another node without reclaim")
    text = f"{mode}: when a node is full, tasks reclaim from it before they allocate on another node"
    if len(facts.nodes) == 1:
        return Check("ok", mode, f"{text}; no effect with one node")
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
        return Check("unknown", None, f"unknown; gives {gives}")
    if available:
        return Check("ok", True, gives)
    remedies = {"pyroute2": "see pyroute2 above", "CAP_NET_ADMIN": "run as root, with CAP_NET_ADMIN"}
    remedy = next((remedy for word, remedy in remedies.items() if word in reason), "")
    return Check("limited", False, f"{clean(reason)}; would give {gives}", remedy)


def _delayacct(host: Surroundings) -> Check:
    gives = "the kernel's own count of each task's time in reclaim, as an independent check"
    if host.task_delayacct is None:
        return Check("unknown", None, f"this kernel has no sysctl for it; gives {gives}")
    if host.task_delayacct:
        return Check("ok", True, f"on: {gives}")
    return Check("limited", False, f"off; if on, it gives, for tasks started after that, {gives}", _DELAYACCT_REMEDY)


_DELAYACCT_REMEDY = "sysctl kernel.task_delayacct=1 (5.14 and newer; before, boot without nodelayacct)"
