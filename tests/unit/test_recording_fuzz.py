"""Recordings that somebody has changed: whatever is in them, a command ends with a message, and nothing else.

Each run takes the same inputs. ``MMWATCH_FUZZ_S=600 python -m pytest tests/unit/test_recording_fuzz.py`` goes on with
others for that many seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from make import make_interval, make_session
from test_recording import full_interval, make_records, record

from mmwatch.cli.main import main
from mmwatch.errors import MmwatchError
from mmwatch.recording import Writer, blocks, fold, opening, reader
from mmwatch.recording.schema import TABLES
from mmwatch.session.playback import Playback

SEED = 8
SECONDS = float(os.environ.get("MMWATCH_FUZZ_S", "8"))
MAX_CPU_S, MAX_KIB = 30.0, 200 << 10
HOSTILE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
COMMANDS = [
    ["report"],
    ["report", "--json", "--by", "thread"],
    ["report", "--by", "node"],
    ["report", "--by", "cgroup", "--columns", "all"],
    ["replay", "-b"],
    ["replay", "--json"],
]
VALUES = [
    *(
        "NULL",
        "-1",
        "0",
        "1.5",
        "9223372036854775807",
        "-9223372036854775808",
        "4294967296",
        "1e300",
        "9e999",
        "-9e999",
    ),
    *("'x'", "''", "x'00ff'", "CAST(x'ff1b5d303b50574e07' AS TEXT)", "char(27)||'[31m'||char(8238)", "'{'", "'[]'"),
    *("'{}'", "'7'", """'{"a": NaN}'""", """'{"a": 1e999}'""", """'{"1": "x"}'""", """'{"0": [{}]}'""", "'[7]'"),
    *("""'{"pgsteal_anon": {}}'""", """'{"some_us": "q"}'""", """'{"0":99999999999999999999999}'"""),
    """'{"\\ud800":1}'""",
    *("replace(hex(zeroblob(30000)),'00','[')", "replace(hex(zeroblob(3000)),'00','{\"a\":')", "zeroblob(3000000)"),
    *("hex(zeroblob(1000000))", """'{"1":' || hex(zeroblob(20000)) || '}'"""),
]
"""In the place of a value, as SQL."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("fuzz") / "good.mmw"
    with Writer(path, make_session(settings={"zone_reclaim_mode": 1}, filter={"pid": [7]})) as writer:
        for number in range(1, 4):
            writer.write(full_interval(number), make_records(5))
    return path.read_bytes()


def play(path: Path) -> None:
    """What the screen reads of a recording."""
    with contextlib.suppress(MmwatchError), reader.Reader(path) as opened:
        playback = Playback(opened)
        playback.watch(7)
        for move in (lambda: None, playback.worst, lambda: playback.step(1), lambda: playback.seek(1.0)):
            move()
            playback.before()
            playback.take()
            playback.recent()


@contextlib.contextmanager
def bounded(about: object) -> Iterator[None]:
    """Fail if the body takes much more time or memory than any small recording needs (0.1 s, 20 MiB)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts at what is resident now
    before_kib, began_s = memory_kib("VmRSS"), time.process_time()
    yield
    assert time.process_time() - began_s < MAX_CPU_S, about
    assert memory_kib("VmHWM") - before_kib < MAX_KIB, about


def memory_kib(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status[status.index(name) :].split()[1])


def attempt(path: Path, words: list[str], capsys: pytest.CaptureFixture[str], about: object) -> str:
    """Run a command; return what it printed to stderr."""
    with bounded(about):
        if words[0] == "replay":
            play(path)
        status = main([words[0], str(path), *words[1:]])
    out, err = capsys.readouterr()
    assert status in (0, 1), about
    assert not HOSTILE.search(out + err), about
    assert status == 0 or err, about
    if "--json" in words:
        for line in out.splitlines():
            json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} in JSON: {about}"))
    return err if status else ""


def changed(path: Path, content: bytes, *statements: str) -> Path:
    path.write_bytes(content)
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA legacy_alter_table = ON")  # views stay as they are
        for statement in statements:
            with contextlib.suppress(sqlite3.IntegrityError):  # of a key
                database.execute(statement)
    database.close()
    return path


def endless() -> Iterator[int]:
    """Numbers from :data:`SEED` on, until the time is over."""
    end = time.monotonic() + SECONDS
    number = SEED
    while time.monotonic() < end:
        yield number
        number += 1


def test_each_column_with_each_value(good: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every column of the schema in turn, so that new ones are covered by themselves."""
    chosen = random.Random(SEED)
    places = [(table.name, column.name) for table in TABLES for column in table.columns]
    for index, (table, column) in enumerate(places):
        for value in chosen.sample(VALUES, 2):
            change = f'UPDATE OR IGNORE {table} SET "{column}" = {value}'
            attempt(changed(tmp_path / "a.mmw", good, change), COMMANDS[index % len(COMMANDS)], capsys, change)


def test_more_values(good: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in endless():
        chosen = random.Random(seed)
        table = chosen.choice(TABLES)
        column, value = chosen.choice(table.columns).name, chosen.choice(VALUES)
        change = f'UPDATE OR IGNORE {table.name} SET "{column}" = {value}'
        if chosen.random() < 0.5:
            change += " WHERE abs(random()) % 2"
        attempt(changed(tmp_path / "a.mmw", good, change), chosen.choice(COMMANDS), capsys, (seed, change))


def test_bytes(good: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.mmw"
    for seed in endless():
        chosen = random.Random(seed)
        content = bytearray(good)
        for _ in range(chosen.choice((1, 1, 3, 30))):
            at = chosen.randrange(100 if chosen.random() < 0.2 else len(content))
            content[at] = chosen.randrange(256)
        path.write_bytes(content)
        attempt(path, chosen.choice(COMMANDS), capsys, seed)


# ---- the kinds by name ----


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ("UPDATE intervals SET missed_runs = 'x'", "table intervals, column missed_runs, row 1"),
        ("UPDATE intervals SET unmatched_begin = NULL WHERE interval = 2", "column unmatched_begin, row 2"),
        ("""UPDATE intervals SET vmstat = '{"pgsteal_anon": {}}'""", "table intervals, column vmstat, row 1"),
        ("UPDATE session SET start_s = 9e999", "table session, column start_s"),
        ("UPDATE rows SET node = 100000000", "table rows, column node, row 1"),
        ("UPDATE intervals SET rows = 1", "table intervals, column rows, row 1"),
        ("UPDATE probes SET need = CAST(x'ff1b5d' AS TEXT)", "column need: not UTF-8"),
        ("UPDATE processes SET comm = hex(zeroblob(1000000))", "too long"),
        ("UPDATE intervals SET duration_ns = 0", "table intervals, column duration_ns, row 1: out of range"),
    ],
)
def test_the_message_says_where(
    good: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, where: str
) -> None:
    path = changed(tmp_path / "a.mmw", good, change)
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO probes VALUES ('x', 'x', 'attached', '')")
        if "probes" in change:
            database.execute(change)
    database.close()
    said = attempt(path, ["report"], capsys, change)
    assert "is damaged" in said
    if sys.version_info < (3, 11):  # where sqlite3 does not name the column
        where = where.replace("column need: ", "")
    assert where in said


RECURSIVE = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t)"


@pytest.mark.parametrize(
    "statements",
    [
        [
            "ALTER TABLE cgroups RENAME TO o",
            f"CREATE VIEW cgroups AS {RECURSIVE} SELECT cgroup_id, path FROM o WHERE (SELECT count(*) FROM t) > 0",
        ],
        ["CREATE TRIGGER t AFTER INSERT ON rows BEGIN SELECT 1; END"],
        ["ALTER TABLE rows RENAME COLUMN tid TO o", "ALTER TABLE rows ADD COLUMN tid AS (hex(zeroblob(100000000)))"],
        [
            "ALTER TABLE processes RENAME COLUMN cmdline TO o",
            f"ALTER TABLE processes ADD COLUMN cmdline TEXT DEFAULT '{'x' * 100_000}'",
        ],
        ["DROP TABLE cgroups", "CREATE VIRTUAL TABLE cgroups USING fts4(cgroup_id, path)"],
    ],
    ids=["view", "trigger", "generated", "default", "virtual"],
)
def test_only_plain_tables(
    good: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], statements: list[str]
) -> None:
    path = changed(tmp_path / "a.mmw", good, *statements)
    for words in COMMANDS:
        assert "is damaged" in attempt(path, words, capsys, statements)


@pytest.mark.parametrize("table", [table.name for table in TABLES if table.primary_key])
def test_a_table_without_its_key(good: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str) -> None:
    """A number could be there twice, and a join would take the square of the time."""
    statements = [
        f"CREATE TABLE new AS SELECT * FROM {table}",
        f"DROP TABLE {table}",
        f"ALTER TABLE new RENAME TO {table}",
    ]
    path = changed(tmp_path / "a.mmw", good, *statements)
    assert f"table {table} lacks its primary key" in attempt(path, ["report"], capsys, table)


def test_views_and_tables_of_the_users_own_do_no_harm(
    good: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = changed(
        tmp_path / "a.mmw",
        good,
        f"CREATE VIEW mine AS {RECURSIVE} SELECT count(*) FROM t",
        "CREATE TABLE notes (text)",
        "CREATE INDEX by_tgid ON rows (tgid)",
    )
    assert attempt(path, ["report"], capsys, "") == ""


def test_a_name_of_a_file_is_shown_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "\\x1b[31m" in attempt(tmp_path / "no\x1b[31m\u202e.mmw", ["report"], capsys, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_long_query(good: bytes, tmp_path: Path, number: signal.Signals) -> None:
    """A query that takes minutes, on the connection that reading uses. It needs what the file cannot bring: leave to
    recurse."""
    path = tmp_path / "a.mmw"
    path.write_bytes(good)
    code = (
        "import sys, pathlib; from mmwatch.recording import Reader; r = Reader(pathlib.Path(sys.argv[1]))\n"
        # Not a function of Python where that is possible: a signal inside it would deny the query.
        "r._db.set_authorizer(None if sys.version_info >= (3, 11) else lambda *_: 0)\n"
        "print('ready', flush=True)\n"
        f"with r._damage(): r._db.execute('{RECURSIVE} SELECT count(*) FROM t').fetchone()"
    )
    handler = "import signal; [signal.signal(n, signal.default_int_handler) for n in (2, 15)]\n"
    with subprocess.Popen(
        [sys.executable, "-c", handler + code, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in said


def test_a_signal_in_the_authorizer_is_no_damage(good: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite takes an exception there for a refusal."""
    path = tmp_path / "a.mmw"
    path.write_bytes(good)
    authorize = opening.Database._authorize
    left: list[int] = []

    def interrupted(*arguments: Any) -> int:
        if left and left.pop() == 0:
            raise KeyboardInterrupt
        return authorize(*arguments)

    monkeypatch.setattr(opening.Database, "_authorize", interrupted)
    for calls in range(1, 40):
        left[:] = range(calls)
        with pytest.raises(KeyboardInterrupt), reader.Reader(path) as opened:
            fold(opened, "task")


def test_many_intervals_at_once_are_the_sum_of_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: intervals merged one by one."""
    path = tmp_path / "a.mmw"
    intervals = [full_interval(number) for number in range(1, 30)]
    odd = {"pgsteal_anon": 7, "new": 1}
    record(
        path, make_session(), [*intervals, make_interval(vmstat=odd, pressure=intervals[0].pressure), full_interval(30)]
    )
    with reader.Reader(path) as opened:
        whole = fold(opened, "thread")
        with monkeypatch.context() as patch:
            patch.setattr(blocks, "_table", lambda _sources: None)
            assert_same(fold(opened, "thread"), whole)
        monkeypatch.setattr(opened, "blocks", lambda span: opened.intervals(span, names=False))
        assert_same(fold(opened, "thread"), whole)


def assert_same(one: Any, other: Any) -> None:
    for name in ("end_s", "duration_ns", "edge_begin_pages", "edge_end_pages", "vmstat", "nodes", "settings", "kswapd"):
        assert getattr(one, name) == getattr(other, name), name
    for name in ("elsewhere", "cgroups", "processes", "loss", "cost", "pressure"):
        assert getattr(one, name) == getattr(other, name), name
    assert sorted(row.tobytes() for row in one.rows) == sorted(row.tobytes() for row in other.rows)
