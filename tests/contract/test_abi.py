"""The interface between the BPF programs and user space, pinned: a change fails unless it is made here, too.

As long as this file does not change, names in recordings and the meaning of figures do not change.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Callable

import pytest

from mmwatch import abi
from mmwatch.abi import Abi, Fold, Member, parse
from mmwatch.kernel.events import BRACKETS, EVENTS, FUNCTIONS, NEEDS, NO_MEASURE
from mmwatch.model import measures

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "bpf" / "abi.h").read_text()

ENUMS = {
    "reclaim_path": ("other", "direct", "memcg", "softlimit", "node", "kswapd", "proactive"),
    "row_state": ("free", "live", "exited"),
    "record_kind": ("reclaim", "batch", "pass"),
    "throttle_reason": ("writeback", "isolated", "noprogress", "congested"),
    "stat": (
        "lost_reclaim",
        "lost_batch",
        "lost_pass",
        "suppressed_reclaim",
        "suppressed_batch",
        "suppressed_pass",
        "unmatched_begin",
        "unmatched_end",
        "table_full_rows",
        "table_full_threads",
        "pair_seen_once",
        "under_way",
        "table_full_shrinkers",
    ),
}
CONSTANTS = {
    "COMM_BYTES": 16,
    "NODE_UNKNOWN": -1,
    "PRIORITY_UNKNOWN": 255,
    "PRIORITIES": 13,
    "ORDERS": 11,
    "STALL_SHIFT_MIN": 8,
    "STALL_BUCKETS": 128,
    "EPOCHS": 2,
    "PATHS": 7,
    "ROW_STATES": 3,
    "RECORD_KINDS": 3,
    "THROTTLE_REASONS": 4,
    "STATS": 13,
    "SHRINKERS": 256,
}
ROW = """
u64 events              0   private   count  -
u64 start_ns            0   key       ns     -
u64 cgroup_id           0   key       id     -
u64 target_id           0   key       id     targets
u64 open_since_ns       0   private   ns     -
u64 open_began_ns       0   private   ns     -
u64 open_runtime_ns     0   private   ns     -
u64 high_since_ns       0   private   ns     -
u64 pending_pages       0   private   pages  -
u64 reclaims            0   sum       count  brackets
u64 reclaims_futile     0   sum       count  brackets
u64 asked_pages         0   sum       pages  brackets
u64 reported_pages      0   sum       pages  brackets
u64 scanned_file_pages  0   sum       pages  scans
u64 scanned_anon_pages  0   sum       pages  scans
u64 reclaimed_file_pages 0  sum       pages  batches
u64 reclaimed_anon_pages 0  sum       pages  batches
u64 stall_ns            0   sum       ns     brackets
u64 cpu_ns              0   sum       ns     cpu
u64 batches             0   sum       count  batches
u64 dirty_pages         0   sum       pages  batches
u64 writeback_pages     0   sum       pages  batches
u64 immediate_pages     0   sum       pages  batches
u64 activated_pages     0   sum       pages  batches
u64 referenced_pages    0   sum       pages  batches
u64 unmap_failed_pages  0   sum       pages  batches
u64 active_batches      0   sum       count  active
u64 active_taken_pages  0   sum       pages  active
u64 deactivated_pages   0   sum       pages  active
u64 written_pages       0   sum       pages  writes
u64 shrinker_calls      0   sum       count  shrinkers
u64 shrinker_ns         0   sum       ns     shrinkers
u64 shrinker_objects    0   sum       count  shrinkers
u64 high_sleep_ns       0   sum       ns     high
u64 kswapd_wakeups      0   sum       count  wakeups
u64 passes              0   sum       count  passes
u64 passes_futile       0   sum       count  passes
u64 pass_ns             0   sum       ns     passes
u64 pass_reclaimed_pages 0  sum       pages  passes
u64 throttled           4   histogram count  throttling
u64 throttled_ns        4   histogram ns     throttling
u64 stall_max_ns        2   max       ns     brackets
u64 reclaimed_max_pages 2   max       pages  brackets
u32 priority_histogram  13  histogram count  batches
u32 pass_histogram      13  histogram count  passes
u32 order_histogram     11  histogram count  brackets
u32 stall_histogram     128 histogram count  brackets
u32 gfp_flags           0   latest    flags  brackets
u32 state               0   private   id     -
u32 next                0   private   id     -
u32 tgid                0   key       id     -
u32 tid                 0   key       id     -
u32 path                0   key       id     -
s32 node                0   key       id     -
s32 cpu_node            0   key       id     -
char comm               16  key       text   -
"""
RECORD = """
u64 time_ns         0  ns
u64 duration_ns     0  ns
u64 cgroup_id       0  id
u64 asked_pages     0  pages
u64 scanned_pages   0  pages
u64 reclaimed_pages 0  pages
u32 kind            0  id
u32 cpu             0  id
u32 tgid            0  id
u32 tid             0  id
u32 path            0  id
s32 node            0  id
u32 priority        0  number
u32 order           0  number
u32 gfp_flags       0  flags
u32 file            0  number
char comm           16 text
"""
CONTROL = """
u64 epoch   0 number
u64 lru_gen 0 number
u64 detail  0 flags
u64 quota   0 count
"""
SHRINKER_WORK = """
u64 function    0 id
u64 calls       0 count
u64 objects     0 count
u64 shrinker_ns 0 ns
"""
READERS = {
    "lost_": ("mmwatch/session/observer.py", 'f"lost_{kind}"'),
    "suppressed_": ("mmwatch/session/observer.py", 'f"suppressed_{kind}"'),
    "unmatched_begin": ("mmwatch/session/observer.py", '"unmatched_begin"'),
    "unmatched_end": ("mmwatch/session/observer.py", '"unmatched_end"'),
    "under_way": ("mmwatch/session/observer.py", '"under_way"'),
    "table_full_": ("mmwatch/session/observer.py", 'f"table_full_{of}"'),
    "pair_seen_once": ("mmwatch/kernel/tracer.py", '"pair_seen_once"'),
}
"""Where each statistic is read, and its name there. Those that exist per record kind are given by their prefix."""
KEYS_WITH_NEED = ("target_id",)
"""Keys that not every kernel tells."""
SIZES = {"u64": 8, "u32": 4, "s32": 4, "char": 1}


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.strip().splitlines()]


def of_row(member: Member) -> list[str]:
    fold = member.fold.value if member.fold else "none"
    return [member.type, member.name, str(member.length), fold, member.unit, member.need or "-"]


def of_record(member: Member) -> list[str]:
    return [member.type, member.name, str(member.length), member.unit]


def pinned(found: Abi) -> list[str]:
    """Differences from what is pinned here."""
    problems = [f"enum {name}: {found.names(name)}" for name, names in ENUMS.items() if found.names(name) != names]
    problems += [f"enum {name} is not pinned" for name in found.enums.keys() - ENUMS]
    changed = dict(found.constants.items() ^ CONSTANTS.items())
    problems += [f"constant {name}: {found.constants.get(name)}, not {CONSTANTS.get(name)}" for name in changed]
    others = {"record": RECORD, "control": CONTROL, "shrinker_work": SHRINKER_WORK}
    for name, text, form in (("row", ROW, of_row), *((*one, of_record) for one in others.items())):
        now = [form(member) for member in found.structs[name]]
        problems += [f"struct {name}: {a} became {b}" for a, b in itertools.zip_longest(lines(text), now) if a != b]
    return problems


def sides(found: Abi) -> list[str]:
    """Differences from the modules of user space, which read the real file."""
    problems = [
        f"{module.__name__}.{name} is {getattr(module, name)}"
        for module in (abi, measures)
        for name, value in found.constants.items()
        if isinstance(getattr(module, name, value), int) and getattr(module, name, value) != value
    ]
    enums = {"PATHS": "reclaim_path", "THROTTLE_REASONS": "throttle_reason"}
    problems += [
        f"measures.{name} is {getattr(measures, name)}"
        for name, enum in enums.items()
        if getattr(measures, name) != found.names(enum)
    ]
    figures = [(m.name, m.help, m.fold, m.unit) for m in found.structs["row"] if m.fold in abi.MEASURED]
    if figures != [(m.name, m.help, m.fold, m.unit) for m in measures.MEASURES]:
        problems.append("measures.MEASURES has other members")
    return problems


def needs(found: Abi) -> list[str]:
    """Members and needs that do not match."""
    names = {need.name for need in NEEDS}
    told = {member.need for member in found.structs["row"] if figure(member) or member.need}
    problems = [f"the need {need or 'none'} of a measure is not known" for need in told - names - {"brackets"}]
    mute = (m for m in found.structs["row"] if not figure(m) and m.name not in KEYS_WITH_NEED)
    problems += [f"{m.name} is no measure and has a need" for m in mute if m.need]
    silent = names - set(BRACKETS) - set(NO_MEASURE)
    problems += [f"no measure is told by {need}" for need in silent - told]
    problems += [f"{need} tells measures" for need in told & {*BRACKETS, *NO_MEASURE}]
    return problems


def figure(member: Member) -> bool:
    return member.fold in abi.MEASURED


def units(found: Abi) -> list[str]:
    """Names that do not end in their unit."""
    return [
        f"{struct}.{member.name} is in {member.unit}"
        for struct, members in found.structs.items()
        for member in members
        for unit in ("ns", "pages")
        if (member.unit == unit) != member.name.endswith(f"_{unit}")
    ]


def layout(found: Abi) -> list[str]:
    """Members that are not widest first, arrays that are not rounded up, and structs that a compiler would pad."""
    problems = []
    for name, members in found.structs.items():
        widths = [SIZES[member.type] for member in members]
        if widths != sorted(widths, reverse=True):
            problems.append(f"struct {name} is not widest first")
        if sum(width * max(member.slots, 1) for width, member in zip(widths, members)) % 8:
            problems.append(f"struct {name} would be padded")
        problems += [
            f"{name}.{m.name} has {m.slots} slots" for m in members if m.slots & (m.slots - 1) or m.slots < m.length
        ]
        problems += [f"{name}.{m.name} has no help" for m in members if not m.help]
        problems += [
            f"{name}.{m.name} is a {m.fold.value} of {m.length}"
            for m in members
            if (m.fold is not None and bool(m.length) != (m.fold in (Fold.HISTOGRAM, Fold.MAX) or m.type == "char"))
            or (m.fold is Fold.MAX and m.length != found.constants["EPOCHS"])
        ]
    return problems


def statistics(found: Abi) -> list[str]:
    """Statistics that nothing reads, or that a record kind lacks."""
    problems = []
    for stat in found.names("stat"):
        reader = next((reader for name, reader in READERS.items() if stat.startswith(name)), None)
        if reader is None or reader[1] not in (ROOT / reader[0]).read_text():
            problems.append(f"nobody reads the statistic {stat}")
    kinds = found.names("record_kind")
    for place, what in enumerate(("lost", "suppressed")):
        now = found.names("stat")[place * len(kinds) : (place + 1) * len(kinds)]
        if now != tuple(f"{what}_{kind}" for kind in kinds):
            problems.append(f"{what} is not told by kind, in the order of the kinds: {now}")
    return problems


CHECKS: tuple[Callable[[Abi], list[str]], ...] = (pinned, sides, needs, units, layout, statistics)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_declaration_is_as_it_should_be(check: Callable[[Abi], list[str]]) -> None:
    assert check(parse(TEXT)) == []


def swapped(one: str, other: str) -> Callable[[str], str]:
    """A change that swaps two entries of a list."""

    def mutate(text: str) -> str:
        first, second = (next(entry for entry in entries(text) if f"X({name}," in entry) for name in (one, other))
        return text.replace(first, "@").replace(second, first).replace("@", second)

    return mutate


def entries(text: str) -> list[str]:
    """Each ``X(…)`` of the text, verbatim."""
    return re.findall(r'X\([^"\n]*(?:\\\n[^"\n]*)?"[^"]*"\)', text)


def without(part: str) -> Callable[[str], str]:
    """A change that removes the entry that contains ``part``."""

    def mutate(text: str) -> str:
        (entry,) = (entry for entry in entries(text) if part in entry)
        return text.replace(f"\t{entry} \\\n", "")

    return mutate


def put(old: str, new: str) -> Callable[[str], str]:
    """A change that replaces ``old`` with ``new``."""

    def mutate(text: str) -> str:
        assert text.count(old) == 1, f"{old} occurs {text.count(old)} times"
        return text.replace(old, new)

    return mutate


MUTATIONS: dict[str, tuple[Callable[[str], str], Callable[[Abi], list[str]]]] = {
    "two paths swapped": (swapped("PATH_DIRECT", "PATH_MEMCG"), pinned),
    "a kind out of order": (swapped("RECORD_RECLAIM", "RECORD_BATCH"), pinned),
    "a kind out of order, its statistics are not": (swapped("RECORD_RECLAIM", "RECORD_BATCH"), statistics),
    "a row state out of order": (swapped("ROW_FREE", "ROW_LIVE"), pinned),
    "a throttle reason out of order": (swapped("THROTTLE_WRITEBACK", "THROTTLE_ISOLATED"), pinned),
    "a member deleted": (without("X(u64, dirty_pages,"), pinned),
    "a member deleted, the model is older": (without("X(u64, dirty_pages,"), sides),
    "a member renamed": (put("X(u64, dirty_pages,", "X(u64, soiled_pages,"), pinned),
    "members swapped": (swapped("u64, reclaims", "u64, reclaims_futile"), pinned),
    "a member of the record deleted": (without('X(u32, cpu, , id, "'), pinned),
    "another type": (put("X(s32, cpu_node,", "X(u32, cpu_node,"), pinned),
    "another fold": (put("gfp_flags, , LATEST", "gfp_flags, , SUM"), pinned),
    "a statistic inserted": (
        put("\tX(STAT_UNMATCHED_BEGIN", '\tX(STAT_NEW, "new") \\\n\tX(STAT_UNMATCHED_BEGIN'),
        pinned,
    ),
    "a statistic nobody reads": (
        put("\tX(STAT_UNMATCHED_BEGIN", '\tX(STAT_NEW, "new") \\\n\tX(STAT_UNMATCHED_BEGIN'),
        statistics,
    ),
    "a constant changed": (put("#define PRIORITIES 13", "#define PRIORITIES 12"), pinned),
    "a constant changed on one side only": (put("#define ORDERS 11", "#define ORDERS 12"), sides),
    "a path changed on one side only": (swapped("PATH_DIRECT", "PATH_MEMCG"), sides),
    "a measure without a need": (
        put("written_pages, , SUM, pages, writes,", "written_pages, , SUM, pages, none,"),
        needs,
    ),
    "a need that is not known": (
        put("written_pages, , SUM, pages, writes,", "written_pages, , SUM, pages, wrote,"),
        needs,
    ),
    "a need without a measure": (without("X(u64, written_pages,"), needs),
    "a path's bracket as a need": (
        put("reclaims_futile, , SUM, count, brackets", "reclaims_futile, , SUM, count, node"),
        needs,
    ),
    "a key with a need": (put("tgid, , KEY, id, none", "tgid, , KEY, id, batches"), needs),
    "pages that are not named so": (put("X(u64, dirty_pages,", "X(u64, dirty,"), units),
    "time that is not in ns": (put("shrinker_ns, , SUM, ns,", "shrinker_ns, , SUM, count,"), units),
    "a narrow member among the wide": (put("X(u64, batches, ,", "X(u32, batches, ,"), layout),
    "a struct with a hole at its end": (
        put('X(u32, cpu, , id, "', 'X(u32, hole, , id, "x") \\\n\tX(u32, cpu, , id, "'),
        layout,
    ),
    "an array that is not rounded up": (put("order_histogram, [SLOTS(ORDERS)]", "order_histogram, [ORDERS]"), layout),
    "a maximum of one slot": (put("stall_max_ns, [EPOCHS]", "stall_max_ns, "), layout),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_mistake_is_found(name: str) -> None:
    mutate, check = MUTATIONS[name]
    text = mutate(TEXT)
    assert text != TEXT
    assert check(parse(text)) != []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("#define ORDERS 11", "#define ORDERS (10 + 1)"),
        ("#define ORDERS 11", "#define ORDERS 11\n#define ORDERS 11"),
        ("#define ORDERS 11", "#define ORDERS"),
        ("enum stat {", "enum statistic {"),
        ("PATH_LIST(ENUMERATOR) PATHS", "PATH_LIST(ENUMERATOR) PATH_MORE, PATHS"),
        ("enum reclaim_path { PATH_LIST(ENUMERATOR) PATHS };", "enum reclaim_path { PATH_OTHER, PATHS };"),
        ("struct row { ROW_LIST(ROW_MEMBER) };", "struct row { ROW_LIST(ROW_MEMBER) u64 more; };"),
        ("X(u32, tid, , KEY, id, none,", "X(u32, tid, , KEY, id,"),
        ("X(u32, tid, , KEY, id, none,", "X(u32, tgid, , KEY, id, none,"),
        ("X(u32, tid, , KEY, id, none,", "X(u16, tid, , KEY, id, none,"),
        ("X(u32, tid, , KEY, id, none,", "X(u32, tid, , KEYS, id, none,"),
        ("X(u32, tid, , KEY, id, none,", "X(u32, tid, , KEY, furlongs, none,"),
        ("X(u32, tid, , KEY, id, none,", "X(u32, tid, [2 * ORDERS], KEY, id, none,"),
        ("X(u32, tid, , KEY, id, none,", "Y(u32, tid, , KEY, id, none,"),
        ('"thread ID; 0 likewise"', '"thread ID" "likewise"'),
        ('"thread ID; 0 likewise"', '"thread \\n ID"'),
        ("X(PATH_MEMCG,", "X(MEMCG,"),
        ("struct stats { u64 count[SLOTS(STATS)]; };", "struct stats { u64 count[STATS]; };"),
        ("#endif", "typedef int more;\n#endif"),
        ("(n) <= 8 ? 8 :", "(n) <= 8 ? 16 :"),
        ("#define STALL_BUCKETS 128", "#define STALL_BUCKETS 256"),
        ("SLOTS(ORDERS)", "SLOTS(ORDER)"),
    ],
)
def test_what_is_not_understood_is_refused(old: str, new: str) -> None:
    with pytest.raises(ValueError, match=r"^bpf/abi\.h: "):
        parse(put(old, new)(TEXT))


def test_events_and_functions_serve_declared_needs() -> None:
    names = {need.name for need in NEEDS}
    served = {event.need for event in EVENTS} | {function.need for function in FUNCTIONS}
    assert served | {"cpu", "targets"} == names, "brackets read CPU time; events and passes tell targets"
    assert {*BRACKETS, *NO_MEASURE} < names
