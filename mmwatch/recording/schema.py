"""The tables of a recording, declared once: the SQL, the reader's queries and man/mmwatch-recording.5 follow from it.

``user_version`` is :data:`VERSION`. It changes when a file can no longer be read by an older mmwatch; a column or a
table more does not change it: a reader takes what it knows, and what a file lacks is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from mmwatch.abi import RECORD, RECORD_KINDS
from mmwatch.model.interval import Node
from mmwatch.model.measures import MEASURES, NODE_UNKNOWN, PRIORITY_UNKNOWN, Fold, Measure

APPLICATION_ID = 0x6D6D7721
"""``mmw!`` at offset 68 of the file, by which file(1) and we know a recording from any other SQLite file."""
VERSION = 1

KINDS = RECORD_KINDS
"""``enum record_kind`` of ``bpf/abi.h``, in its order."""

RECORD_DTYPE = np.dtype([(member.name, member.format) for member in RECORD])
"""Detail records as they are read back: the members of ``struct record``. What is written may be laid out otherwise."""

NULL_FOR = {"node": NODE_UNKNOWN, "cpu_node": NODE_UNKNOWN, "priority": PRIORITY_UNKNOWN, "asked_pages": 0}
"""What stands for *not known* in the arrays; in the file it is NULL, so that nobody adds it up or takes it for a 0."""


@dataclass(frozen=True)
class Column:
    """A column.

    :param help: for the manual and the comments that ``.schema`` shows; says what NULL means where it can be.
    """

    name: str
    type: str
    help: str


@dataclass(frozen=True)
class Table:
    """A table.

    :param key: columns of the primary key, where it is not the first column's.
    """

    name: str
    help: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()

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
        return Column(measure.name, "TEXT", f'{measure.help}: JSON such as {{"12": 5}}; NULL when not known')
    return Column(measure.name, "INTEGER", f"{measure.help}; NULL when not known")


_IDENTITY = (
    *_integers(
        tgid="process (thread group) ID; 0 where it is not known, or many share the row of a full table",
        tid="thread ID; likewise",
        path="of table paths",
        node="NUMA node the pages were taken from; NULL when not known",
        cgroup_id="of table cgroups; 0 when not known",
    ),
)
_COMM = Column("comm", "TEXT", "name of the task, control characters as \\xNN")

TABLES = (
    Table(
        "session",
        "one row: what holds for the whole recording",
        (
            Column("start_s", "REAL", "Unix time of its start"),
            Column("start_monotonic_ns", "INTEGER", "CLOCK_MONOTONIC at that time, to place records.time_ns"),
            Column("end_s", "REAL", "Unix time of its orderly end; NULL while it runs and when it was cut off"),
            Column("kernel", "TEXT", "release of the kernel"),
            Column("hostname", "TEXT", "name of the host"),
            Column("version", "TEXT", "of the mmwatch that recorded"),
            Column("page_size", "INTEGER", "bytes to a page"),
            Column("interval_s", "REAL", "length of an interval as asked for, seconds"),
            Column("incomparable", "TEXT", "why the sums cannot be held against vmstat; empty when they can"),
            Column("filter", "TEXT", "what was asked for, JSON object: pid, children, cgroup, comm; {} for everything"),
            Column("settings", "TEXT", "sysctls and switches at the start, JSON object"),
            Column("gfp_flags", "TEXT", "bits of gfp flags by name, as the kernel prints them, JSON object"),
            Column("unknown", "TEXT", "measures that had no probe, JSON array; they are NULL in table rows"),
        ),
    ),
    Table(
        "probes",
        "what was attached, a row for each need",
        (
            Column("need", "TEXT", "what is to be known"),
            Column("probe", "TEXT", "the probe chosen for it"),
            Column("state", "TEXT", "attached, degraded, missing or off"),
            Column("reason", "TEXT", "why"),
        ),
    ),
    Table(
        "paths",
        "the names of the ways into reclaim",
        (
            Column("path", "INTEGER PRIMARY KEY", "as in tables rows and records"),
            Column("name", "TEXT", "direct, memcg, kswapd and so on"),
        ),
    ),
    Table(
        "measures",
        "what the columns of table rows hold that are measured",
        (
            Column("name", "TEXT PRIMARY KEY", "of the column"),
            Column("fold", "TEXT", "how values of several rows become one: sum, max, histogram (sum by key), latest"),
            Column("help", "TEXT", "what it is"),
            Column("used", "INTEGER", "1 once any row has had another value than 0"),
        ),
    ),
    Table(
        "kinds",
        "the kinds of single records",
        (
            Column("kind", "INTEGER PRIMARY KEY", "as in table records"),
            Column("name", "TEXT", "reclaim, batch or pass"),
            Column("records", "INTEGER", "how many of them table records has"),
        ),
    ),
    Table(
        "intervals",
        "one row for each stretch of time",
        (
            Column("interval", "INTEGER PRIMARY KEY", "counts from 1"),
            Column("end_s", "REAL", "Unix time of its end"),
            *_integers(
                duration_ns="length by CLOCK_MONOTONIC, nanoseconds",
                edge_begin_pages="by how much vmstat's reclaimed pages grew while rows were read, at the beginning",
                edge_end_pages="the same at the end: by so much the two may differ, for they have no common instant",
                rows="how many rows table rows has of it",
            ),
            Column("vmstat", "TEXT", "by how much each counter of /proc/vmstat grew, JSON object"),
            Column(
                "pressure",
                "TEXT",
                "memory pressure (PSI), JSON object: some_avg10, full_avg10 (percent), some_us, full_us",
            ),
            Column("settings", "TEXT", "settings as read in this interval, JSON object"),
            Column("kswapd", "TEXT", "what the kswapd of each node was at: running, sleeping or gave up, JSON object"),
            Column("lost", "TEXT", "records dropped as the ring buffer was full, JSON object by kind"),
            Column("suppressed", "TEXT", "records over the rate limit, JSON object by kind"),
            *_integers(
                missed_runs="program runs the kernel skipped; NULL when it does not tell",
                unmatched_begin="reclaims whose end was not seen",
                unmatched_end="reclaims whose begin was not seen",
                table_full="events that found no row of their own: counted, but not attributed",
                cost_cpu_ns="CPU time mmwatch itself used, nanoseconds",
                cost_rss_bytes="memory it held",
                cost_table_rows="rows in use of its table in the kernel",
                cost_table_size="rows that table has",
            ),
        ),
    ),
    Table(
        "rows",
        "what each thread did by each path on each node in an interval",
        (
            *_integers(interval="of table intervals", row="counts from 0 in each interval"),
            *_IDENTITY,
            *_integers(cpu_node="NUMA node the task ran on; NULL when not known"),
            Column(
                "start_ns",
                "INTEGER",
                "when the row was made, CLOCK_MONOTONIC; tells a thread from a later one of its number",
            ),
            _COMM,
            *map(_measure, MEASURES),
        ),
        ("interval", "row"),
    ),
    Table(
        "nodes",
        "NUMA nodes at the end of each interval, pages; NULL where the kernel does not say",
        (
            *_integers(
                interval="of table intervals",
                node="its number",
                free_pages="free",
                min_pages="the min watermark: below it only emergencies get memory",
                low_pages="the low watermark: below it kswapd wakes",
                high_pages="the high watermark: kswapd sleeps above it",
                managed_pages="what the allocator has in all",
                file_pages="page cache",
                anon_pages="anonymous memory",
            ),
        ),
        ("interval", "node"),
    ),
    Table(
        "cgroups",
        "paths of memory control groups, the latest known",
        (
            Column("cgroup_id", "INTEGER PRIMARY KEY", "as in tables rows and records"),
            Column("path", "TEXT", "from the root of the hierarchy"),
        ),
    ),
    Table(
        "processes",
        "who the tasks were; another row when a process changes its name (exec)",
        (
            Column("process", "INTEGER PRIMARY KEY", "as in table process_times; grows with time"),
            *_integers(tgid="process ID", ppid="parent's process ID; NULL when not known"),
            Column("comm", "TEXT", "name"),
            Column("cmdline", "TEXT", "command line; empty when not known"),
        ),
    ),
    Table(
        "process_times",
        "what the kernel itself says of a process in an interval",
        _integers(
            interval="of table intervals",
            process="of table processes",
            system_time_us="system CPU time used, microseconds; NULL when it could not be read",
            freepages_delay_ns="delay accounting of direct reclaim, nanoseconds; NULL when it is off",
        ),
        ("interval", "process"),
    ),
    Table(
        "records",
        "single reclaims, batches and passes, as far as detail was asked for",
        (
            Column("record", "INTEGER PRIMARY KEY", "counts up in the order they were received"),
            *_integers(
                time_ns="its end, CLOCK_MONOTONIC, nanoseconds",
                duration_ns="begin to end, nanoseconds",
                kind="of table kinds",
                cpu="CPU it ended on",
            ),
            *_IDENTITY[:4],
            *_integers(
                priority="lowest scan priority reached; NULL when no batch told",
                order="allocation order: 2 to its power pages in one piece",
                gfp_flags="gfp flags of the allocation",
                asked_pages="pages needed; NULL when no number was asked for",
                scanned_pages="pages looked at",
                reclaimed_pages="pages taken",
                file="batches: 1 of page cache, 0 of anonymous memory",
            ),
            _IDENTITY[4],
            _COMM,
        ),
    ),
)

BY_NAME = {table.name: table for table in TABLES}


def _check() -> None:
    """What is declared elsewhere has its column here; raised on import, not in the middle of a recording."""
    names = {table.name: [column.name for column in table.columns] for table in TABLES}
    assert names["nodes"][1:] == [field.name for field in fields(Node)]
    assert set(names["records"]) - {"record"} == set(RECORD_DTYPE.names or ())


_check()
