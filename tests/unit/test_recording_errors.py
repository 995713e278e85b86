"""Any problem with a file or a disk gives a message with a remedy and an exit code, and no traceback."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sqlite3
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from make import make_interval, make_session, random_rows
from test_recording import full_interval, make_records, record, rows_read_by_nobody

from mmwatch.errors import EXIT_ERROR, EXIT_NO_PERMISSION, EXIT_USAGE, MmwatchError, NoPermissionError
from mmwatch.recording import NewFile, Reader, Writer, fold, new, opening
from mmwatch.recording.files import SIDE_FILES
from mmwatch.recording.schema import VERSION

JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system: needs root")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.mmw"


@pytest.fixture
def recording(path: Path) -> Path:
    record(path, make_session(version="7.8"), [full_interval(number) for number in range(1, 4)])
    return path


def refusal(path: Path) -> MmwatchError:
    """The error that reading the whole file raises."""
    with pytest.raises(MmwatchError) as caught, Reader(path) as reader:
        read_all(reader)
    assert caught.value.message
    assert caught.value.hint
    return caught.value


def read_all(reader: Reader) -> None:
    reader.record_counts()
    for _ in reader.intervals():
        pass
    for _ in reader.records():
        pass
    fold(reader, "task")


# ---- reading ----


def test_no_such_file(path: Path) -> None:
    error = refusal(path)
    assert "does not exist" in error.message
    assert error.exit_code == EXIT_ERROR
    assert not path.exists()


def test_a_directory(tmp_path: Path) -> None:
    error = refusal(tmp_path)
    assert "is a directory" in error.message
    assert error.exit_code == EXIT_USAGE


def test_a_device() -> None:
    assert refusal(Path("/dev/null")).exit_code == EXIT_USAGE


def test_an_empty_file(path: Path) -> None:
    path.touch()
    assert "is empty" in refusal(path).message


@pytest.mark.parametrize("content", [b"x", b"hello\n" * 1000, bytes(8192), b"SQLite format 3 or not\n" * 500])
def test_no_sqlite_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    error = refusal(path)
    assert "not an mmwatch recording" in error.message
    assert error.exit_code == EXIT_ERROR
    assert path.read_bytes() == content


def test_a_foreign_sqlite_file(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE rows (x)")
    assert "but not an mmwatch recording" in refusal(path).message


def test_a_newer_schema(recording: Path) -> None:
    with sqlite3.connect(recording) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    error = refusal(recording)
    assert f"by mmwatch 7.8 with schema {VERSION + 1}; this mmwatch reads schemas up to {VERSION}" in error.message
    assert "update" in error.hint


def test_a_newer_schema_without_anything_we_know(recording: Path) -> None:
    with sqlite3.connect(recording) as database:
        database.execute("PRAGMA user_version = 99")
        database.execute("DROP TABLE session")
    assert "with schema 99" in refusal(recording).message


def test_truncated_anywhere(recording: Path) -> None:
    whole = recording.read_bytes()
    for size in [1, 15, 16, 17, 50, 99, 100, 101, 4095, len(whole) - 1, *range(4096, len(whole), 4096)]:
        recording.write_bytes(whole[:size])
        assert "truncated" in refusal(recording).message, size
    assert f"{size} of {len(whole)} bytes" in refusal(recording).message


def test_overwritten_anywhere(recording: Path) -> None:
    """Garbage in a page is either met, and said, or lies where it does not matter; it is no traceback."""
    whole = recording.read_bytes()
    met = 0
    for begin in range(100, len(whole), 1500):
        recording.write_bytes(whole[:begin] + b"\xa5" * 700 + whole[begin + 700 :])
        try:
            with Reader(recording) as reader:
                read_all(reader)
        except MmwatchError:
            met += 1
    assert met > 5


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE rows",
        "DROP TABLE kinds",
        "DELETE FROM session",
        "UPDATE session SET start_s = NULL",
        "UPDATE session SET filter = '[]'",
        "UPDATE session SET settings = '{'",
        "UPDATE session SET unknown = '7'",
        "UPDATE session SET kernel = x'00ff'",
        "UPDATE intervals SET vmstat = 'x'",
        "UPDATE intervals SET inside = '{}'",
        "UPDATE intervals SET inside = '[7]'",
        "UPDATE intervals SET inside = '[{}]'",
        """UPDATE intervals SET inside = replace(inside, '"tgid":7', '"tgid":-7')""",
        """UPDATE intervals SET inside = replace(inside, '"node":1', '"node":"one"')""",
        """UPDATE intervals SET inside = replace(inside, '"direct"', '7')""",
        "UPDATE intervals SET shrinkers = '[{}]'",
        """UPDATE intervals SET shrinkers = replace(shrinkers, '"calls":', '"calls":-')""",
        "UPDATE intervals SET duration_ns = 'long'",
        "UPDATE intervals SET rows = 'many'",
        "UPDATE rows SET reclaims = 'many'",
        "UPDATE rows SET reclaims = NULL",
        "UPDATE rows SET comm = x'05'",
        "UPDATE rows SET path = x'01'",
        """UPDATE rows SET stall_histogram = '{"128":1}'""",
        """UPDATE rows SET throttled = '{"0":99999999999999999999999}'""",
        "UPDATE cgroups SET path = x'05'",
        "UPDATE processes SET comm = NULL",
        "UPDATE kinds SET records = 'many'",
        "UPDATE records SET time_ns = 'late'",
    ],
)
def test_values_nobody_wrote(recording: Path, change: str) -> None:
    recording.unlink()
    with Writer(recording, make_session()) as writer:
        writer.write(full_interval(1), make_records(3))
    with sqlite3.connect(recording) as database:
        database.execute(change)
    assert "damaged" in refusal(recording).message


@needs_root
def test_no_permission(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            folder = Path("/tmp") / f"mmwatch-test-{os.getpid()}"
            folder.mkdir(mode=0o755)
            path = folder / "a.mmw"
            try:
                record(path, make_session(), [])
                os.setgroups([])
                os.setegid(65534)
                os.setresuid(65534, 65534, 0)
                found = []
                for attempt in (lambda: Reader(path), lambda: Writer(folder / "b.mmw", make_session())):
                    try:
                        attempt()
                    except NoPermissionError as error:
                        found.append(error.exit_code)
                os.setresuid(0, 0, 0)
                status = 0 if found == [EXIT_NO_PERMISSION] * 2 else 2
            finally:
                os.setresuid(0, 0, 0)
                path.unlink()
                folder.rmdir()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("end", SIDE_FILES)
def test_what_stands_beside_it_is_no_file(recording: Path, tmp_path: Path, end: str) -> None:
    """SQLite would read a FIFO for ever, and a copy of /dev/zero would fill the disk."""
    beside = Path(f"{recording}{end}")
    os.mkfifo(beside)
    assert f"a.mmw{end} is not a regular file" in refusal(recording).message
    beside.unlink()
    beside.symlink_to("/dev/zero")
    assert f"a.mmw{end} is not a regular file" in refusal(recording).message


def hot_journal(recording: Path, super_journal: str = "") -> bytes:
    """A rollback journal that puts the first page back, and names a super-journal (sqlite.org/fileformat.html)."""
    content = recording.read_bytes()
    page_bytes = int.from_bytes(content[16:18], "big")
    page = content[:page_bytes]
    header = struct.pack(">8sIIIII", JOURNAL_MAGIC, 1, 0, len(content) // page_bytes, 512, page_bytes)
    checksum = sum(page[page_bytes - 200 : 0 : -200])
    journal = header.ljust(512, b"\0") + struct.pack(">I", 1) + page + struct.pack(">I", checksum)
    if super_journal:
        name = super_journal.encode()
        journal += struct.pack(">I", (1 << 30) // page_bytes + 1) + name
        journal += struct.pack(">II8s", len(name), sum(name), JOURNAL_MAGIC)
    return journal


def test_a_journal_removes_no_other_file(recording: Path, tmp_path: Path) -> None:
    """SQLite would remove the file that a journal names as its super-journal."""
    other = tmp_path / "other"
    other.write_text("of somebody else")
    beside = Path(f"{recording}-journal")
    beside.write_bytes(hot_journal(recording, str(other)))
    assert "its journal names another file" in refusal(recording).message
    assert other.exists()
    beside.write_bytes(hot_journal(recording))
    with Reader(recording) as reader:
        assert len(list(reader.intervals())) == 3


def test_a_log_that_no_disk_has_room_for(recording: Path) -> None:
    beside = Path(f"{recording}-journal")
    beside.write_bytes(hot_journal(recording))
    os.truncate(beside, 1 << 40)
    assert "No space left on device" in refusal(recording).message


def test_a_link_to_a_recording_under_way(path: Path, tmp_path: Path) -> None:
    """Its log is beside what the link leads to."""
    link = tmp_path / "elsewhere" / "link.mmw"
    link.parent.mkdir()
    link.symlink_to(path)
    with Writer(path, make_session()) as writer:
        writer.write(full_interval(1))
        with Reader(link) as reader:
            assert len(list(reader.intervals())) == 1


# ---- writing ----


def write_much(writer: Writer) -> None:
    for number in range(1000):
        writer.write(make_interval(random_rows(10, number)))


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(MmwatchError, match="no directory") as caught:
        Writer(tmp_path / "none" / "a.mmw", make_session())
    assert "mkdir" in caught.value.hint


def test_a_directory_that_takes_no_files() -> None:
    with pytest.raises(MmwatchError, match="no files can be created in /proc") as caught:
        Writer(Path("/proc/a.mmw"), make_session())
    assert "another place" in caught.value.hint


def test_the_output_is_a_directory(tmp_path: Path) -> None:
    with pytest.raises(MmwatchError, match="is a directory") as caught:
        Writer(tmp_path, make_session())
    assert caught.value.exit_code == EXIT_USAGE


def test_a_name_too_long(tmp_path: Path) -> None:
    with pytest.raises(MmwatchError, match="File name too long"):
        Writer(tmp_path / ("a" * 300), make_session())


def test_the_longest_name(tmp_path: Path) -> None:
    """SQLite's journal has the name and eight bytes more."""
    path = tmp_path / ("a" * 247)
    record(path, make_session(), [full_interval(1)])
    with Reader(path) as reader:
        read_all(reader)
    with pytest.raises(MmwatchError, match="File name too long") as caught:
        Writer(tmp_path / ("a" * 248), make_session())
    assert "247 bytes" in caught.value.hint
    assert [name.name for name in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [b"precious\n", bytes(4096), b"SQLite format 3\0" + bytes(4080)])
def test_what_is_no_recording_is_not_replaced(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(MmwatchError, match="not an mmwatch recording"):
        Writer(path, make_session(), force=True)
    assert path.read_bytes() == content


def test_a_recording_and_an_empty_file_are_replaced(recording: Path) -> None:
    for _ in range(2):
        with Writer(recording, make_session(), force=True):
            pass
        with Reader(recording) as reader:
            assert reader.interval_count == 0
        recording.write_bytes(b"")


@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_file_that_is_moved_is_whole_where_it_went(path: Path, at_the_end: bool) -> None:
    writer = Writer(path, make_session())
    writer.write(full_interval(1))
    there = path.rename(path.with_name("b.mmw"))
    with pytest.raises(MmwatchError, match=f"was moved to {there}"):
        writer.close() if at_the_end else writer.write(full_interval(2))
    summary = writer.close()  # and no second complaint
    assert (summary.path, summary.intervals) == (there, 1)
    assert [name.name for name in path.parent.iterdir()] == ["b.mmw"]
    with Reader(there) as reader:
        assert reader.ended_cleanly
        assert len(list(reader.intervals())) == 1


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_removed_is_lost_and_said_so(path: Path, replaced: bool) -> None:
    writer = Writer(path, make_session())
    writer.write(full_interval(1))
    for name in path.parent.iterdir():
        name.unlink()
    if replaced:
        path.write_text("another")
    with pytest.raises(MmwatchError, match="removed or replaced"):
        writer.write(full_interval(2))
    assert (writer.close().intervals, writer.close().bytes) == (0, 0)
    assert [name.read_text() for name in path.parent.iterdir()] == ["another"] * replaced


def mounted(folder: Path, options: str) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "mmwatch-test", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path, "size=1m")


@needs_root
def test_a_full_disk(small_disk: Path) -> None:
    path = small_disk / "a.mmw"
    writer = Writer(path, make_session())
    with pytest.raises(MmwatchError) as caught:
        write_much(writer)
    written = writer.close().intervals  # and no second complaint
    assert written >= 2
    error = caught.value
    assert f"cannot write {path}: No space left on device; its {written} intervals" in error.message
    assert f"df -h {small_disk}" in error.hint
    with Reader(path) as reader:
        assert not reader.ended_cleanly
        assert len(list(reader.intervals())) == written
        assert len(fold(reader, "task").rows)


@needs_root
def test_a_disk_that_fills_up_at_the_very_end(small_disk: Path) -> None:
    path = small_disk / "a.mmw"
    writer = Writer(path, make_session())
    writer.write(make_interval(random_rows(10, 1)))
    writer.write_records(make_records(20_000))
    with pytest.raises(MmwatchError, match="No space left"):
        writer.close()
    assert writer.close().intervals == 1
    with Reader(path) as reader:
        assert len(next(reader.intervals()).rows) == 10


@needs_root
def test_a_disk_full_from_the_start(small_disk: Path) -> None:
    with (small_disk / "ballast").open("wb", buffering=0) as ballast:
        assert ballast.write(bytes(2_000_000)) < 2_000_000
    with pytest.raises(MmwatchError, match="No space left"):
        Writer(small_disk / "a.mmw", make_session())
    assert [name.name for name in small_disk.iterdir()] == ["ballast"]


@needs_root
def test_a_read_only_file_system(small_disk: Path) -> None:
    path = small_disk / "a.mmw"
    record(path, make_session(), [full_interval(1)])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(MmwatchError, match="Read-only file system"):
        Writer(small_disk / "b.mmw", make_session())
    with Reader(path) as reader:
        read_all(reader)


@pytest.mark.parametrize("ways", [1, 2])
def test_a_file_system_without_shared_memory(path: Path, monkeypatch: pytest.MonkeyPatch, ways: int) -> None:
    """As 9p and NFS: SQLite says so only at the first commit. Here the index of the log cannot be made.

    :param ways: how many ways of writing fail.
    """
    made = new.create

    def hindered(path: Path, force: bool) -> None:
        assert made(path, force) is None
        Path(f"{path}-shm").mkdir()

    if ways == 2:
        monkeypatch.setattr(new, "_WAYS", (new._WAYS[0], new._WAYS[2]))
    monkeypatch.setattr(new, "create", hindered)
    for module in (new, opening):
        monkeypatch.setattr(module, "SIDE_FILES", ())
    file = NewFile(path)
    with Writer(file, make_session()) as writer:
        for number in (1, 2, 3):
            writer.write(full_interval(number))
        (mode,) = file.connection.execute("PRAGMA journal_mode").fetchone()
        assert (mode, file.exclusive) == {1: ("wal", True), 2: ("truncate", False)}[ways]
        if file.exclusive:
            monkeypatch.setattr(opening, "_BUSY_S", 0.01)
            error = refusal(path)
            assert "locked" in error.message
            assert "wait until it has ended" in error.hint
        else:
            with Reader(path) as reader:
                assert reader.interval_count == 3
    os.rmdir(f"{path}-shm")
    with Reader(path) as reader:
        assert reader.ended_cleanly
        assert reader.interval_count == 3


def test_a_file_system_without_permissions(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """vfat refuses to change a mode; others ignore it, and everybody may read."""

    def refused(*_arguments: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    record(path, make_session(), [full_interval(1)])
    monkeypatch.setattr(os, "fchmod", refused)
    with Writer(NewFile(path, force=True), make_session()) as writer:
        writer.write(full_interval(1))
        writer.write(full_interval(2))
    with Reader(path) as reader:
        assert reader.interval_count == 2
    file = NewFile(path, force=True)
    assert not file.notices
    path.chmod(0o777)
    assert "lets other users read" in file.notices[0]
    file.discard()


def test_what_is_replaced_comes_back_if_the_other_cannot_be_created(
    recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refused(name: Path, flags: int, *mode: int) -> int:
        if flags & os.O_EXCL:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return opened(name, flags, *mode)

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(MmwatchError, match="Disk quota exceeded"):
        NewFile(recording, force=True)
    with Reader(recording) as reader:
        assert reader.interval_count == 3
    assert list(recording.parent.iterdir()) == [recording]


def test_what_is_replaced_stays_until_the_other_has_begun(path: Path) -> None:
    record(path, make_session(), [full_interval(1)])
    NewFile(path, force=True).discard()  # nothing could be attached
    with Reader(path) as reader:
        assert reader.interval_count == 1
    Writer(path, make_session(), force=True).discard()  # the command could not be started
    with Reader(path) as reader:
        assert reader.interval_count == 1
    with Writer(path, make_session(), force=True) as writer:
        writer.write(full_interval(2))
        writer.write(full_interval(3))
    with Reader(path) as reader:
        assert reader.interval_count == 2
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_takes_no_data_is_found_before_it_begins(path: Path) -> None:
    def run() -> bool:
        try:
            NewFile(path)
        except MmwatchError as error:
            return "cannot write" in error.message and not path.exists()
        return False

    in_child(1000, run)


def in_child(limit_bytes: int, run: Callable[[], bool]) -> None:
    """``run`` where files may not grow beyond the limit: to SQLite that is a disk I/O error, as a quota is."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
            status = 0 if run() else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_limit_on_the_size_of_files(path: Path) -> None:
    def run() -> bool:
        writer = Writer(path, make_session())
        try:
            write_much(writer)
        except MmwatchError as error:
            return "cannot write" in error.message and bool(error.hint) and writer.close().intervals > 2
        return False

    in_child(1_000_000, run)
    with Reader(path) as reader:
        assert len(list(reader.intervals())) > 2


def test_writing_goes_on_after_a_failure(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a failed interval had brought (names, control groups) is written again with the next one."""
    writer = Writer(path, make_session())
    add = writer._add_records

    def fail(parts: object) -> list[int]:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(writer, "_add_records", fail)
    with pytest.raises(MmwatchError, match="disk I/O error"):
        writer.write(full_interval(1))
    monkeypatch.setattr(writer, "_add_records", add)
    writer.write(full_interval(1))
    writer.close()
    with Reader(path) as reader:
        (interval,) = reader.intervals()
        assert interval.processes == full_interval(1).processes
        assert interval.cgroups == full_interval(1).cgroups


def test_an_interrupt_in_the_middle_leaves_it_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Writer(path, make_session()) as writer:
        writer.write(full_interval(1))
        with monkeypatch.context() as patch:
            patch.setattr(writer, "_add_processes", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt):
                writer.write(full_interval(2))
        writer.write(full_interval(2))
    with Reader(path) as reader:
        assert reader.ended_cleanly
        assert [len(interval.rows) for interval in reader.intervals()] == [20, 20]


def test_nobody_reads_it(tmp_path: Path) -> None:
    """The oracle for the tests that read as nobody: they do lose their powers."""
    path = tmp_path / "a.mmw"
    record(path, make_session(), [full_interval(1)])
    if os.geteuid() == 0:
        assert rows_read_by_nobody(path) == 255
