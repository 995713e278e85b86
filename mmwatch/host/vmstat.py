"""/proc/vmstat: the kernel's own counts of scans, steals and stalls since boot, over all tasks."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from pathlib import Path

from mmwatch.host._files import ROOT, KeptFile, read_text

#: The counters mmwatch reads, as shell patterns: names differ by kernel (4.4 counts per zone, pgsteal_kswapd_normal;
#: pgsteal_anon is 5.8+, pgsteal_khugepaged 6.2+, zone_reclaim_success 6.12+, pgsteal_proactive 6.15+ or 6.17+), so
#: what the kernel does not have is missing from the result, not 0. All of these only grow.
COUNTERS = (
    "pgscan_*",
    "pgsteal_*",
    "pgdemote_*",
    "pgrefill*",
    "allocstall*",
    "zone_reclaim_*",
    "pageoutrun",
    "kswapd_*",
    "slabs_scanned",
    "pginodesteal",
    "pswpin",
    "pswpout",
    "nr_vmscan_write",
    "nr_vmscan_immediate_reclaim",
    "workingset_refault*",
    "workingset_activate*",
    "compact_stall",
    "compact_fail",
    "compact_success",
    "drop_pagecache",
    "drop_slab",
    "oom_kill",
    "pgmajfault",
    "pgpgin",
    "thp_fault_alloc",
    "thp_fault_fallback",
    "numa_foreign",
)


class Vmstat:
    """Reads the counters that match :data:`COUNTERS`, and keeps one fd open.

    :raises UnavailableError: there is no /proc/vmstat.
    """

    def __init__(self, root: Path = ROOT, counters: tuple[str, ...] = COUNTERS) -> None:
        self._root = root
        self._patterns = counters
        self._file = KeptFile(root / "proc/vmstat")
        # The order of the lines does not change while a kernel runs, so after the first read a counter is an index.
        self._words = 0
        self._raw_names: list[bytes] = []
        self._name_at: list[int] = []
        self._value_at: list[int] = []
        self.names: tuple[str, ...] = ()
        self.counters_are_node_stats = _counters_are_node_stats(root)
        """True: pgscan_* and pgsteal_* are node statistics (kernel commit "mm: move pgscan and pgsteal to node stats",
        7.1). They include memcg reclaim, and up to 125 pages per CPU and node are missing from /proc/vmstat until they
        are folded, so call :meth:`refresh` first. False: they are VM events, exact while the system is quiet, and
        pgscan_/pgsteal_{kswapd,direct,...} leave out memcg reclaim. None: could not find out."""
        self.unfolded_pages = _unfolded_pages(root) if self.counters_are_node_stats else 0
        """So many pages scanned, and as many reclaimed, may be missing from :meth:`read`: they are not folded."""

    def read(self) -> dict[str, int]:
        """Counter name -> count since boot (pages or events), in the order of the file."""
        words = self._file.read().split()
        if len(words) != self._words or [words[i] for i in self._name_at] != self._raw_names:
            self._learn(words)
        try:
            return dict(zip(self.names, [int(words[i]) for i in self._value_at]))
        except ValueError:  # what is no number is not known
            return {name: int(words[i]) for name, i in zip(self.names, self._value_at) if words[i].isdigit()}

    def refresh(self) -> bool:
        """Fold the per-CPU remainders of node statistics, if an exact :meth:`read` needs it.

        This wakes every CPU (/proc/sys/vm/stat_refresh), so use it at both ends of a window, not in every interval.

        :return: False if it was needed (or might be) and the kernel refused; it needs root.
        """
        if self.counters_are_node_stats is False:
            return True
        try:
            fd = os.open(self._root / "proc/sys/vm/stat_refresh", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            os.read(fd, 1)
        except OSError:  # EINVAL: a statistic was negative; it was folded anyway
            pass
        finally:
            os.close(fd)
        return True

    def close(self) -> None:
        self._file.close()

    def _learn(self, words: list[bytes]) -> None:
        self._name_at = [
            i
            for i in range(0, len(words) - 1, 2)
            if any(fnmatchcase(words[i].decode("utf-8", "replace"), pattern) for pattern in self._patterns)
        ]
        self._value_at = [i + 1 for i in self._name_at]
        self._raw_names = [words[i] for i in self._name_at]
        self.names = tuple(name.decode("utf-8", "replace") for name in self._raw_names)
        self._words = len(words)


def _unfolded_pages(root: Path) -> int:
    """Each CPU may hold back up to a node's threshold, the largest of its zones (kernel: refresh_zone_stat_thresholds,
    mm/vmstat.c), in each of the two counters, of file and of anonymous pages."""
    total = 0
    for zone in (read_text(root / "proc/zoneinfo") or "").split("\nNode "):
        total = max(total, sum(map(int, re.findall(r"vm stats threshold: ([0-9]+)", zone))))
    nodes = len(list(root.glob("sys/devices/system/node/node[0-9]*"))) or 1
    return 2 * nodes * total


def _counters_are_node_stats(root: Path) -> bool | None:
    """Whether the kernel prints pgsteal_anon per node. Its release cannot show that, because distributions backport."""
    files = [*sorted(root.glob("sys/devices/system/node/node[0-9]*/vmstat"))[:1], root / "proc/zoneinfo"]
    texts = [text for text in map(read_text, files) if text]
    return any("pgsteal_anon" in text for text in texts) if texts else None
