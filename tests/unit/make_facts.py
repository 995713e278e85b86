"""Facts of made-up hosts for tests; say only what a test is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mmwatch.kernel.events import EVENTS, FOLLOW_CHILDREN, FUNCTIONS, members
from mmwatch.kernel.facts import CAPABILITIES, Facts

ALL_EVENTS = (*EVENTS, FOLLOW_CHILDREN)
TRACEPOINTS = [name for event in ALL_EVENTS for name in event.tracepoints]
_BATCH_FIELDS = frozenset(
    ("nr_dirty", "nr_writeback", "nr_immediate", "nr_activate0", "nr_activate1", "nr_ref_keep", "nr_unmap_fail")
)

FACTS = Facts(
    kernel="6.18.5",
    machine="x86_64",
    distribution=("debian",),
    root=True,
    capabilities=frozenset(CAPABILITIES),
    bcc=True,
    python="3.11.2",
    btf=True,
    tracefs="mounted",
    fields={
        name: frozenset((*event.fields, "common_pid")) | _BATCH_FIELDS
        for event in ALL_EVENTS
        for name in event.tracepoints
    },
    raw_arguments={name: event.raw[0].types for event in ALL_EVENTS for name in event.tracepoints},
    offsets={(struct, member): 8 for struct, names in members().items() for member in names},
    sizes={"upid": 16},
    enumerators={"PG_head": 6, "memory_cgrp_id": 4},
    proactive_bit=1,
    functions=frozenset(function.name for function in FUNCTIONS),
    symbols={function.name: (function.name,) for function in FUNCTIONS},
    kprobes=True,
    kprobes_fire=True,
    ftrace_enabled=True,
    preemptible=False,
    lockdown="none",
    nodes=(0, 1),
    lru_gen=0,
    pid_namespace=0,
    memory_cgroup=2,
)
"""A host that has everything."""


def make_facts(**fields: Any) -> Facts:
    """:data:`FACTS` with some of them changed."""
    return replace(FACTS, **fields)


def without_btf(**fields: Any) -> Facts:
    """A kernel that tells nothing of its types."""
    return make_facts(
        **{
            "btf": False,
            "raw_arguments": {},
            "offsets": {},
            "sizes": {},
            "enumerators": {},
            "taskstats": {},
            "proactive_bit": None,
            "functions": frozenset(),
            **fields,
        }
    )


def ordinary_user(**fields: Any) -> Facts:
    """Somebody who is not root, where tracefs and BTF are root's alone."""
    return without_btf(
        **{
            "btf": None,
            "root": False,
            "capabilities": frozenset(),
            "tracefs": "missing",
            "tracefs_reason": "not mounted",
            "fields": {},
            **fields,
        }
    )
