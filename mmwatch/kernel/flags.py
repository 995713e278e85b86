"""The compiler flags that adapt the C programs to a kernel and a session. Pure, like the plan they are part of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmwatch.kernel.events import STRUCTS, Event
from mmwatch.kernel.facts import Facts


@dataclass(frozen=True)
class Filter:
    """Which tasks count: those that match everything given.

    :param tgids: process IDs in the caller's PID namespace.
    :param children: also the processes that these fork from now on.
    :param cgroup_id: ID of a memory cgroup; cgroups below it match, too.
    :param comm: the full name of the task.
    """

    tgids: tuple[int, ...] = ()
    children: bool = False
    cgroup_id: int | None = None
    comm: str | None = None

    def __bool__(self) -> bool:
        return bool(self.tgids or self.cgroup_id is not None or self.comm is not None)


def raw_flags(event: Event, tracepoint: str, facts: Facts) -> tuple[str, ...] | None:
    """Flags to read a raw tracepoint. None: the layout of its arguments, or of structs they point to, is unknown."""
    types = facts.raw_arguments.get(tracepoint)
    known = next((raw for raw in event.raw if raw.types == types), None)
    if types is None and not event.fields_by_name and not event.structs:
        known = event.raw[0]  # one signature in all releases, and no field names to fall back on
    read = [(struct, member) for struct in event.structs for member in STRUCTS[struct]]
    if known is None or not _known(facts, read):
        return None
    return (
        f"-DCTX_{event.name}=bpf_raw_tracepoint_args",
        f"-DRAW_{event.name}",
        *(f"-DARG_{event.name}_{name}=ctx->args[{index}]" for name, index in known.arguments.items()),
    )


def perf_flags(event: Event, tracepoint: str, facts: Facts) -> tuple[str, ...]:
    """Flags to read a tracepoint through perf: by field names."""
    optional = [field for field in event.optional if field in (facts.fields.get(tracepoint) or ())]
    category, name = tracepoint.split(":")
    return (
        f"-DCTX_{event.name}=tracepoint__{category}__{name}",
        *(f"-DARG_{event.name}_{_ALIASES.get(field, field)}=ctx->{field}" for field in (*event.fields, *optional)),
    )


_ALIASES = {"reclaim_flags": "file"}  # the trace record has a flag word where the raw tracepoint has an argument


def session_flags(facts: Facts, wanted: Filter) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Flags for all programs, and problems: the parts of the filter that cannot be applied here."""
    flags = [f"-DOFF_{struct}_{member}={offset}" for (struct, member), offset in facts.offsets.items()]
    flags += [f"-DSIZE_{struct}={size}" for struct, size in facts.sizes.items()]
    problems = []
    pages_at = _pages_at(facts)
    if pages_at is not None:
        flags += [f"-DOFF_folio_nr_pages={pages_at}", f"-DPG_HEAD={facts.enumerators['PG_head']}"]
    if finds_folio(facts):
        flags.append(f"-DVMEMMAP_BASE={facts.vmemmap_base}ULL")
    if ("scan_control", "proactive") in facts.offsets and facts.proactive_bit is not None:
        flags.append(f"-DBIT_scan_control_proactive={facts.proactive_bit}")
    if facts.memstall_bit is not None:
        flags.append(f"-DBIT_task_struct_in_memstall={facts.memstall_bit}")
    if counts_cpu_time(facts):
        flags.append("-DCPU_TIME")
        helper = facts.enumerators.get("BPF_FUNC_get_current_task_btf")
        flags += [f"-DCURRENT_TASK_BTF={helper}"] if helper is not None else []
    if len(facts.nodes) == 1:
        flags.append(f"-DCPU_NODE={facts.nodes[0]}")
    elif silent_lru_gen(facts):
        flags.append("-DNODE_GUESS=NODE_UNKNOWN")
    if not unknown_memcg_member(facts):
        flags.append("-DMEMCG_ID")
    walkable = _known(facts, _CGROUP_WALK)
    if facts.memory_cgroup == 1 and walkable and "memory_cgrp_id" in facts.enumerators:
        flags.append(f"-DMEMORY_CGRP_ID={facts.enumerators['memory_cgrp_id']}")
    elif facts.memory_cgroup == 2:
        flags.append("-DCGROUP_V2")
    if facts.pid_namespace:
        if _known(facts, _PID_WALK):
            flags.append(f"-DPIDNS_INUM={facts.pid_namespace}U")
        else:
            problems.append("PIDs are those of the initial PID namespace: without BTF, mmwatch cannot translate them")
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
    """Offset of a large folio's number of pages. Before folios, the second page of a compound page had it (5.10).

    None: it is not known, or how to tell a large folio from a small one is not.
    """
    if "PG_head" not in facts.enumerators:
        return None
    for member in ("_nr_pages", "_folio_nr_pages"):
        if ("folio", member) in facts.offsets:
            return facts.offsets["folio", member]
    if ("page", "compound_nr") in facts.offsets and "page" in facts.sizes:
        return facts.sizes["page"] + facts.offsets["page", "compound_nr"]
    return None


def finds_folio(facts: Facts) -> bool:
    """Whether a program can read a folio's number of pages if it knows only the number of the first page."""
    return facts.vmemmap_base is not None and "page" in facts.sizes and _pages_at(facts) is not None


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
_MEMCG_WALK = (
    ("mem_cgroup", "css"),
    ("cgroup_subsys_state", "cgroup"),
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


def counts_cpu_time(facts: Facts) -> bool:
    """Whether the CPU time of a task can be read: the two figures are side by side, as in all releases up to 7.2."""
    begin, total = (facts.offsets.get(("sched_entity", member)) for member in STRUCTS["sched_entity"])
    return ("task_struct", "se") in facts.offsets and begin is not None and total == begin + 8


def unknown_memcg_member(facts: Facts) -> tuple[str, str] | None:
    """The first (struct, member) on the way from a memory cgroup to its ID that BTF does not have."""
    return next((member for member in _MEMCG_WALK if member not in facts.offsets), None)


def tells_target(flags: Sequence[str], facts: Facts) -> bool:
    """Whether these flags of the begin of a memory cgroup's reclaim have it tell the cgroup."""
    names = {flag.partition("=")[0] for flag in flags}
    by_pointer = "-DARG_memcg_reclaim_begin_memcg" in names and not unknown_memcg_member(facts)
    return by_pointer or "-DARG_memcg_reclaim_begin_memcg_id" in names


def silent_lru_gen(facts: Facts) -> bool:
    """Whether the multi-generational LRU is on and has no events for its batches.

    Its evict_folios has had them since "mm: multi-gen LRU: reuse some legacy trace events" (6.7 or 6.8). The field for
    the isolation mode was removed from mm_vmscan_lru_isolate at the same time, so its absence is the sign.
    """
    fields = facts.fields.get("vmscan:mm_vmscan_lru_isolate")
    return bool((facts.lru_gen or 0) & 1 and fields is not None and "isolate_mode" in fields)


def _known(facts: Facts, members: Sequence[tuple[str, str]]) -> bool:
    """Whether BTF has the offset of each (struct, member)."""
    return all(member in facts.offsets for member in members)
