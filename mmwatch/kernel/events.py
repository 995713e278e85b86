"""The table of probes: tracepoints and functions, what the handlers read and how, and which need each serves.

An event has a handler ``on_NAME`` in ``bpf/``. A raw tracepoint passes on the arguments of the kernel's own call, so
their order must be known. It is known if their types in BTF match one of the ``raw`` signatures. Otherwise the
tracepoint is attached through perf, where fields have names. For the history of fields and signatures, see the kernel's
include/trace/events/vmscan.h.

To add an event or a function, add an entry here and its handler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mmwatch.abi import ROW


@dataclass(frozen=True)
class Raw:
    """One known signature of a raw tracepoint: its argument types, and the position of each field among them."""

    types: tuple[str, ...]
    arguments: Mapping[str, int]


@dataclass(frozen=True)
class Event:
    """A tracepoint and its handler.

    :param need: the need this serves (:data:`NEEDS`).
    :param tracepoints: the handler is attached to all of these; they share a record layout.
    :param fields: the fields that the handler reads, by their names in the tracefs format.
    :param alternatives: events to try, in this order, if the first of ``tracepoints`` is missing.
    :param required: without this event the need is not served at all.
    :param structs: those of :data:`STRUCTS` that the raw handler reads.
    :param optional: the same, but the handler can do without.
    :param names_folio: the raw arguments have a folio, and the trace record only the number of its first page.
    """

    name: str
    need: str
    tracepoints: tuple[str, ...]
    fields: tuple[str, ...] = ()
    raw: tuple[Raw, ...] = ()
    alternatives: tuple[str, ...] = ()
    required: bool = True
    structs: tuple[str, ...] = ()
    names_folio: bool = False
    optional: tuple[str, ...] = ()

    @property
    def fields_by_name(self) -> bool:
        """Whether it can be attached through perf, where handlers read fields by name."""
        return self.need not in ("lifetimes", "children")


@dataclass(frozen=True)
class Function:
    """A kernel function probed at its entry, or also where it returns.

    Its handlers, in ``bpf/NAME.h``: the fentry program ``KFUNC_PROBE(NAME, …)``, its second one ``on_NAME_pair``, and
    ``on_NAME`` for a kprobe. For its return: ``KRETFUNC_PROBE(NAME, …)``, ``on_NAME_return_pair``, and
    ``on_NAME_return`` for a kretprobe.

    :param need: the need this serves (:data:`NEEDS`), and nothing else does.
    :param members: each (struct, member) that the handler reads at a BTF offset. If one is missing, the function is not
        probed.
    :param optional: the same, but the handler can do without.
    :param returns: its return is probed, too.
    :param psi: the handler reads what PSI keeps of a task.
    """

    name: str
    need: str
    members: tuple[tuple[str, str], ...] = ()
    optional: tuple[tuple[str, str], ...] = ()
    returns: bool = False
    psi: bool = False


@dataclass(frozen=True)
class Need:
    """Something a user wants to see."""

    name: str
    help: str

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures that are unknown without it: members of ``struct row`` that name it in ``bpf/abi.h``."""
        return tuple(member.name for member in ROW if member.need == self.name)


NEEDS: tuple[Need, ...] = (
    Need("direct", "global direct reclaim: who, how long, how much"),
    Need("memcg", "reclaim at a memory cgroup's limit, and proactive reclaim"),
    Need("softlimit", "cgroup v1 soft limit reclaim, inside direct reclaim and kswapd"),
    Need("node", "node (zone) reclaim"),
    Need("kswapd", "background reclaim by kswapd"),
    Need("cpu", "CPU time in reclaim, apart from sleep"),
    Need("batches", "pages reclaimed, and the node and priority of each batch"),
    Need("scans", "pages scanned, exactly"),
    Need("active", "deactivation of active pages"),
    Need("shrinkers", "time and objects of slab shrinkers"),
    Need("throttling", "sleeps inside reclaim, by reason"),
    Need("wakeups", "which task woke kswapd"),
    Need("writes", "pages that reclaim itself wrote"),
    Need("passes", "each call of shrink_node: the priority ladder, even where batches have no events"),
    Need("high", "sleep above memory.high, outside of reclaim"),
    Need("targets", "the memory cgroup whose limit binds"),
    Need("lifetimes", "the end of threads, so that their rows can be reused"),
)

BRACKETS = ("direct", "memcg", "softlimit", "node", "kswapd")
"""Needs that are the brackets of one path each. Any of them counts the members of ``struct row`` whose need is
``brackets``, so a missing one makes no measure unknown: its path just has no rows."""
NO_MEASURE = ("lifetimes",)
"""Needs that have no measure."""

FUNCTIONS: tuple[Function, ...] = (
    Function(
        "shrink_node",  # (pg_data_t *, struct scan_control *); shrink_zone up to 4.7, too old to map BPF maps (5.5)
        "passes",
        (
            ("scan_control", "nr_to_reclaim"),
            ("scan_control", "priority"),
            ("scan_control", "nr_reclaimed"),
            ("pglist_data", "node_id"),
        ),
        (("scan_control", "proactive"), ("scan_control", "target_mem_cgroup")),
    ),
    Function(
        "schedule_timeout_killable",
        "high",
        # Kernels without bpf_tramp_image may free an fexit trampoline while a task sleeps in it.
        (("task_struct", "in_memstall"), ("bpf_tramp_image", "pcref")),
        returns=True,
        psi=True,
    ),
)

_BEGIN = (
    Raw(("int", "gfp_t"), {"order": 0, "gfp_flags": 1}),
    Raw(("gfp_t", "int", "mem_cgroup *"), {"gfp_flags": 0, "order": 1, "memcg": 2}),  # 7.1
)
_ULONG = "long unsigned int"

_SHRINK_START = ("shrinker *", "shrink_control *", "long int", _ULONG, "long long unsigned int", _ULONG, "int")
_SHRINK_END = ("shrinker *", "int", "int", "long int", "long int", "long int")

EVENTS: tuple[Event, ...] = (
    Event(
        "direct_reclaim_begin",
        "direct",
        ("vmscan:mm_vmscan_direct_reclaim_begin",),
        ("order", "gfp_flags"),
        _BEGIN,
    ),
    Event(
        "memcg_reclaim_begin",
        "memcg",
        ("vmscan:mm_vmscan_memcg_reclaim_begin",),
        ("order", "gfp_flags"),
        _BEGIN,
        optional=("memcg_id",),
    ),
    Event(
        "softlimit_reclaim_begin",
        "softlimit",
        ("vmscan:mm_vmscan_memcg_softlimit_reclaim_begin",),
        ("order", "gfp_flags"),
        _BEGIN,
        optional=("memcg_id",),
    ),
    Event(
        "node_reclaim_begin",
        "node",
        ("vmscan:mm_vmscan_node_reclaim_begin",),
        ("nid", "order", "gfp_flags"),
        (Raw(("int", "int", "gfp_t"), {"nid": 0, "order": 1, "gfp_flags": 2}),),
    ),
    Event(
        "reclaim_end",
        "direct",
        (
            "vmscan:mm_vmscan_direct_reclaim_end",
            "vmscan:mm_vmscan_memcg_reclaim_end",
            "vmscan:mm_vmscan_memcg_softlimit_reclaim_end",
            "vmscan:mm_vmscan_node_reclaim_end",
        ),
        ("nr_reclaimed",),
        (Raw((_ULONG,), {"nr_reclaimed": 0}), Raw((_ULONG, "mem_cgroup *"), {"nr_reclaimed": 0})),  # 7.1: the second
    ),
    Event(
        "kswapd_wake",
        "kswapd",
        ("vmscan:mm_vmscan_kswapd_wake",),
        ("nid", "order"),
        (Raw(("int", "int", "int"), {"nid": 0, "order": 2}),),
    ),
    Event("kswapd_sleep", "kswapd", ("vmscan:mm_vmscan_kswapd_sleep",), (), (Raw(("int",), {}),)),
    Event(
        "balance_pgdat_end",
        "kswapd",
        ("vmscan:mm_vmscan_balance_pgdat_end",),  # 7.2
        ("nr_reclaimed",),
        (Raw(("int", "int", "int", _ULONG), {"nr_reclaimed": 3}),),
        required=False,
    ),
    Event(
        "lru_isolate",
        "scans",
        ("vmscan:mm_vmscan_lru_isolate",),
        ("nr_scanned", "nr_taken", "lru"),
        (
            Raw(("int", "int", _ULONG, _ULONG, _ULONG, _ULONG, "int"), {"nr_scanned": 3, "nr_taken": 5, "lru": 6}),
            Raw(  # up to 6.6, with the isolation mode before the list
                ("int", "int", _ULONG, _ULONG, _ULONG, _ULONG, "isolate_mode_t", "int"),
                {"nr_scanned": 3, "nr_taken": 5, "lru": 7},
            ),
            Raw(
                ("int", "int", _ULONG, _ULONG, _ULONG, _ULONG, "unsigned int", "int"),
                {"nr_scanned": 3, "nr_taken": 5, "lru": 7},
            ),
        ),
    ),
    Event(
        "lru_shrink_inactive",
        "batches",
        ("vmscan:mm_vmscan_lru_shrink_inactive",),
        ("nid", "nr_scanned", "nr_reclaimed", "priority", "reclaim_flags"),  # and what struct batch_stat is filled from
        (
            Raw(
                ("int", _ULONG, _ULONG, "reclaim_stat *", "int", "int"),
                {"nid": 0, "nr_scanned": 1, "nr_reclaimed": 2, "stat": 3, "priority": 4, "file": 5},
            ),
        ),
        structs=("reclaim_stat",),
    ),
    Event(
        "lru_shrink_active",
        "active",
        ("vmscan:mm_vmscan_lru_shrink_active",),
        ("nid", "nr_taken", "nr_deactivated", "priority"),
        (
            Raw(
                ("int", _ULONG, _ULONG, _ULONG, _ULONG, "int", "int"),
                {"nid": 0, "nr_taken": 1, "nr_deactivated": 3, "priority": 5},
            ),
        ),
    ),
    Event(
        "shrink_slab_start",
        "shrinkers",
        ("vmscan:mm_shrink_slab_start",),
        (),
        (Raw(_SHRINK_START, {}), Raw((*_SHRINK_START, "mem_cgroup *"), {})),  # 7.1: the second
    ),
    Event(
        "shrink_slab_end",
        "shrinkers",
        ("vmscan:mm_shrink_slab_end",),
        ("nid", "retval", "shrink"),
        (
            Raw(_SHRINK_END, {"shr": 0, "nid": 1, "retval": 2}),
            Raw((*_SHRINK_END, "mem_cgroup *"), {"shr": 0, "nid": 1, "retval": 2}),  # 7.1
        ),
        structs=("shrinker",),
    ),
    Event(
        "throttled",
        "throttling",
        ("vmscan:mm_vmscan_throttled",),
        ("nid", "usec_delayed", "reason"),
        (Raw(("int", "int", "int", "int"), {"nid": 0, "usec_delayed": 2, "reason": 3}),),
    ),
    Event(
        "wakeup_kswapd",
        "wakeups",
        ("vmscan:mm_vmscan_wakeup_kswapd",),
        ("nid",),
        (Raw(("int", "int", "int", "gfp_t"), {"nid": 0}),),
    ),
    Event(
        "write_folio",
        "writes",
        ("vmscan:mm_vmscan_write_folio",),
        ("pfn",),
        (Raw(("folio *",), {"folio": 0}), Raw(("page *",), {"folio": 0})),  # up to 5.17: the second
        alternatives=("vmscan:mm_vmscan_writepage",),
        names_folio=True,
    ),
    Event(
        "sched_process_free",
        "lifetimes",
        ("sched:sched_process_free",),
        raw=(Raw(("task_struct *",), {}),),
    ),
)

FOLLOW_CHILDREN = Event(
    "sched_process_fork",
    "children",
    ("sched:sched_process_fork",),
    raw=(Raw(("task_struct *", "task_struct *"), {}),),
    structs=("task_struct",),
)
"""Attached if a filter follows child processes."""

STRUCTS: Mapping[str, tuple[str, ...]] = {
    "reclaim_stat": ("nr_dirty", "nr_writeback", "nr_immediate", "nr_activate", "nr_ref_keep", "nr_unmap_fail"),
    "shrinker": ("scan_objects",),
    "task_struct": ("pid", "group_leader", "thread_pid", "cgroups", "se"),
    "sched_entity": ("exec_start", "sum_exec_runtime"),
    "pid": ("level", "numbers"),
    "upid": ("nr", "ns"),
    "pid_namespace": ("ns",),
    "ns_common": ("inum",),
    "css_set": ("subsys", "dfl_cgrp"),
    "mem_cgroup": ("css",),
    "cgroup_subsys_state": ("cgroup", "parent"),
    "cgroup": ("self", "kn"),
    "kernfs_node": ("id",),
    "folio": ("_nr_pages", "_folio_nr_pages"),
    "page": ("compound_nr",),
}
"""Struct members whose offsets the handlers of events use, where BTF has them."""


def members() -> dict[str, tuple[str, ...]]:
    """Members by struct: those of :data:`STRUCTS` and those that the handlers of :data:`FUNCTIONS` read."""
    found = dict(STRUCTS)
    for function in FUNCTIONS:
        for struct, member in (*function.members, *function.optional):
            found[struct] = tuple(dict.fromkeys((*found.get(struct, ()), member)))
    return found
