"""Which probe serves which need, and why. Pure: facts in, plan out. Nothing here looks at the host or changes it.

For an event, a raw tracepoint is best if BTF has its arguments, then a tracepoint through perf. On kernels with
preemptible tracepoints the order is reversed. For a function, fentry is best, then a kprobe. If neither is available,
the need is missing and its measures are unknown; the rest works.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mmwatch.kernel import events
from mmwatch.kernel.events import EVENTS, FOLLOW_CHILDREN, Event, Function
from mmwatch.kernel.facts import Facts
from mmwatch.kernel.flags import (
    Filter,
    counts_cpu_time,
    finds_folio,
    perf_flags,
    raw_flags,
    session_flags,
    silent_lru_gen,
    tells_target,
    unknown_memcg_member,
)

__all__ = [
    "FENTRY",
    "KPROBE",
    "PACKAGES",
    "PERF",
    "RAW",
    "Attachment",
    "Choice",
    "Filter",
    "Plan",
    "Probe",
    "bcc_command",
    "measures_of",
    "plan",
]

RAW, PERF, FENTRY, KPROBE = "raw tracepoint", "tracepoint", "fentry", "kprobe"


@dataclass(frozen=True)
class Attachment:
    """The program of an event: how and where it is attached, and the flags to compile it for that.

    :param pair: two programs are attached, and each counts what the other misses.
    """

    event: Event
    how: str
    tracepoints: tuple[str, ...]
    flags: tuple[str, ...]
    pair: bool = False


@dataclass(frozen=True)
class Probe:
    """One way to probe a function.

    :param symbol: the function's name in this kernel.
    :param pair: as in :class:`Attachment`.
    """

    function: Function
    how: str
    symbol: str
    pair: bool = False

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags to compile its programs."""
        name = self.function.name
        if self.how == KPROBE:
            return (f"-DKPROBE_{name}",)
        return (f"-DFENTRY_{name}", f"-DPAIR_{name}") if self.pair else (f"-DFENTRY_{name}",)

    def __str__(self) -> str:
        return f"{self.how} {self.symbol}"


@dataclass(frozen=True)
class Choice:
    """The probe chosen for a need.

    :param state: ``attached``, ``degraded``, ``missing`` or ``off``.
    :param remedy: what the user can do; empty where nothing helps on this kernel.
    """

    need: str
    help: str
    probe: str
    state: str
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Plan:
    """The plan that the tracer carries out.

    :param probes: the ways to probe each function, by its name, best first; an empty tuple: none.
    :param left_out: reasons why some ways to probe functions are not in ``probes``.
    :param flags: compiler flags for all programs.
    :param unknown: measures that no probe will count.
    :param blockers: why nothing can be attached at all: (what, what to do, whether privilege would help).
    :param problems: the parts of the filter that cannot be applied here.
    """

    attachments: tuple[Attachment, ...] = ()
    probes: Mapping[str, tuple[Probe, ...]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    unknown: frozenset[str] = frozenset()
    blockers: tuple[tuple[str, str, bool], ...] = ()
    problems: tuple[str, ...] = ()


PACKAGES: Mapping[str, str] = {
    "debian": "apt-get install python3-bpfcc",
    "ubuntu": "apt-get install python3-bpfcc",
    "fedora": "dnf install python3-bcc",
    "rhel": "dnf install python3-bcc",
    "centos": "dnf install python3-bcc",
    "suse": "zypper install python3-bcc",
    "arch": "pacman -S python-bcc",
    "alpine": "apk add py3-bcc",
}
"""The command that installs BCC's Python bindings, by ID or ID_LIKE of /etc/os-release."""


def bcc_command(distribution: tuple[str, ...]) -> str:
    """The command that installs BCC's Python bindings here.

    :param distribution: ID and ID_LIKE of /etc/os-release.
    """
    return next(
        (PACKAGES[name] for name in distribution if name in PACKAGES),
        "install your distribution's BCC bindings for Python (python3-bpfcc or python3-bcc)",
    )


def plan(facts: Facts, wanted: Filter | None = None, force: str | None = None, passes: str | None = None) -> Plan:
    """Choose the probes.

    :param force: for tests and comparisons. :data:`PERF`: act as if BTF had no tracepoint arguments; :data:`RAW`: act
        as if raw tracepoints missed nothing.
    :param passes: :data:`FENTRY` or :data:`KPROBE`: probe functions only in that way; ``none``: leave out passes; None:
        use the best.
    """
    attachments: list[Attachment] = []
    outcomes: dict[str, list[tuple[str, str, Event]]] = {}
    wanted_events = EVENTS
    if wanted is not None and wanted.children:
        wanted_events = (*EVENTS, FOLLOW_CHILDREN)
    for event in wanted_events:
        attachment, reason = _attach(event, facts, force)
        if attachment is not None:
            attachments.append(attachment)
            outcomes.setdefault(event.need, []).append((attachment.how, "", event))
        elif event.required:
            outcomes.setdefault(event.need, []).append(("", reason, event))
    flags, problems = session_flags(facts, wanted or Filter())
    if any(how == "" for how, _, _ in outcomes.get(FOLLOW_CHILDREN.need, ())):
        problems += ("children cannot be followed: this kernel has no BTF, which is needed to see forks",)
    forced = {function.need: passes for function in events.FUNCTIONS if function.need == "passes" or passes != "none"}
    probes = {function.name: _probes(function, facts, forced.get(function.need)) for function in events.FUNCTIONS}
    functions = {function.need: function for function in events.FUNCTIONS}
    choices = tuple(
        _function_choice(functions[need.name], need.help, probes, facts, forced.get(need.name))
        if need.name in functions
        else _cpu_choice(need.help, facts)
        if need.name == "cpu"
        else _target_choice(need.help, attachments, probes["shrink_node"], facts, forced["passes"])
        if need.name == "targets"
        else _choice(need.name, need.help, outcomes[need.name], facts)
        for need in events.NEEDS
        if need.name in outcomes or need.name in functions or need.name in ("cpu", "targets")
    )
    unknown = measures_of(choice.need for choice in choices if choice.state in ("missing", "off"))
    if silent_lru_gen(facts):
        unknown |= measures_of(("batches", "scans"))
        choices = tuple(_silenced(choice) if choice.need in ("batches", "scans") else choice for choice in choices)
    no_kprobes = _no_kprobes(facts)
    return Plan(
        attachments=tuple(attachments),
        probes=probes,
        left_out=(no_kprobes[0],) if no_kprobes else (),
        flags=flags,
        choices=choices,
        unknown=unknown,
        blockers=_blockers(facts, attachments),
        problems=problems,
    )


def measures_of(needs: Iterable[str]) -> frozenset[str]:
    """The measures that are unknown without ``needs``."""
    missing = set(needs)
    return frozenset(measure for need in events.NEEDS if need.name in missing for measure in need.measures)


def _attach(event: Event, facts: Facts, force: str | None) -> tuple[Attachment | None, str]:
    """How to attach an event, or why it cannot be."""
    for names in [event.tracepoints, *((name,) for name in event.alternatives)]:
        present = tuple(name for name in names if facts.fields.get(name) is not None or name in facts.raw_arguments)
        if not present:
            continue
        fields = facts.fields.get(present[0])
        by_name = event.fields_by_name and fields is not None and fields.issuperset(event.fields)
        perf = force == PERF and event.fields_by_name
        misses_some = facts.preemptible_tracepoints and force != RAW
        if misses_some and (not event.names_folio or finds_folio(facts)):
            perf = perf or (by_name and facts.tracefs == "mounted")
        raw = None if perf else raw_flags(event, present[0], facts)
        if raw is not None and misses_some and event.names_folio:
            return Attachment(event, RAW, present, (*raw, f"-DPAIR_{event.name}"), pair=True), ""
        if raw is not None:
            return Attachment(event, RAW, present, raw), ""
        if fields is None:
            return None, "BTF does not have its arguments, and tracefs cannot be read"
        if by_name:
            if facts.tracefs != "mounted":
                return None, "BTF does not have its arguments, and to attach it through perf, tracefs must be mounted"
            return Attachment(event, PERF, present, perf_flags(event, present[0], facts)), ""
        return None, f"the tracepoint lacks the fields {', '.join(sorted(set(event.fields) - fields))}"
    if not facts.fields and not facts.raw_arguments:
        return None, "neither tracefs nor BTF can be read"
    return None, f"this kernel has no {event.tracepoints[0]}"


def _probes(function: Function, facts: Facts, forced: str | None) -> tuple[Probe, ...]:
    """The ways to probe a function, best first (costs: bench/)."""
    if forced == "none" or facts.ftrace_enabled is False or _unknown_member(function, facts):
        return ()
    if function.psi and facts.psi is False:
        return ()
    # A kernel with preemptible tracepoints is preemptible. If in doubt use a pair: that costs less than missed events.
    pair = bool(facts.preemptible_tracepoints or facts.preemptible is not False)
    probes = [Probe(function, FENTRY, function.name, pair)] if function.name in facts.functions else []
    if not _no_kprobes(facts):
        probes += [Probe(function, KPROBE, symbol) for symbol in facts.symbols.get(function.name, ())]
    return tuple(probe for probe in probes if forced in (None, probe.how))


def _unknown_member(function: Function, facts: Facts) -> tuple[str, str] | None:
    """The first (struct, member) of a function that BTF does not have."""
    return next((member for member in function.members if member not in facts.offsets), None)


def _no_kprobes(facts: Facts) -> tuple[str, str] | None:
    """Why there are none, and what to do about it."""
    if facts.kprobes is False:
        return "this kernel has no kprobes", ""
    if facts.kprobes_fire is False:
        return "kprobes are switched off: they would never run", "echo 1 > /sys/kernel/debug/kprobes/enabled"
    return None


def _function_choice(
    function: Function, help_text: str, all_probes: Mapping[str, tuple[Probe, ...]], facts: Facts, forced: str | None
) -> Choice:
    probes, no_kprobes = all_probes[function.name], _no_kprobes(facts)
    if probes:
        reason, remedy = no_kprobes if no_kprobes and no_kprobes[1] else ("", "")
        if function.returns and probes[0].how == KPROBE:
            reason = "it sees the end of only so many sleeps at a time as there are CPUs, or twice as many"
            return Choice(function.need, help_text, str(probes[0]), "degraded", reason)
        if not reason and probes[0].pair:
            reason = "a pair of programs: a single one misses events while a task is preempted inside it"
        return Choice(function.need, help_text, str(probes[0]), "attached", reason, remedy)
    if forced == "none":
        return Choice(function.need, help_text, "", "off", "switched off")
    reason, remedy = no_kprobes or (f"this kernel has no function {function.name}", "")
    unknown = _unknown_member(function, facts)
    if unknown:
        reason, remedy = f"BTF does not say where {unknown[1]} is in struct {unknown[0]}", ""
    elif facts.ftrace_enabled is False:
        reason = "kernel.ftrace_enabled is 0: a probe on a function would never run"
        remedy = "sysctl kernel.ftrace_enabled=1"
    elif function.psi and facts.psi is False:
        reason, remedy = "PSI is off, which tells that sleep from other sleep", "boot with psi=1"
    return Choice(function.need, help_text, "", "missing", reason, remedy)


def _cpu_choice(help_text: str, facts: Facts) -> Choice:
    """CPU time has no probe of its own: the brackets read it from the task."""
    if counts_cpu_time(facts):
        return Choice("cpu", help_text, "task_struct", "attached")
    return Choice("cpu", help_text, "", "missing", "BTF does not say where a task's CPU time is")


def _target_choice(
    help_text: str, attachments: list[Attachment], passes: tuple[Probe, ...], facts: Facts, forced: str | None
) -> Choice:
    """The target has no probe of its own: the begin of a reclaim tells it, or else its first pass."""
    for attachment in attachments:
        if attachment.event.name == "memcg_reclaim_begin" and tells_target(attachment.flags, facts):
            return Choice("targets", help_text, attachment.how, "attached")
    target = ("scan_control", "target_mem_cgroup")
    unknown = unknown_memcg_member(facts) or (target if target not in facts.offsets else None)
    if unknown:
        reason = f"BTF does not say where {unknown[1]} is in struct {unknown[0]}"
        return Choice("targets", help_text, "", "missing", reason)
    if passes:
        return Choice("targets", help_text, str(passes[0]), "attached")
    if forced == "none":
        return Choice("targets", help_text, "", "off", "passes are switched off")
    return Choice("targets", help_text, "", "missing", "only passes would tell")


def _choice(need: str, help_text: str, outcomes: list[tuple[str, str, Event]], facts: Facts) -> Choice:
    failed = [(reason, event) for how, reason, event in outcomes if not how]
    hows = sorted({how for how, _, _ in outcomes if how})
    if failed:
        reason = failed[0][0]
        remedy = ""
        if not facts.fields and not facts.raw_arguments:
            remedy = "run as root"
        elif facts.tracefs != "mounted" and "tracefs" in reason:
            remedy = "mount -t tracefs nodev /sys/kernel/tracing"
        return Choice(need, help_text, "", "missing", reason, remedy)
    if PERF in hows and facts.preemptible_tracepoints:
        reason = "through perf: a raw tracepoint misses events here while a task is preempted inside it"
        return Choice(need, help_text, PERF, "attached", reason)
    if PERF in hows:
        return Choice(
            need,
            help_text,
            PERF,
            "degraded",
            "through perf: costs more, and skips events while a BPF map system call runs on the same CPU",
        )
    return Choice(need, help_text, hows[0], "attached")


def _silenced(choice: Choice) -> Choice:
    return Choice(
        choice.need,
        choice.help,
        choice.probe,
        "missing",
        "the multi-generational LRU of this kernel has no events for its batches",
        "to see them, switch it off: echo 0 > /sys/kernel/mm/lru_gen/enabled",
    )


def _blockers(facts: Facts, attachments: list[Attachment]) -> tuple[tuple[str, str, bool], ...]:
    blockers = []
    caps = facts.capabilities
    if caps is not None and "CAP_SYS_ADMIN" not in caps and not {"CAP_BPF", "CAP_PERFMON"} <= caps:
        if facts.root:
            blockers.append(
                (
                    "BPF programs need CAP_BPF and CAP_PERFMON, which root does not have here",
                    "in a container: start it with --cap-add BPF --cap-add PERFMON, or privileged",
                    True,
                )
            )
        else:
            blockers.append(("BPF programs need root (or CAP_BPF and CAP_PERFMON)", "run it with sudo", True))
    if facts.bcc is False:
        blockers.append(
            (
                f"Python {facts.python} cannot import bcc",
                f"{bcc_command(facts.distribution)} (and use the system's python3; bcc on PyPI is something else)",
                False,
            )
        )
    if facts.lockdown == "confidentiality":
        blockers.append(
            (
                "kernel lockdown is 'confidentiality': BPF programs may not read kernel memory",
                "boot with lockdown=integrity, or without lockdown",
                False,
            )
        )
    if not any(attachment.event.need in ("direct", "memcg", "node", "kswapd") for attachment in attachments):
        known = bool(facts.fields or facts.raw_arguments)
        if known or facts.root:
            reason = facts.tracefs_reason and f" (tracefs: {facts.tracefs_reason})"
            blockers.append(
                (
                    f"no vmscan tracepoint was found{reason}",
                    "the kernel needs CONFIG_FTRACE and CONFIG_BPF_EVENTS; mount -t tracefs nodev /sys/kernel/tracing",
                    False,
                )
            )
    return tuple(blockers)
