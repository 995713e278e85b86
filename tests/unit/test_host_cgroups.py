"""Finding, naming and making memory cgroups."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mmwatch.errors import EXIT_ERROR, MmwatchError, UnavailableError
from mmwatch.host.cgroup_memory import CgroupMemory, CgroupStat, read_memory, read_stat, shortage
from mmwatch.host.cgroups import CgroupMount, CgroupNames, OwnCgroup, memory_mount, of_process, resolve

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes cgroups: needs root")


def mounts(root: Path, *lines: str) -> Path:
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/mountinfo").write_text("".join(f"{line}\n" for line in lines))
    return root


def tree(root: Path, *groups: str) -> CgroupMount:
    """A hierarchy below ``root``, of either version."""
    for group in ("", *groups):
        (root / group).mkdir(parents=True, exist_ok=True)
        (root / group / "cgroup.procs").write_text("")
    return CgroupMount(root, 1)


V1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory"
V2 = "41 31 0:38 / /sys/fs/cgroup/un\\040ified rw,relatime - cgroup2 cgroup2 rw,nsdelegate"
OTHER = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu"


def test_mount_of_version_1(tmp_path: Path) -> None:
    assert memory_mount(mounts(tmp_path, OTHER, V1)) == CgroupMount(tmp_path / "sys/fs/cgroup/memory", 1)


@pytest.mark.parametrize("controllers", ["cpu memory", "cpu", None])
def test_mount_of_version_2_counts_only_with_the_controller(tmp_path: Path, controllers: str | None) -> None:
    point = tmp_path / "sys/fs/cgroup/un ified"
    point.mkdir(parents=True)
    if controllers is not None:
        (point / "cgroup.controllers").write_text(f"{controllers}\n")
    expected = CgroupMount(point, 2) if controllers == "cpu memory" else None
    assert memory_mount(mounts(tmp_path, OTHER, V2)) == expected


@pytest.mark.parametrize(
    ("version", "text", "path"),
    [
        (1, "12:cpu,memory:/a:b\n0::/other\n", "/a:b"),
        (2, "1:name=systemd:/other\n0::/a\n", "/a"),
        (1, "0::/a\n", None),
        (2, "", None),
        (2, "odd\n", None),
    ],
)
def test_the_cgroup_of_a_process(tmp_path: Path, version: int, text: str, path: str | None) -> None:
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/cgroup").write_text(text)
    assert of_process(CgroupMount(tmp_path, version), 7, tmp_path) == path
    assert of_process(CgroupMount(tmp_path, version), 8, tmp_path) is None


def test_no_mount(tmp_path: Path) -> None:
    assert memory_mount(tmp_path) is None
    with pytest.raises(UnavailableError) as caught:
        resolve(None, "x")
    assert caught.value.hint


@pytest.mark.parametrize("typed", ["a/b", "/a/b", "a/b/", "a//x/../b", "../../a/b", "{top}/a/b", "{top}/a/b/"])
def test_resolve_what_a_user_types(tmp_path: Path, typed: str) -> None:
    mount = tree(tmp_path / "cg", "a/b")
    path = mount.path / "a/b"
    assert resolve(mount, typed.format(top=mount.path)) == (path, path.stat().st_ino)


@pytest.mark.parametrize("typed", ["", "/", "{top}", "{top}/"])
def test_resolve_the_top(tmp_path: Path, typed: str) -> None:
    mount = tree(tmp_path / "cg")
    assert resolve(mount, typed.format(top=mount.path)) == (mount.path, mount.path.stat().st_ino)


@pytest.mark.parametrize("typed", ["nope", "a\0b", "a\x1b[31m", "../outside", "plain"])
def test_resolve_what_is_no_cgroup(tmp_path: Path, typed: str) -> None:
    mount = tree(tmp_path / "cg")
    (tmp_path / "outside").mkdir()
    (mount.path / "plain").mkdir()  # a directory, but no cgroup
    with pytest.raises(MmwatchError) as caught:
        resolve(mount, typed)
    assert caught.value.exit_code == EXIT_ERROR  # as with an unknown process
    assert caught.value.message.isprintable()
    assert "find " in caught.value.hint


def test_names(tmp_path: Path) -> None:
    mount = tree(tmp_path / "cg", "a/b", "evil\x1b[31m")
    names = CgroupNames(mount)
    assert names.get(mount.path.stat().st_ino) == "/"
    assert names.get((mount.path / "a/b").stat().st_ino) == "/a/b"
    assert names.get((mount.path / "evil\x1b[31m").stat().st_ino) == "/evil\\x1b[31m"


def test_a_miss_walks_the_tree_now_and_then(tmp_path: Path) -> None:
    now = [100.0]
    mount = tree(tmp_path / "cg", "old")
    names = CgroupNames(mount, rescan_s=5.0, clock=lambda: now[0])
    old_id = (mount.path / "old").stat().st_ino
    assert names.get(old_id) == "/old"
    tree(mount.path, "new")
    new_id = (mount.path / "new").stat().st_ino
    shutil.rmtree(mount.path / "old")
    now[0] = 104.9
    assert names.get(new_id) is None
    now[0] = 105.0
    assert names.get(new_id) == "/new"
    assert names.get(old_id) == "/old"  # it is gone, but its rows are still on the screen


def test_names_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmwatch.host.cgroups._NAMES_KEPT", 3)
    mount = tree(tmp_path / "cg", "a", "b")
    names = CgroupNames(mount, rescan_s=0)
    gone = (mount.path / "a").stat().st_ino
    assert names.get(gone) == "/a"
    tree(mount.path, "c")  # before the removal: a file system may reuse the inode number; the kernel reuses no id
    shutil.rmtree(mount.path / "a")
    assert names.get((mount.path / "c").stat().st_ino) == "/c"
    assert names.get(gone) is None


def test_names_without_cgroups() -> None:
    assert CgroupNames(None).get(1) is None


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Like the kernel, mkdir creates a cgroup's files and rmdir removes them."""
    mkdir, rmdir = Path.mkdir, Path.rmdir
    files = {"cgroup.procs": "", "memory.max": "max\n", "memory.high": "max\n", "memory.limit_in_bytes": "0\n"}

    def make(path: Path, *rest: object, **named: object) -> None:
        mkdir(path, *rest, **named)  # type: ignore[arg-type]
        for name, text in files.items():
            (path / name).write_text(text)

    def remove(path: Path) -> None:
        if (path / "cgroup.procs").exists() and (path / "cgroup.procs").read_text():
            raise OSError(16, "Device or resource busy")
        for name in files:
            (path / name).unlink(missing_ok=True)
        rmdir(path)

    monkeypatch.setattr(Path, "mkdir", make)
    monkeypatch.setattr(Path, "rmdir", remove)


def second(top: Path, enabled: str) -> CgroupMount:
    os.makedirs(top)
    (top / "cgroup.subtree_control").write_text(enabled)
    return CgroupMount(top, 2)


@pytest.mark.usefixtures("kernel")
def test_own_cgroup_of_version_1(tmp_path: Path) -> None:
    os.makedirs(tmp_path / "cg")
    with OwnCgroup.create(CgroupMount(tmp_path / "cg", 1), "mmwatch-x", 4096) as own:
        assert (own.path / "memory.limit_in_bytes").read_text().startswith("4096")
        assert own.cgroup_id == own.path.stat().st_ino
        own.add(77)
        assert (own.path / "cgroup.procs").read_text() == "77"
        (own.path / "cgroup.procs").write_text("")
    assert not own.path.exists()
    own.remove()  # not an error the second time


@pytest.mark.usefixtures("kernel")
def test_version_2_takes_the_controller_back(tmp_path: Path) -> None:
    mount = second(tmp_path / "cg", "")
    control = mount.path / "cgroup.subtree_control"
    with OwnCgroup.create(mount, "mmwatch-x", 4096) as own:
        assert control.read_text() == "+memory"
        assert (own.path / "memory.max").read_text().startswith("4096")
    assert control.read_text() == "-memory"


@pytest.mark.usefixtures("kernel")
def test_version_2_leaves_what_was_enabled_before(tmp_path: Path) -> None:
    mount = second(tmp_path / "cg", "cpu memory")
    with OwnCgroup.create(mount, "mmwatch-x", 4096):
        pass
    assert (mount.path / "cgroup.subtree_control").read_text() == "cpu memory"


@pytest.mark.usefixtures("kernel")
def test_version_2_leaves_the_controller_to_another_who_uses_it_by_now(tmp_path: Path) -> None:
    mount = second(tmp_path / "cg", "")
    with OwnCgroup.create(mount, "mmwatch-x", 4096):
        (mount.path / "other").mkdir()
        (mount.path / "other/memory.high").write_text("8192\n")
    assert (mount.path / "cgroup.subtree_control").read_text() == "+memory"


@pytest.mark.usefixtures("kernel")
def test_a_cgroup_that_exists_is_left_alone(tmp_path: Path) -> None:
    mount = second(tmp_path / "cg", "")
    (mount.path / "mmwatch-x").mkdir()
    with pytest.raises(MmwatchError, match="exists already") as caught:
        OwnCgroup.create(mount, "mmwatch-x", 4096)
    assert "rmdir" in caught.value.hint
    assert (mount.path / "mmwatch-x").exists()
    assert (mount.path / "cgroup.subtree_control").read_text() == "-memory"


def test_a_limit_that_cannot_be_set_leaves_nothing(tmp_path: Path) -> None:
    mount = tree(tmp_path / "cg")  # no kernel fills the new directory
    with pytest.raises(UnavailableError, match="cannot limit"):
        OwnCgroup.create(mount, "mmwatch-x", 4096)
    assert not (mount.path / "mmwatch-x").exists()


@pytest.mark.usefixtures("kernel")
def test_processes_that_stay_are_named(tmp_path: Path) -> None:
    own = OwnCgroup.create(second(tmp_path / "cg", "memory"), "mmwatch-x", 4096)
    (own.path / "cgroup.procs").write_text("77\n")
    with pytest.raises(MmwatchError, match="processes in it: 77") as caught:
        own.remove(timeout_s=0)
    assert "rmdir" in caught.value.hint
    own.remove = lambda: OwnCgroup.remove(own, 0)  # type: ignore[method-assign,misc]
    with pytest.raises(ZeroDivisionError), own:  # the error inside wins
        raise ZeroDivisionError


@pytest.mark.parametrize("name", ["", "..", "a/b", "/a", ".x"])
def test_names_that_would_lead_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        OwnCgroup.create(CgroupMount(tmp_path, 1), name, 4096)


@pytest.mark.live
@needs_root
def test_a_real_cgroup_comes_and_goes() -> None:
    mount = memory_mount()
    if mount is None:
        pytest.skip("no memory controller")
    name = f"mmwatch-unit-{os.getpid()}"
    before = sorted(os.listdir(mount.path))
    names = CgroupNames(mount, rescan_s=0)
    with OwnCgroup.create(mount, name, 64 << 20) as own:
        process = subprocess.Popen(["sleep", "60"])
        try:
            own.add(process.pid)
            assert f"/{name}" in Path(f"/proc/{process.pid}/cgroup").read_text()
            assert resolve(mount, name) == (own.path, own.cgroup_id)
            assert names.get(own.cgroup_id) == f"/{name}"
            with pytest.raises(MmwatchError, match=str(process.pid)):
                own.remove(timeout_s=0)
        finally:
            process.kill()
            process.wait()
    assert sorted(os.listdir(mount.path)) == before
    assert names.get(own.cgroup_id) == f"/{name}"


def fake_group(root: Path, version: int, **files: str) -> CgroupMount:
    (root / "a").mkdir(parents=True)
    for name, text in files.items():
        (root / "a" / name.replace("_", ".", 1)).write_text(f"{text}\n")
    return CgroupMount(root, version)


def test_memory_of_version_2(tmp_path: Path) -> None:
    mount = fake_group(
        tmp_path,
        2,
        memory_max="67108864",
        memory_high="max",
        memory_current="66060288",
        memory_events="low 0\nhigh 12\nmax 345\noom 0",
    )
    assert read_memory(mount, "/a") == CgroupMemory(64 << 20, None, 63 << 20, 345)
    (tmp_path / "a/memory.events").write_text("low 0\nhigh 0\n")
    (tmp_path / "a/memory.high").write_text("1048576\n")
    assert read_memory(mount, "/a") == CgroupMemory(64 << 20, 1 << 20, 63 << 20, None)


def test_memory_of_version_1(tmp_path: Path) -> None:
    mount = fake_group(
        tmp_path, 1, memory_limit_in_bytes="9223372036854771712", memory_usage_in_bytes="0", memory_failcnt="7"
    )
    assert read_memory(mount, "/a") == CgroupMemory(None, None, 0, 7)


def test_counters_of_version_2(tmp_path: Path) -> None:
    mount = fake_group(
        tmp_path,
        2,
        memory_stat="anon 4096\nfile 8192\nfile_dirty 100\nworkingset_refault_file 7\npgmajfault 3\nthp_fault_alloc 9",
    )
    (tmp_path / "a/memory.swap.current").write_text("12288\n")
    (tmp_path / "a/memory.events").write_text("max 900\noom_kill 2\n")
    (tmp_path / "a/memory.events.local").write_text("low 0\nhigh 12\nmax 345\n")
    (tmp_path / "a/memory.pressure").write_text("some avg10=1.00 total=55\nfull avg10=0.00 avg60=0.00 total=44\n")
    assert read_stat(mount, "/a") == CgroupStat(
        counts={
            "workingset_refault_file": 7,
            "pgmajfault": 3,
            "high": 12,
            "max": 345,
            "oom_kill": 2,
            "some_us": 55,
            "full_us": 44,
        },
        levels={"anon": 4096, "file": 8192, "file_dirty": 100, "swap": 12288},
    )
    assert read_stat(mount, "/gone") == CgroupStat({}, {})


def test_counters_of_version_1(tmp_path: Path) -> None:
    stat = "cache 1\ntotal_cache 8192\ntotal_rss 4096\nworkingset_refault_file 1\ntotal_workingset_refault_file 7"
    mount = fake_group(tmp_path, 1, memory_stat=stat, memory_failcnt="5")
    (tmp_path / "a/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert read_stat(mount, "/a") == CgroupStat(
        {"workingset_refault_file": 7, "max": 5, "oom_kill": 2}, {"file": 8192, "anon": 4096}
    )


def test_memory_of_odd_names_and_of_cgroups_that_are_gone(tmp_path: Path) -> None:
    odd = "b\udcff\n \x1b"
    mount = fake_group(tmp_path, 2, memory_max="weird\x1b[31m", memory_current="4096")
    (tmp_path / odd).mkdir()
    (tmp_path / odd / "memory.current").write_text("8192\n")
    assert read_memory(mount, "/a") == CgroupMemory(None, None, 4096, None)
    assert read_memory(mount, f"/{odd}") == CgroupMemory(None, None, 8192, None)
    for name in ("/", "/gone"):
        assert read_memory(mount, name) is None
    names = CgroupNames(mount)
    number = os.stat(tmp_path / odd).st_ino
    assert (names.path(number), names.number(f"/{odd}")) == (f"/{odd}", number)
    assert names.get(number) == "/b\\xff\\x0a \\x1b"


@pytest.mark.parametrize("version", [1, 2])
def test_where_memory_is_short(tmp_path: Path, version: int) -> None:
    """A parent may have less room left than the cgroup itself."""
    mounts = {1: "cgroup cgroup rw,memory", 2: "cgroup2 cgroup2 rw"}
    lines = {1: "5:memory:/a/b\n0::/other\n", 2: "0::/a/b\n"}
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(f"30 1 0:9 / /cg rw - {mounts[version]}\n")
    (tmp_path / "proc/self/cgroup").write_text(lines[version])
    (tmp_path / "cg/a/b").mkdir(parents=True)
    (tmp_path / "cg/cgroup.controllers").write_text("memory\n")
    limit, usage = {1: ("limit_in_bytes", "usage_in_bytes"), 2: ("max", "current")}[version]
    assert "host has too little" in shortage(tmp_path)
    for name, bound, used in (("a", 100 << 20, 99 << 20), ("a/b", 50 << 20, 10 << 20)):
        (tmp_path / f"cg/{name}/memory.{limit}").write_text(f"{bound}\n")
        (tmp_path / f"cg/{name}/memory.{usage}").write_text(f"{used}\n")
    assert "cgroup /a has a limit of 100M, of which 99M are used" in shortage(tmp_path)
