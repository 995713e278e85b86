"""What this host offers for probing. Facts are looked up once and frozen; None means that one could not be found."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mmwatch.kernel import events
from mmwatch.kernel.btf import VMLINUX, Btf
from mmwatch.kernel.events import EVENTS, FOLLOW_CHILDREN
from mmwatch.kernel.files import read_text
from mmwatch.kernel.tracefs import Tracefs
from mmwatch.units import number_list, unescape

CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_SYSLOG": 34, "CAP_PERFMON": 38, "CAP_BPF": 39}
"""include/uapi/linux/capability.h"""

_GFP_EVENT = "vmscan:mm_vmscan_direct_reclaim_begin"
_TRACEPOINT_GUARD = "class_srcu_fast_notrace_t"
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h

_ENUMERATORS = (
    ("pageflags", "PG_head"),
    ("cgroup_subsys_id", "memory_cgrp_id"),
    ("bpf_func_id", "BPF_FUNC_get_current_task_btf"),
)
"""(enum, enumerator) whose values the programs use."""


@dataclass(frozen=True)
class Facts:
    """Everything about the host that matters for probing.

    :param kernel: release, for people only; never compared.
    :param capabilities: effective ones of :data:`CAPABILITIES`; None: /proc cannot be read.
    :param bcc: importable by this Python.
    :param fields: of each tracepoint, by ``category:event``; None where there is no such tracepoint. Empty when tracefs
        cannot be read, see ``tracefs``.
    :param gfp_flags: bits by name, in the order the kernel's own events look for them; empty when not known.
    :param raw_arguments: C types of a raw tracepoint's arguments, by ``category:event``, from BTF.
    :param offsets: byte offsets by (struct, member), from BTF.
    :param taskstats: byte offset and size of each member of struct taskstats, from BTF; empty without it.
    :param proactive_bit: of scan_control.proactive in its byte (6.0 and later).
    :param functions: those of :data:`mmwatch.kernel.events.FUNCTIONS` that BTF has, so that fentry can find them.
    :param symbols: the names of each function in kallsyms, with suffixes the compiler added (``.isra.0``), plain first.
    :param kprobes: the kernel has kprobes that perf can attach.
    :param kprobes_fire: attached kprobes really run (kernel: kernel/kprobes.c, ``kprobes_all_disarmed``).
    :param ftrace_enabled: programs attached to the entry of a function really run, by fentry or by kprobe.
    :param preemptible_tracepoints: a task may be preempted inside a tracepoint's programs. Until it resumes, the kernel
        skips that program for other tasks on the CPU (__bpf_trace_run, ``prog->active``), unless it is attached through
        perf, which disables preemption. Tracepoints became preemptible when SRCU began to guard them (kernel:
        include/linux/tracepoint.h, __DECLARE_TRACE); the type of that guard was introduced for them.
    :param vmemmap_base: address of the kernel's variable for the address of the first struct page (x86:
        arch/x86/kernel/head64.c), if tracepoints are preemptible; None: not known.
    :param preemptible: a task may be preempted in the kernel, and therefore inside an fentry program (kernel:
        CONFIG_PREEMPT and its variants); None: not known.
    :param lockdown: ``none``, ``integrity``, ``confidentiality``; None: not built in, or cannot be read.
    :param nodes: NUMA nodes that have memory.
    :param pid_namespace: inode of the PID namespace; 0 in the initial one.
    :param memory_cgroup: version of the cgroup hierarchy that limits memory; None: there is none.
    """

    kernel: str = ""
    machine: str = ""
    distribution: tuple[str, ...] = ()
    root: bool = False
    capabilities: frozenset[str] | None = None
    bcc: bool | None = None
    python: str = ""
    btf: bool | None = None
    tracefs: str = "missing"
    tracefs_reason: str = ""
    fields: Mapping[str, frozenset[str] | None] = field(default_factory=dict)
    gfp_flags: Mapping[str, int] = field(default_factory=dict)
    raw_arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    offsets: Mapping[tuple[str, str], int] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    enumerators: Mapping[str, int] = field(default_factory=dict)
    taskstats: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    proactive_bit: int | None = None
    memstall_bit: int | None = None
    functions: frozenset[str] = frozenset()
    symbols: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kprobes: bool | None = None
    kprobes_fire: bool | None = None
    ftrace_enabled: bool | None = None
    preemptible_tracepoints: bool | None = None
    vmemmap_base: int | None = None
    preemptible: bool | None = None
    lockdown: str | None = None
    nodes: tuple[int, ...] = ()
    lru_gen: int | None = None
    pid_namespace: int = 0
    memory_cgroup: int | None = None
    psi: bool | None = None


def gather(root: Path = Path("/")) -> Facts:
    """Look at the host without changing it. Any user may do this, but an unprivileged one learns less."""
    tracefs = Tracefs(root)
    names = [name for event in (*EVENTS, FOLLOW_CHILDREN) for name in (*event.tracepoints, *event.alternatives)]
    short = {name: name.split(":")[1] for name in names}
    btf = Btf.of_kernel(
        [
            *(f"btf_trace_{event}" for event in short.values()),
            *events.members(),
            *(function.name for function in events.FUNCTIONS),
            _TRACEPOINT_GUARD,
            "taskstats",
            *(enum for enum, _ in _ENUMERATORS),
        ],
        root,
    )
    try:
        fields = {name: tracefs.fields(name) for name in names} if tracefs.path else {}
        gfp_flags = tracefs.flags(_GFP_EVENT)
    finally:
        tracefs.close()
    types = _Types()
    if btf is not None:
        try:
            types = _Types.of(btf, short)
        except ValueError:  # damaged: treat it as missing
            btf = None
    return Facts(
        kernel=platform.release(),
        machine=platform.machine(),
        distribution=_distribution(root),
        root=os.geteuid() == 0,
        capabilities=_capabilities(root),
        bcc=importlib.util.find_spec("bcc") is not None,
        python=platform.python_version(),
        btf=btf is not None or (None if os.path.exists(root / VMLINUX) else False),
        tracefs=tracefs.state,
        tracefs_reason=tracefs.reason,
        fields=fields,
        gfp_flags=gfp_flags,
        raw_arguments=types.raw_arguments,
        offsets=types.offsets,
        sizes=types.sizes,
        enumerators=types.enumerators,
        taskstats=types.taskstats,
        proactive_bit=types.proactive_bit,
        memstall_bit=types.memstall_bit,
        functions=types.functions,
        symbols=_symbols(types.functions, root),
        kprobes=_kprobes(root),
        kprobes_fire=_switch(root / "sys/kernel/debug/kprobes/enabled"),
        ftrace_enabled=_switch(root / "proc/sys/kernel/ftrace_enabled"),
        preemptible_tracepoints=types.preemptible_tracepoints,
        vmemmap_base=_address("vmemmap_base", root) if types.preemptible_tracepoints else None,
        preemptible=_preemptible(root),
        lockdown=_lockdown(root),
        nodes=_nodes(root),
        lru_gen=_lru_gen(root),
        pid_namespace=_pid_namespace(root),
        memory_cgroup=_memory_cgroup(root),
        psi=bool(read_text(root / "proc/pressure/memory")),
    )


@dataclass
class _Types:
    """The facts that come from BTF, in the form of :class:`Facts`."""

    raw_arguments: dict[str, tuple[str, ...]] = field(default_factory=dict)
    offsets: dict[tuple[str, str], int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    enumerators: dict[str, int] = field(default_factory=dict)
    taskstats: dict[str, tuple[int, int]] = field(default_factory=dict)
    proactive_bit: int | None = None
    memstall_bit: int | None = None
    functions: frozenset[str] = frozenset()
    preemptible_tracepoints: bool | None = None

    @classmethod
    def of(cls, btf: Btf, tracepoints: Mapping[str, str]) -> _Types:
        """:raises ValueError: it is damaged."""
        found = cls(
            taskstats=btf.members("taskstats"),
            proactive_bit=btf.bit("scan_control", "proactive"),
            memstall_bit=btf.bit("task_struct", "in_memstall"),
            functions=frozenset(f.name for f in events.FUNCTIONS if btf.has_function(f.name)),
            preemptible_tracepoints=btf.has_type(_TRACEPOINT_GUARD),
        )
        for name, event in tracepoints.items():
            arguments = btf.raw_arguments(event)
            if arguments is not None:
                found.raw_arguments[name] = arguments
        for struct, wanted in events.members().items():
            members = btf.members(struct)
            found.offsets.update({(struct, member): members[member][0] for member in wanted if member in members})
            size = btf.size(struct)
            if size is not None:
                found.sizes[struct] = size
        for enum, name in _ENUMERATORS:
            value = btf.enumerator(enum, name)
            if value is not None:
                found.enumerators[name] = value
        return found


def _distribution(root: Path) -> tuple[str, ...]:
    text = read_text(root / "etc/os-release") or ""
    words = re.findall(r'^(?:ID|ID_LIKE)="?([^"\n]*)"?$', text, re.MULTILINE)
    return tuple(word for line in words for word in line.split())


def _capabilities(root: Path) -> frozenset[str] | None:
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", read_text(root / "proc/self/status") or "", re.MULTILINE)
    if found is None:
        return None
    mask = int(found[1], 16)
    return frozenset(name for name, bit in CAPABILITIES.items() if mask >> bit & 1)


def _symbols(in_btf: frozenset[str], root: Path) -> dict[str, tuple[str, ...]]:
    """Names of the functions in /proc/kallsyms. Reading it takes 100 ms, so skip it if BTF has all of them."""
    found = {function.name: {function.name} & in_btf for function in events.FUNCTIONS}
    unknown = [name for name, symbols in found.items() if not symbols]
    if unknown:
        name = "|".join(map(re.escape, unknown))
        pattern = rf" [tT] (({name})(?:\.(?:isra|constprop|part|cold)\.?\d*)*)$"
        for symbol, function in re.findall(pattern, read_text(root / "proc/kallsyms") or "", re.MULTILINE):
            if ".cold" not in symbol:
                found[function] = found[function] | {symbol}
    return {name: tuple(sorted(symbols, key=lambda s: (len(s), s))) for name, symbols in found.items()}


def _address(variable: str, root: Path) -> int | None:
    """Address of a variable in /proc/kallsyms, which shows zeros to whoever may not know addresses."""
    # A pattern takes 30 ms more.
    before, found, _ = (read_text(root / "proc/kallsyms") or "").partition(f" {variable}\n")
    address, _, kind = before.rpartition("\n")[2].partition(" ")
    return (int(address, 16) or None) if found and kind in "dDbBrR" else None


def _kprobes(root: Path) -> bool | None:
    """Whether perf can attach kprobes (kernel: kernel/events/core.c, the kprobe PMU)."""
    devices = root / "sys/bus/event_source/devices"
    return os.path.exists(devices / "kprobe") if os.path.isdir(devices) else None


def _switch(path: Path) -> bool | None:
    text = read_text(path)
    return None if text is None else text.strip() != "0"


def _preemptible(root: Path) -> bool | None:
    """From the way the kernel was built (init/Makefile) or, with PREEMPT_DYNAMIC, from the current setting (5.12)."""
    version = read_text(root / "proc/sys/kernel/version")
    if version is None:
        return None
    if "PREEMPT_DYNAMIC" not in version:
        return "PREEMPT" in version
    chosen = re.search(r"\((\w+)\)", read_text(root / "sys/kernel/debug/sched/preempt") or "")
    return chosen[1] not in ("none", "voluntary") if chosen else None


def _lockdown(root: Path) -> str | None:
    found = re.search(r"\[(\w+)\]", read_text(root / "sys/kernel/security/lockdown") or "")
    return found[1] if found else None


def _nodes(root: Path) -> tuple[int, ...]:
    """From ``has_memory`` ("0-1,3"); node 0 where the kernel has no NUMA."""
    text = read_text(root / "sys/devices/system/node/has_memory")
    return (0,) if text is None else number_list(text)


def _lru_gen(root: Path) -> int | None:
    text = read_text(root / "sys/kernel/mm/lru_gen/enabled")
    found = re.fullmatch(r"0x([0-9a-fA-F]{1,8})\s*", text or "")
    return int(found[1], 16) if found else None


def _pid_namespace(root: Path) -> int:
    try:
        inode = (root / "proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0
    return 0 if inode == _INITIAL_PID_NAMESPACE else inode


def _memory_cgroup(root: Path) -> int | None:
    """2 if the memory controller is in the unified hierarchy, 1 if it is in a version 1 hierarchy."""
    mounts = read_text(root / "proc/self/mountinfo") or ""
    unified = False
    for line in mounts.split("\n"):
        place, _, rest = line.partition(" - ")
        words = rest.split(" ")
        if words[:1] == ["cgroup"] and "memory" in words[-1].split(","):
            return 1
        fields = place.split(" ")
        if words[:1] == ["cgroup2"] and len(fields) > 4:
            point = unescape(fields[4])
            controllers = read_text(root / point.lstrip("/") / "cgroup.controllers")
            unified = unified or (controllers is not None and "memory" in controllers.split())
    return 2 if unified else None
