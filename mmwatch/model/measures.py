"""What is measured per row, declared once: the name (the C member's), the unit, how rows fold into one.

Columns, recordings and JSON derive from this list; the C layout (``bpf/records.h``) has a member for each, which a
contract test holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Fold(Enum):
    """How several rows, or several intervals of one, become one."""

    SUM = "sum"
    MAX = "max"
    HISTOGRAM = "histogram"  # element by element sums
    LATEST = "latest"


@dataclass(frozen=True)
class Measure:
    """One figure of a row.

    :param name: as in ``bpf/records.h``, SQL and JSON.
    :param help: one line, for the manual and the schema's documentation.
    :param length: of the array, where it is one.
    :param json: shown in ``rows`` of the JSON output as it is.
    """

    name: str
    help: str
    fold: Fold = Fold.SUM
    length: int = 0
    json: bool = True


PRIORITIES = 13
"""Scan priorities, 0 to DEF_PRIORITY (12), include/linux/mmzone.h."""
ORDERS = 11
"""Allocation orders, 0 to MAX_PAGE_ORDER (10), include/linux/mmzone.h."""
THROTTLE_REASONS = ("writeback", "isolated", "noprogress", "congested")
"""enum vmscan_throttle_state, include/linux/mmzone.h (5.16 and later), in its order."""
STALL_BUCKETS = 128
STALL_SHIFT_MIN = 8

MEASURES: tuple[Measure, ...] = (
    Measure("reclaims", "reclaims that ended: begin to end brackets"),
    Measure("reclaims_futile", "of them, those that freed nothing"),
    Measure("asked_pages", "pages the callers needed; unknown for kswapd, whose target is a watermark"),
    Measure("reported_pages", "pages freed as the end of the bracket reports them: LRU pages and slab"),
    Measure("scanned_file_pages", "page cache pages looked at, as pgscan_file counts them"),
    Measure("scanned_anon_pages", "anonymous pages looked at, as pgscan_anon counts them"),
    Measure("reclaimed_file_pages", "page cache pages taken, as pgsteal_file counts them"),
    Measure("reclaimed_anon_pages", "anonymous pages taken, as pgsteal_anon counts them"),
    Measure("stall_ns", "time inside reclaim, begin to end, and of the one under way up to now"),
    Measure("batches", "batches of inactive pages"),
    Measure("dirty_pages", "pages of these batches that were dirty"),
    Measure("writeback_pages", "pages under writeback"),
    Measure("immediate_pages", "pages under writeback that reclaim met twice: it outruns the device"),
    Measure("activated_pages", "pages put back on the active list"),
    Measure("referenced_pages", "pages kept because they were referenced"),
    Measure("unmap_failed_pages", "pages that could not be unmapped"),
    Measure("active_batches", "batches of active pages"),
    Measure("active_taken_pages", "active pages looked at"),
    Measure("deactivated_pages", "active pages moved to the inactive list"),
    Measure("written_pages", "pages reclaim wrote to swap or file itself"),
    Measure("shrinker_calls", "calls of a slab shrinker"),
    Measure("shrinker_ns", "time in slab shrinkers"),
    Measure("shrinker_objects", "objects the shrinkers freed"),
    Measure("kswapd_wakeups", "kswapd woken by this task"),
    Measure("passes", "calls of shrink_node, each a rung of the priority ladder; told when their reclaim is over"),
    Measure("passes_futile", "of them, those that freed nothing"),
    Measure("pass_ns", "time of the passes: from one to the next, or to the end of the reclaim"),
    Measure("pass_reclaimed_pages", "pages the passes freed"),
    Measure("throttled", "sleeps in reclaim, by reason", Fold.HISTOGRAM, len(THROTTLE_REASONS)),
    Measure("throttled_ns", "time asleep in reclaim, by reason", Fold.HISTOGRAM, len(THROTTLE_REASONS)),
    Measure("stall_max_ns", "the longest reclaim", Fold.MAX),
    Measure("reclaimed_max_pages", "the most one reclaim freed", Fold.MAX),
    Measure("priority_histogram", "batches run at each scan priority", Fold.HISTOGRAM, PRIORITIES),
    Measure("pass_histogram", "passes at each scan priority", Fold.HISTOGRAM, PRIORITIES),
    Measure("order_histogram", "reclaims by allocation order", Fold.HISTOGRAM, ORDERS),
    Measure("stall_histogram", "reclaims by their time, four buckets an octave", Fold.HISTOGRAM, STALL_BUCKETS, False),
    Measure("gfp_flags", "gfp flags of the latest reclaim", Fold.LATEST),
)

BY_NAME = {measure.name: measure for measure in MEASURES}

PATHS = ("other", "direct", "memcg", "softlimit", "node", "kswapd", "proactive")
"""``enum reclaim_path`` of ``bpf/records.h``, in its order."""
PATH_HELP = {
    "direct": "an allocation found a node short of free memory and reclaims itself: kswapd was too slow",
    "memcg": "a memory cgroup is full, or above memory.high, and its task has to free pages itself",
    "softlimit": "inside another reclaim: a cgroup (version 1) above its soft limit is reclaimed first",
    "node": "zone_reclaim_mode: the task reclaims its own node before it takes memory of another",
    "kswapd": "in the background, until a node is back at its high watermark",
    "proactive": "asked for by hand or by an agent: memory.reclaim, or reclaim of a node",
    "other": "outside of any of these, or begun before mmwatch came",
}

GROUPING_NAMES = ("task", "thread", "node", "cgroup", "path")
"""What a row of a table may stand for; :data:`mmwatch.model.snapshot.GROUPINGS` says how. Here, so that the command
line can be read without numpy."""

NODE_UNKNOWN = -1
PRIORITY_UNKNOWN = 255
