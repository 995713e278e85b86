"""Facts of hosts for tests: made-up facts, where a test sets only what it is about, and saved facts of real kernels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmwatch.kernel.events import EVENTS, FOLLOW_CHILDREN, FUNCTIONS, members
from mmwatch.kernel.facts import CAPABILITIES, Facts

FIXTURES = Path(__file__).parent / "fixtures/facts"
KERNELS = sorted(path.stem for path in FIXTURES.glob("*.json"))
"""The kernels of the laboratory whose facts are saved."""
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
    offsets={
        (struct, member): 16 if member == "sum_exec_runtime" else 8
        for struct, names in members().items()
        for member in names
    },
    sizes={"upid": 16},
    enumerators={"PG_head": 6, "memory_cgrp_id": 4, "BPF_FUNC_get_current_task_btf": 158},
    proactive_bit=1,
    memstall_bit=1,
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
    psi=True,
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
    """A user other than root, on a host where only root can read tracefs and BTF."""
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


def facts_of(kernel: str, **changed: Any) -> Facts:
    """What :func:`mmwatch.kernel.facts.gather` found there."""
    values = json.loads((FIXTURES / f"{kernel}.json").read_text())
    values["distribution"] = tuple(values["distribution"])
    values["capabilities"] = frozenset(values["capabilities"])
    values["fields"] = {name: None if found is None else frozenset(found) for name, found in values["fields"].items()}
    values["raw_arguments"] = {name: tuple(types) for name, types in values["raw_arguments"].items()}
    values["offsets"] = {tuple(key): value for key, value in values["offsets"]}
    values["taskstats"] = {key: tuple(value) for key, value in values["taskstats"]}
    values["nodes"] = tuple(values["nodes"])
    values["functions"] = frozenset(values["functions"])
    values["symbols"] = {name: tuple(symbols) for name, symbols in values["symbols"].items()}
    return replace(Facts(**values), **changed)
