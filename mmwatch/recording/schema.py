"""The tables of a recording, declared once: SQL, the reader's queries and man/mmwatch-recording.5 follow from it.

``user_version`` is :data:`VERSION`. A reader takes all versions up to its own: it uses the columns and tables it knows,
and treats what a file lacks as unknown. Version 2 added begins of intervals, edges of scanned pages, CPU time, the
memory of cgroups, reasons of throttling, and views. Version 3 added what a diagnosis needs: targets, reclaims under
way, the host's memory and topology, shrinkers, more about nodes, counters of cgroups, waits and placement of processes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from mmwatch.abi import RECORD, ROW, Member
from mmwatch.model.interval import Node
from mmwatch.model.measures import MEASURES, NODE_UNKNOWN, PRIORITY_UNKNOWN, Fold, Measure

APPLICATION_ID = 0x6D6D7721
"""``mmw!`` at offset 68 of the file distinguishes a recording from other SQLite files."""
VERSION = 3

NULL_FOR = {"node": NODE_UNKNOWN, "cpu_node": NODE_UNKNOWN, "priority": PRIORITY_UNKNOWN, "asked_pages": 0}
"""Means *unknown* in arrays. The file has NULL instead, so that a query does not sum it or mistake it for 0."""


@dataclass(frozen=True)
class Column:
    """A column.

    :param help: for the manual and for the comments that ``.schema`` shows; says what NULL means.
    """

    name: str
    type: str
    help: str


@dataclass(frozen=True)
class Table:
    """A table.

    :param key: columns of the primary key, if it is not the first column.
    """

    name: str
    help: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The columns of its primary key, wherever that is declared; empty if it has none."""
        return self.key or tuple(column.name for column in self.columns if column.type.endswith("PRIMARY KEY"))

    @property
    def sql(self) -> str:
        """Its CREATE TABLE statement, with the help as comments."""
        ends = [","] * (len(self.columns) - (not self.key)) + [""] * (not self.key)
        lines = [f'  "{column.name}" {column.type}{end} -- {column.help}' for column, end in zip(self.columns, ends)]
        tail = ") WITHOUT ROWID" if self.key else ")"
        if self.key:
            lines.append("  PRIMARY KEY (" + ", ".join(f'"{name}"' for name in self.key) + ")")
        return "\n".join([f'CREATE TABLE "{self.name}" ( -- {self.help}', *lines, tail])


def _integers(**columns: str) -> tuple[Column, ...]:
    return tuple(Column(name, "INTEGER", text) for name, text in columns.items())


def _measure(measure: Measure) -> Column:
    if measure.fold is Fold.HISTOGRAM:
        return Column(measure.name, "TEXT", f'{measure.help}: JSON such as {{"0": 5}}; NULL if unknown')
    return Column(measure.name, "INTEGER", f"{measure.help}; NULL if unknown")


_SEE = {
    "kind": "see table kinds",
    "path": "see table paths",
    "cgroup_id": "see table cgroups; 0 if unknown",
    "target_id": "see table cgroups: the one whose limit binds; 0: the whole host or a node, or unknown",
}


def _member(member: Member) -> Column:
    """The column of an identity field or of a member of ``struct record``."""
    text = _SEE.get(member.name, member.help)
    if member.type == "char":
        return Column(member.name, "TEXT", f"{text}, control characters written as \\xNN")
    if member.name in NULL_FOR:
        told = "unknown" in text
        text = text.replace("unknown (0)", "NULL").replace("unknown", "NULL") if told else f"{text}; NULL if unknown"
    return Column(member.name, "INTEGER", text)


TABLES = (
    Table(
        "session",
        "the whole recording, in one row",
        (
            Column("start_s", "REAL", "Unix time of the start"),
            Column("start_monotonic_ns", "INTEGER", "CLOCK_MONOTONIC at that time, to convert records.time_ns"),
            Column("end_s", "REAL", "Unix time of the end; NULL while it is being written, or if it was cut off"),
            Column("kernel", "TEXT", "release of the kernel"),
            Column("hostname", "TEXT", "name of the host"),
            Column("version", "TEXT", "version of mmwatch"),
            Column("page_size", "INTEGER", "bytes per page"),
            Column("interval_s", "REAL", "requested length of an interval, seconds"),
            Column("incomparable", "TEXT", "why the sums cannot be compared with vmstat; empty if they can"),
            Column("filter", "TEXT", "the filter, JSON object: pid, children, cgroup, comm; {} without one"),
            Column("settings", "TEXT", "sysctls and switches at the start, JSON object"),
            Column("gfp_flags", "TEXT", "bits of the gfp flags by name, as the kernel prints them, JSON object"),
            Column("unknown", "TEXT", "measures without a probe, JSON array; they are NULL in table rows"),
            Column("topology", "TEXT", "CPUs and distances of each NUMA node, JSON object by node"),
            Column("since_boot", "TEXT", "counters of /proc/vmstat at the start, JSON object"),
            Column("uptime_s", "REAL", "seconds since boot at the start"),
        ),
    ),
    Table(
        "probes",
        "the probes that were attached, one row per need",
        (
            Column("need", "TEXT", "what the probe is for"),
            Column("probe", "TEXT", "the probe chosen"),
            Column("state", "TEXT", "attached, degraded, missing or off"),
            Column("reason", "TEXT", "why"),
        ),
    ),
    Table(
        "paths",
        "the names of the paths into reclaim",
        (
            Column("path", "INTEGER PRIMARY KEY", "number used in tables rows and records"),
            Column("name", "TEXT", "direct, memcg, kswapd and so on"),
        ),
    ),
    Table(
        "throttle_reasons",
        "why a reclaiming task had to sleep: the keys of throttled and throttled_ns in table rows",
        (
            Column("reason", "INTEGER PRIMARY KEY", "the key"),
            Column("name", "TEXT", "the kernel's name: writeback, isolated, noprogress or congested"),
            Column("help", "TEXT", "what it means"),
        ),
    ),
    Table(
        "measures",
        "the measures among the columns of table rows",
        (
            Column("name", "TEXT PRIMARY KEY", "name of the column"),
            Column("fold", "TEXT", "how several rows become one: sum, max, histogram (sum by key), latest"),
            Column("help", "TEXT", "what it measures"),
            Column("used", "INTEGER", "1 once any row has a value other than 0"),
        ),
    ),
    Table(
        "kinds",
        "the kinds of single records",
        (
            Column("kind", "INTEGER PRIMARY KEY", "number used in table records"),
            Column("name", "TEXT", "reclaim, batch or pass"),
            Column("records", "INTEGER", "number of them in table records"),
        ),
    ),
    Table(
        "intervals",
        "one row per interval",
        (
            Column("interval", "INTEGER PRIMARY KEY", "counts from 1"),
            Column("begin_s", "REAL", "Unix time of the beginning: end_s less duration_ns"),
            Column("end_s", "REAL", "Unix time of the end"),
            *_integers(
                duration_ns="length by CLOCK_MONOTONIC, nanoseconds",
                edge_begin_pages="pages that vmstat counted while the rows were read at the beginning",
                edge_end_pages="the same at the end; as the sums are read at two instants, they may differ by both",
                edge_begin_scanned_pages="the same for scanned pages at the beginning",
                edge_end_scanned_pages="the same for scanned pages at the end",
                rows="number of its rows in table rows",
            ),
            Column("vmstat", "TEXT", "growth of each counter of /proc/vmstat, JSON object"),
            Column(
                "pressure",
                "TEXT",
                "memory pressure (PSI), JSON object: some_avg10, full_avg10 (percent), some_us, full_us; of I/O: "
                "io_some_us, io_full_us",
            ),
            Column("settings", "TEXT", "settings that differ from those at the start, JSON object"),
            Column("memory", "TEXT", "the host's memory at the end, from /proc/meminfo, bytes by kind, JSON object"),
            Column("kernel_log", "TEXT", "lines of the kernel's log about caches dropped and OOM kills, JSON array"),
            Column("kswapd", "TEXT", "state of each node's kswapd: running, sleeping or gave up, JSON object"),
            Column(
                "inside",
                "TEXT",
                "reclaims under way at the end, JSON array of objects: tgid, tid, comm, path, node, age_ns",
            ),
            Column(
                "shrinkers",
                "TEXT",
                "slab shrinkers that were called, JSON array of objects: name (empty: unknown), calls, objects (they "
                "freed), shrinker_ns",
            ),
            Column("lost", "TEXT", "single records dropped because the ring buffer was full, JSON object by kind"),
            Column("suppressed", "TEXT", "single records over the rate limit, JSON object by kind"),
            *_integers(
                missed_runs="BPF program runs the kernel skipped; NULL if it does not count them",
                unmatched_begin="reclaims whose end was not seen",
                unmatched_end="reclaims whose begin was not seen; in schema 1 also those under way at the start",
                under_way="reclaims that were under way when mmwatch started: only their ends were seen",
                table_full="events that found a table full: counted, but not attributed",
                cost_cpu_ns="CPU time that mmwatch itself used, nanoseconds",
                cost_rss_bytes="resident memory of mmwatch",
                cost_table_rows="rows in use in the kernel's row table",
                cost_table_size="size of that table, in rows",
            ),
        ),
    ),
    Table(
        "rows",
        "the reclaim of each thread by each path on each node in an interval",
        (
            *_integers(interval="see table intervals", row="counts from 0 in each interval"),
            *(_member(member) for member in ROW if member.fold is Fold.KEY),
            *map(_measure, MEASURES),
        ),
        ("interval", "row"),
    ),
    Table(
        "nodes",
        "NUMA nodes at the end of each interval, in pages; NULL if the kernel does not say",
        (
            *_integers(
                interval="see table intervals",
                node="number of the node",
                free_pages="free",
                min_pages="the min watermark: below it, tasks must reclaim pages themselves",
                low_pages="the low watermark: below it, the allocator wakes kswapd",
                high_pages="the high watermark: above it, kswapd sleeps",
                managed_pages="all pages that the page allocator manages",
                file_pages="page cache",
                anon_pages="anonymous memory",
                boost_pages="watermark boost: the watermarks above include it",
                inactive_file_pages="page cache on the inactive list",
                mapped_pages="page cache that is mapped into processes",
                dirty_pages="page cache that is dirty",
                writeback_pages="page cache under writeback",
                unevictable_pages="locked in memory",
                slab_reclaimable_pages="slab that shrinkers may free",
                slab_unreclaimable_pages="other slab",
                free_movable_pages="free in the Movable zone",
                free_cma_pages="free in areas of the contiguous memory allocator",
                free_reserved_pages="free in low zones, but kept for allocations that can use no higher one",
            ),
        ),
        ("interval", "node"),
    ),
    Table(
        "cgroups",
        "latest known paths of memory cgroups",
        (
            Column("cgroup_id", "INTEGER PRIMARY KEY", "number used in tables rows and records"),
            Column("path", "TEXT", "path from the root of the hierarchy"),
        ),
    ),
    Table(
        "cgroup_memory",
        "the cgroups with the most reclaim, and those above them, at the end of each interval",
        (
            *_integers(
                interval="see table intervals",
                cgroup_id="see table cgroups",
                limit_bytes="memory.max, or memory.limit_in_bytes; NULL: no limit",
                high_bytes="memory.high; NULL: no limit, or version 1",
                usage_bytes="memory used by it and all cgroups below it",
                limit_hits="how often the limit was hit since the cgroup was made; NULL if unknown",
            ),
            Column("grown", "TEXT", "growth of its counters in the interval, JSON object; empty if not read"),
            Column("levels", "TEXT", "what its memory is used for, bytes by kind, JSON object; empty if not read"),
        ),
        ("interval", "cgroup_id"),
    ),
    Table(
        "processes",
        "the processes; another row if a process changes its name (exec)",
        (
            Column("process", "INTEGER PRIMARY KEY", "number used in table process_times; grows with time"),
            *_integers(tgid="process ID", ppid="parent's process ID; NULL if unknown"),
            Column("comm", "TEXT", "name"),
            Column("cmdline", "TEXT", "command line; empty if unknown"),
        ),
    ),
    Table(
        "process_times",
        "the kernel's own figures for a process in an interval",
        (
            *_integers(
                interval="see table intervals",
                process="see table processes",
                system_time_us="system CPU time used, microseconds; NULL if it could not be read",
                freepages_delay_ns="delay accounting of direct reclaim, nanoseconds; NULL if it is off",
                user_time_us="user CPU time; this and what follows only for those with the most reclaim",
                thrashing_delay_ns="delay accounting of waits for page cache that was reclaimed a short time ago",
                swapin_delay_ns="delay accounting of waits for swap",
                blkio_delay_ns="delay accounting of waits for block I/O, the two above included",
                major_faults="page faults that waited for I/O",
            ),
            Column("mems_allowed", "TEXT", "the nodes that its cpuset allows; empty if unknown"),
            Column("mempolicy", "TEXT", "its memory policies, from numa_maps; empty if unknown"),
        ),
        ("interval", "process"),
    ),
    Table(
        "records",
        "single reclaims, batches and passes, as --detail requested",
        (
            Column("record", "INTEGER PRIMARY KEY", "numbered in the order of arrival"),
            *map(_member, RECORD),
        ),
    ),
)

BY_NAME = {table.name: table for table in TABLES}

PROCESS_TIMES = tuple(column.name for column in BY_NAME["process_times"].columns if column.type == "INTEGER")[2:]
"""Figures of a :class:`mmwatch.model.interval.Process` that grow."""


@dataclass(frozen=True)
class View:
    """A query for a usual question. mmwatch itself does not read it."""

    name: str
    help: str
    select: str

    @property
    def sql(self) -> str:
        """Its CREATE VIEW statement."""
        return f'CREATE VIEW "{self.name}" AS -- {self.help}\n{self.select}'


_WHEN = "interval, begin_s, end_s"
_FIGURES = """sum(reclaims) AS reclaims, sum(reclaimed_file_pages + reclaimed_anon_pages) AS reclaimed_pages,
  sum(scanned_file_pages + scanned_anon_pages) AS scanned_pages, sum(stall_ns) / 1e9 AS stall_s,
  sum(cpu_ns) / 1e9 AS cpu_s, max(stall_max_ns) / 1e9 AS longest_s"""
VMSTAT_COLUMNS = (
    *(f"pg{what}_{of}" for what in ("scan", "steal") for of in ("anon", "file", "kswapd", "direct")),
    *("zone_reclaim_success", "zone_reclaim_failed", "workingset_refault_anon", "workingset_refault_file"),
    *("pswpin", "pswpout", "pgmajfault", "oom_kill"),
)
"""The counters of /proc/vmstat that have a column in view ``vmstat``."""


def _view(name: str, help_text: str, **who: str) -> View:
    """What somebody did by each path in an interval; ``who`` has an expression by name of its column."""
    who["path"] = "paths.name"
    columns = ", ".join(f"{expression} AS {name}" for name, expression in who.items())
    return View(
        name,
        help_text,
        f"SELECT {_WHEN}, {columns},\n  {_FIGURES}\n"
        "FROM rows JOIN intervals USING (interval) LEFT JOIN paths USING (path) LEFT JOIN cgroups USING (cgroup_id)\n"
        f"GROUP BY interval, {', '.join(who.values())}",
    )


VIEWS = (
    _view(
        "by_task",
        "what each process did by each path in an interval",
        tgid="tgid",
        comm="rows.comm",
        cgroup="cgroups.path",
    ),
    _view("by_cgroup", "what the tasks of each cgroup did by each path in an interval", cgroup="cgroups.path"),
    _view("by_node", "what was reclaimed from each node by each path in an interval", node="node"),
    View(
        "vmstat",
        "growth of the most wanted counters of /proc/vmstat in an interval; NULL: the kernel has no such counter",
        f"SELECT {_WHEN},\n  "
        + ",\n  ".join(f"json_extract(vmstat, '$.{name}') AS {name}" for name in VMSTAT_COLUMNS)
        + "\nFROM intervals",
    ),
)


def _check() -> None:
    """Fail at import, not in the middle of a recording, if a member declared elsewhere has no column."""
    names = {table.name: [column.name for column in table.columns] for table in TABLES}
    assert names["nodes"][1:] == [field.name for field in fields(Node)]


_check()
