"""Which probe serves which need, and why. Pure: facts in, plan out; nothing is looked at or changed here.

Best first: a raw tracepoint whose arguments BTF tells, else a tracepoint through perf (first, where tracepoints can be
preempted), else the need is missing, its measures are unknown, and the rest works.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mmwatch.kernel.events import EVENTS, FOLLOW_CHILDREN, MEMBERS, NEEDS, PASS_FUNCTION, PASS_MEMBERS, Event
from mmwatch.kernel.facts import Facts

RAW, PERF, FENTRY, KPROBE = "raw tracepoint", "tracepoint", "fentry", "kprobe"


@dataclass(frozen=True)
class Filter:
    """Only tasks that match everything given are counted.

    :param tgids: process IDs as the caller's PID namespace sees them.
    :param children: also what these fork from now on.
    :param cgroup_id: of a memory cgroup; those below it match too.
    :param comm: the whole name of the task.
    """

    tgids: tuple[int, ...] = ()
    children: bool = False
    cgroup_id: int | None = None
    comm: str | None = None

    def __bool__(self) -> bool:
        return bool(self.tgids or self.cgroup_id is not None or self.comm is not None)


@dataclass(frozen=True)
class Attachment:
    """One program: its event, how it is attached, where, and the flags that make it so.

    :param twice: two programs, one of which sees what the other misses.
    """

    event: Event
    how: str
    tracepoints: tuple[str, ...]
    flags: tuple[str, ...]
    twice: bool = False


@dataclass(frozen=True)
class PassProbe:
    """One way to see passes; the tracer tries them in order.

    :param twice: as of :class:`Attachment`.
    """

    how: str
    symbol: str
    twice: bool = False

    @property
    def flags(self) -> tuple[str, ...]:
        """What has its programs compiled."""
        if self.how == KPROBE:
            return ("-DPASSES_KPROBE",)
        return ("-DPASSES_FENTRY", "-DPASSES_TWICE") if self.twice else ("-DPASSES_FENTRY",)


@dataclass(frozen=True)
class Choice:
    """What a need got.

    :param state: ``attached``, ``degraded`` or ``missing``.
    :param remedy: what the user can do; empty where nothing can be done on this kernel.
    """

    need: str
    help: str
    probe: str
    state: str
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Plan:
    """What the tracer obeys.

    :param unknown: measures that nothing will fill.
    :param blockers: why nothing can be attached at all: (what, what to do, whether privilege would help).
    """

    attachments: tuple[Attachment, ...] = ()
    passes: tuple[PassProbe, ...] = ()
    passes_left_out: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    unknown: frozenset[str] = frozenset()
    blockers: tuple[tuple[str, str, bool], ...] = ()
    problems: tuple[str, ...] = field(default=())


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
    """How this distribution installs BCC's Python bindings."""
    return next(
        (PACKAGES[name] for name in distribution if name in PACKAGES),
        "install your distribution's BCC bindings for Python (python3-bpfcc or python3-bcc)",
    )


def plan(facts: Facts, wanted: Filter | None = None, force: str | None = None, passes: str | None = None) -> Plan:
    """Choose the probes.

    :param force: :data:`PERF`: as if BTF said nothing of tracepoint arguments; :data:`RAW`: as if raw tracepoints were
        never worse. For tests and for comparison.
    :param passes: :data:`FENTRY` or :data:`KPROBE`: only so; ``none``: not at all; None: the best there is.
    """
    attachments: list[Attachment] = []
    outcomes: dict[str, list[tuple[str, str, Event]]] = {}
    events = EVENTS
    if wanted is not None and wanted.children:
        events = (*EVENTS, FOLLOW_CHILDREN)
    for event in events:
        attachment, reason = _attach(event, facts, force)
        if attachment is not None:
            attachments.append(attachment)
            outcomes.setdefault(event.need, []).append((attachment.how, "", event))
        elif event.required:
            outcomes.setdefault(event.need, []).append(("", reason, event))
    flags, problems = _session_flags(facts, wanted or Filter())
    if any(how == "" for how, _, _ in outcomes.get(FOLLOW_CHILDREN.need, ())):
        problems += ("children cannot be followed: this kernel has no BTF to find them in a fork with",)
    probes, no_kprobes = _pass_probes(facts, passes), _no_kprobes(facts)
    choices = tuple(
        _pass_choice(need.help, probes, facts, passes)
        if need.name == "passes"
        else _choice(need.name, need.help, outcomes.get(need.name, []), facts)
        for need in NEEDS
        if need.name in outcomes or need.name == "passes"
    )
    missing = {choice.need for choice in choices if choice.state in ("missing", "off")}
    unknown = {measure for need in NEEDS if need.name in missing for measure in need.measures}
    if _silent_lru_gen(facts):
        unknown |= {measure for need in NEEDS if need.name in ("batches", "scans") for measure in need.measures}
        choices = tuple(_silenced(choice) if choice.need in ("batches", "scans") else choice for choice in choices)
    return Plan(
        attachments=tuple(attachments),
        passes=probes,
        passes_left_out=(no_kprobes[0],) if no_kprobes else (),
        flags=(*flags, "-DPASSES") if probes else flags,
        choices=choices,
        unknown=frozenset(unknown),
        blockers=_blockers(facts, attachments),
        problems=problems,
    )


def _attach(event: Event, facts: Facts, force: str | None) -> tuple[Attachment | None, str]:
    """How to attach an event, or why it cannot be."""
    for names in [event.tracepoints, *((name,) for name in event.alternatives)]:
        present = tuple(name for name in names if facts.fields.get(name) is not None or name in facts.raw_arguments)
        if not present:
            continue
        fields = facts.fields.get(present[0])
        by_name = event.fields_by_name and fields is not None and fields.issuperset(event.fields)
        perf = force == PERF and event.fields_by_name
        missing_some = facts.preemptible_tracepoints and force != RAW
        if missing_some and not event.raw_knows_more:
            perf = perf or (by_name and facts.tracefs == "mounted")
        raw = None if perf else _raw_flags(event, present[0], facts)
        if raw is not None and missing_some and event.raw_knows_more:
            return Attachment(event, RAW, present, (*raw, f"-DTWICE_{event.name}"), twice=True), ""
        if raw is not None:
            return Attachment(event, RAW, present, raw), ""
        if fields is None:
            return None, "BTF does not tell its arguments, and tracefs cannot be read"
        if by_name:
            if facts.tracefs != "mounted":
                return None, "BTF does not tell its arguments, and to attach it through perf tracefs must be mounted"
            return Attachment(event, PERF, present, _perf_flags(event, present[0])), ""
        return None, f"the tracepoint has not the fields {', '.join(sorted(set(event.fields) - fields))}"
    if not facts.fields and not facts.raw_arguments:
        return None, "neither tracefs nor BTF can be read"
    return None, f"this kernel has no {event.tracepoints[0]}"


def _raw_flags(event: Event, tracepoint: str, facts: Facts) -> tuple[str, ...] | None:
    types = facts.raw_arguments.get(tracepoint)
    known = next((raw for raw in event.raw if raw.types == types), None)
    if types is None and not event.fields_by_name and not event.structs:
        known = event.raw[0]  # one signature in all releases; no field of it has a name to go by
    structs_known = all((struct, member) in facts.offsets for struct in event.structs for member in MEMBERS[struct])
    if known is None or not structs_known:
        return None
    return (
        f"-DCTX_{event.name}=bpf_raw_tracepoint_args",
        f"-DRAW_{event.name}",
        *(f"-DARG_{event.name}_{name}=ctx->args[{index}]" for name, index in known.arguments.items()),
    )


def _perf_flags(event: Event, tracepoint: str) -> tuple[str, ...]:
    category, name = tracepoint.split(":")
    return (
        f"-DCTX_{event.name}=tracepoint__{category}__{name}",
        *(f"-DARG_{event.name}_{_ALIASES.get(field, field)}=ctx->{field}" for field in event.fields),
    )


_ALIASES = {"reclaim_flags": "file"}  # what the raw argument is, the trace record has as a flag word


def _pass_probes(facts: Facts, wanted: str | None) -> tuple[PassProbe, ...]:
    """The ways to see passes, best first (costs: bench/)."""
    if wanted == "none" or facts.ftrace_enabled is False or not _pass_members_known(facts):
        return ()
    # A kernel whose tracepoints can be preempted is preemptible. Not to know costs less than to miss.
    twice = bool(facts.preemptible_tracepoints or facts.preemptible is not False)
    probes = [PassProbe(FENTRY, PASS_FUNCTION, twice)] if facts.pass_in_btf else []
    if not _no_kprobes(facts):
        probes += [PassProbe(KPROBE, symbol) for symbol in facts.pass_symbols]
    return tuple(probe for probe in probes if wanted in (None, probe.how))


def _pass_members_known(facts: Facts) -> bool:
    return all(member in facts.offsets for member in PASS_MEMBERS)


def _no_kprobes(facts: Facts) -> tuple[str, str] | None:
    """Why there are none, and what to do about it."""
    if facts.kprobes is False:
        return "this kernel has no kprobes", ""
    if facts.kprobes_fire is False:
        return "kprobes are switched off: attached, they would never run", "echo 1 > /sys/kernel/debug/kprobes/enabled"
    return None


def _pass_choice(help_text: str, probes: tuple[PassProbe, ...], facts: Facts, wanted: str | None) -> Choice:
    no_kprobes = _no_kprobes(facts)
    if probes:
        reason, remedy = no_kprobes if no_kprobes and no_kprobes[1] else ("", "")
        if not reason and probes[0].twice:
            reason = "by two programs: one alone misses what others do while its task has lost the CPU"
        return Choice("passes", help_text, f"{probes[0].how} {probes[0].symbol}", "attached", reason, remedy)
    if wanted == "none":
        return Choice("passes", help_text, "", "off", "switched off")
    reason, remedy = no_kprobes or (f"this kernel has no function {PASS_FUNCTION}", "")
    if not _pass_members_known(facts):
        reason, remedy = "BTF does not tell where struct scan_control has its priority", ""
    elif facts.ftrace_enabled is False:
        reason = "kernel.ftrace_enabled is 0: what is attached to a function would never run"
        remedy = "sysctl kernel.ftrace_enabled=1"
    return Choice("passes", help_text, "", "missing", reason, remedy)


def _session_flags(facts: Facts, wanted: Filter) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Flags that concern every program, and what of the filter cannot be done here."""
    flags = [f"-DOFF_{struct}_{member}={offset}" for (struct, member), offset in facts.offsets.items()]
    flags += [f"-DSIZE_{struct}={size}" for struct, size in facts.sizes.items()]
    problems = []
    pages_at = _pages_at(facts)
    if pages_at is not None and "PG_head" in facts.enumerators:
        flags += [f"-DOFF_folio_nr_pages={pages_at}", f"-DPG_HEAD={facts.enumerators['PG_head']}"]
    if ("scan_control", "proactive") in facts.offsets and facts.proactive_bit is not None:
        flags.append(f"-DBIT_scan_control_proactive={facts.proactive_bit}")
    if len(facts.nodes) == 1:
        flags.append(f"-DCPU_NODE={facts.nodes[0]}")
    elif _silent_lru_gen(facts):
        flags.append("-DNODE_GUESS=NODE_UNKNOWN")
    walkable = all((struct, member) in facts.offsets for struct, member in _CGROUP_WALK)
    if facts.memory_cgroup == 1 and walkable and "memory_cgrp_id" in facts.enumerators:
        flags.append(f"-DMEMORY_CGRP_ID={facts.enumerators['memory_cgrp_id']}")
    elif facts.memory_cgroup == 2:
        flags.append("-DCGROUP_V2")
    if facts.pid_namespace:
        if all((struct, member) in facts.offsets for struct, member in _PID_WALK):
            flags.append(f"-DPIDNS_INUM={facts.pid_namespace}U")
        else:
            problems.append(
                "PIDs are those of the initial PID namespace: this kernel has no BTF to translate them with"
            )
    if wanted.tgids:
        flags.append("-DFILTER_TGID")
    if wanted.children:
        flags.append("-DFOLLOW_CHILDREN")
    if wanted.comm is not None:
        raw = wanted.comm.encode("utf-8", "surrogateescape")[:15].ljust(16, b"\0")
        low, high = (int.from_bytes(half, "little") for half in (raw[:8], raw[8:]))
        flags += [f"-DFILTER_COMM_LOW={low}ULL", f"-DFILTER_COMM_HIGH={high}ULL"]
    if wanted.cgroup_id is not None:
        if walkable:
            flags.append(f"-DFILTER_CGROUP={wanted.cgroup_id}ULL")
        else:
            problems.append("a cgroup filter needs BTF (/sys/kernel/btf/vmlinux), which this kernel does not have")
    return tuple(flags), tuple(problems)


def _pages_at(facts: Facts) -> int | None:
    """Where a large folio has the number of its pages: before there were folios, in the second page (5.10)."""
    for member in ("_nr_pages", "_folio_nr_pages"):
        if ("folio", member) in facts.offsets:
            return facts.offsets["folio", member]
    if ("page", "compound_nr") in facts.offsets and "page" in facts.sizes:
        return facts.sizes["page"] + facts.offsets["page", "compound_nr"]
    return None


_CGROUP_WALK = (
    ("task_struct", "cgroups"),
    ("css_set", "subsys"),
    ("css_set", "dfl_cgrp"),
    ("cgroup_subsys_state", "cgroup"),
    ("cgroup_subsys_state", "parent"),
    ("cgroup", "self"),
    ("cgroup", "kn"),
    ("kernfs_node", "id"),
)
_PID_WALK = (
    ("task_struct", "group_leader"),
    ("task_struct", "thread_pid"),
    ("pid", "level"),
    ("pid", "numbers"),
    ("upid", "nr"),
    ("upid", "ns"),
    ("pid_namespace", "ns"),
    ("ns_common", "inum"),
)


def _silent_lru_gen(facts: Facts) -> bool:
    """The multi-generational LRU is on and tells nothing of its batches.

    Its evict_folios has had the batch events since "mm: multi-gen LRU: reuse some legacy trace events" (6.7 or 6.8).
    The isolation mode left mm_vmscan_lru_isolate at the same time, so the field is the tell-tale.
    """
    fields = facts.fields.get("vmscan:mm_vmscan_lru_isolate")
    return bool((facts.lru_gen or 0) & 1 and fields is not None and "isolate_mode" in fields)


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
        reason = "through perf: a raw tracepoint of this kernel misses what others do while its task has lost the CPU"
        return Choice(need, help_text, PERF, "attached", reason)
    if PERF in hows:
        return Choice(
            need,
            help_text,
            PERF,
            "degraded",
            "through perf: dearer, and skipped while a BPF map system call runs on the same CPU",
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
                    "BPF programs need CAP_BPF and CAP_PERFMON, which this root does not have",
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
