"""Names in the kernel's text hold any byte but NUL: no reader may stumble over them or over a file cut short."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mmwatch.host import taskstats as taskstats_module
from mmwatch.host import vmstat as vmstat_module
from mmwatch.host.cgroup_memory import read_memory, read_stat, shortage
from mmwatch.host.cgroups import CgroupMount, memory_mount, resolve
from mmwatch.host.kmsg import message
from mmwatch.host.meminfo import read_levels
from mmwatch.host.pressure import read_pressure
from mmwatch.host.processes import ProcessNames
from mmwatch.host.settings import read_settings
from mmwatch.host.task import read_placement, read_times
from mmwatch.host.taskstats import TaskStats
from mmwatch.host.vmstat import Vmstat
from mmwatch.host.zoneinfo import Zoneinfo, read_topology
from mmwatch.kernel.facts import gather
from mmwatch.kernel.symbols import Symbols
from mmwatch.kernel.tracefs import Tracefs

ESCAPED = {byte: f"\\{byte:03o}".encode() for byte in b" \t\n\\#"}
"""What mountinfo escapes: mangle() of fs/proc_namespace.c."""
READERS: tuple[tuple[str, Callable[[Path], Any]], ...] = (
    ("proc/self/mountinfo", memory_mount),
    ("proc/self/mountinfo", lambda root: gather(root).memory_cgroup),
    ("proc/pressure/memory", read_pressure),
    ("proc/self/status", lambda root: gather(root).capabilities),
    ("proc/7/stat", lambda root: ProcessNames(root).read(7)),
    ("proc/meminfo", read_settings),
    ("proc/sys/vm/swappiness", read_settings),
    ("sys/kernel/mm/lru_gen/enabled", lambda root: (read_settings(root), gather(root))),
    ("proc/vmstat", lambda root: Vmstat(root).read()),
    ("proc/zoneinfo", lambda root: (Zoneinfo(root).read(), vmstat_module._unfolded_pages(root))),
    ("sys/devices/system/node/online", read_topology),
    ("sys/devices/system/node/has_memory", lambda root: gather(root).nodes),
    ("proc/self/cgroup", shortage),
    ("proc/kallsyms", gather),
    ("proc/kallsyms", lambda root: Symbols(root).names([5])),
    ("etc/os-release", gather),
    ("sys/kernel/tracing/events/vmscan/mm_vmscan_lru_isolate/format", gather),
    ("proc/meminfo", read_levels),
    ("dev/kmsg", lambda root: message((root / "dev/kmsg").read_bytes())),
    ("proc/swaps", lambda root: read_levels(root)),
    ("proc/7/stat", lambda root: read_times(7, root)),
    ("proc/7/status", lambda root: read_placement(7, root)),
    ("proc/7/numa_maps", lambda root: read_placement(7, root)),
    *(
        (f"a/memory.{name}", lambda root, version=version: read_stat(CgroupMount(root, version), "/a"))
        for version, names in ((1, ("stat", "failcnt", "oom_control")), (2, ("stat", "events.local", "pressure")))
        for name in names
    ),
    ("a/memory.current", lambda root: read_memory(CgroupMount(root, 2), "/a")),
    ("a/memory.usage_in_bytes", lambda root: read_memory(CgroupMount(root, 1), "/a")),
)
HOSTILE = (b"\r", b"\x0b", b"\x0c", b"\x1c", b"\x85", b"\xff", b"\xe2\x80\xa8", b"\xd8\x9c", b"_", b"-", b"9" * 30)
TEXT = b"some avg10=0.00 total=7\nCapEff:\t00ff\n7 (x) S 1 2 - cgroup2 cgroup2 rw,memory\nMemTotal: 8 kB\n"
LINES = {
    "proc/vmstat": b"pgsteal_anon 5\npgsteal_file 7\n",
    "proc/zoneinfo": b"Node 0, zone Normal\n  pages free 5\n        min 1\n        low 2\n        high 3\n"
    b"        managed 9\n      nr_inactive_file 4\n  pagesets\n    cpu: 0\n  vm stats threshold: 8\n"
    b"  node_unreclaimable:  0\n",
    "sys/devices/system/node/online": b"0-2,8\n",
    "proc/self/cgroup": b"4:memory:/a/b\n0::/c\n",
}
"""What is well-formed, by the readers' files."""


def put(root: Path, name: str, data: bytes) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(data)


def mountinfo(odd: bytes) -> bytes:
    name = b"".join(ESCAPED.get(byte, bytes([byte])) for byte in odd)
    other = b"40 1 0:40 / /mnt/" + name + b" rw,relatime - tmpfs " + name + b" rw\n"
    group = b"41 1 0:41 / /sys/fs/" + name + b" rw,relatime - cgroup2 cgroup2 rw\n"
    return other + group + other


def odd_names() -> list[bytes]:
    random = Random(8)
    every = bytes(byte for byte in range(1, 256) if byte != ord("/"))
    special = ["\x85", "\u2028", "\r\n", "\\040", " - ", " ends "]
    return [
        *(bytes([byte]) for byte in every if byte != ord(".")),
        *(text.encode() for text in special),
        *(bytes(random.choices(every, k=20)) for _ in range(50)),
    ]


def test_mount_points_of_any_bytes(tmp_path: Path) -> None:
    for number, odd in enumerate(odd_names()):
        root = tmp_path / str(number)
        point = os.path.join(os.fsencode(root), b"sys/fs", odd)
        put(root, "proc/self/mountinfo", mountinfo(odd))
        os.makedirs(point)
        Path(os.fsdecode(point), "cgroup.controllers").write_text("cpu memory\n")
        assert memory_mount(root) == CgroupMount(Path(os.fsdecode(point)), 2), odd
        if number % 20 == 0:  # slower: it reads everything
            assert gather(root).memory_cgroup == 2, odd


def test_cgroups_of_any_bytes_are_found_by_name(tmp_path: Path) -> None:
    for odd in odd_names():
        os.makedirs(os.path.join(os.fsencode(tmp_path), odd), exist_ok=True)
        put(tmp_path, f"{os.fsdecode(odd)}/cgroup.procs", b"")
        assert resolve(CgroupMount(tmp_path, 2), os.fsdecode(odd))[0] == tmp_path / os.fsdecode(odd), odd


def test_process_names_of_any_bytes(tmp_path: Path) -> None:
    for odd in odd_names():
        put(tmp_path, "proc/7/stat", b"7 (" + odd[:15] + b") S 1 " + b"0 " * 17 + b"99 0\n")
        put(tmp_path, "proc/7/cmdline", odd + b"\0x\0")
        found = ProcessNames(tmp_path).read(7)
        assert (found.ppid, found.exited) == (1, False), odd
        assert (found.comm or "\n").isprintable(), odd
        assert (found.cmdline or "\n").isprintable(), odd


@pytest.mark.parametrize(("name", "reader"), READERS)
def test_damaged_and_truncated_files(tmp_path: Path, name: str, reader: Callable[[Path], Any]) -> None:
    random = Random(8)
    text = LINES.get(name, TEXT)
    put(tmp_path, "proc/vmstat", b"")
    put(tmp_path, "proc/zoneinfo", b"")
    end = time.monotonic() + float(os.environ.get("MMWATCH_FUZZ_S", "0"))
    cuts = [text[:length] for length in range(0, len(text), 7)]
    noise = [bytes(random.choices(text + bytes(range(256)), k=200)) for _ in range(30)]
    for data in [*cuts, *noise, *(mixed(text, random) for _ in range(60))]:
        put(tmp_path, name, data)
        reader(tmp_path)  # raises nothing
    while time.monotonic() < end:
        put(tmp_path, name, mixed(text, random))
        reader(tmp_path)


def mixed(text: bytes, random: Random) -> bytes:
    """Well-formed words with others in between."""
    words = re.split(rb"( |\n)", text)
    for _ in range(random.randrange(1, 6)):
        at = random.randrange(len(words))
        words[at : at + random.randrange(3)] = [random.choice(HOSTILE), random.choice(words)]
    return b"".join(words)


def test_what_is_well_formed_beside_garbage_is_read(tmp_path: Path) -> None:
    put(tmp_path, "proc/vmstat", b"pgsteal_anon x\n\xff\x85 1\npgsteal_file 7\n")
    assert Vmstat(tmp_path).read() == {"pgsteal_file": 7}
    zone = LINES["proc/zoneinfo"]
    put(
        tmp_path,
        "proc/zoneinfo",
        b"Node x, zone DMA\n" + zone + zone.replace(b"Node 0", b"Node 1").replace(b"min 1", b"min ?"),
    )
    assert [(state.node, state.min_pages) for state in Zoneinfo(tmp_path).read()] == [(0, 1)]
    put(tmp_path, "sys/devices/system/node/online", b"0,x,-3,2-,4-5,99999999999999\n")
    assert [node.node for node in read_topology(tmp_path)] == [0, 4, 5]


def test_replies_of_taskstats_of_any_bytes() -> None:
    """The kernel's own, but their layout depends on its release."""
    random = Random(8)
    stats = TaskStats.__new__(TaskStats)
    stats._offsets, stats._layouts, stats._delays_on = None, {}, True
    for _ in range(2000):
        reply = bytes(random.choices(range(256), k=random.randrange(400)))
        found = taskstats_module._stats_at(reply)
        if found is not None:
            stats.decode(reply[found[0] : found[0] + found[1]], True)
        stats.decode(reply, False)


@pytest.mark.parametrize(
    "closed", ["sys/kernel/tracing", "sys/kernel/btf", "sys/bus/event_source/devices", "sys/kernel"]
)
def test_a_directory_that_is_not_for_this_user(tmp_path: Path, closed: str) -> None:
    put(tmp_path, f"{closed}/inside", b"")
    (tmp_path / closed).chmod(0)
    user = os.geteuid()
    tmp_path.chmod(0o755)
    here = os.open(tmp_path, os.O_RDONLY)
    before = os.getcwd()
    try:
        os.fchdir(here)  # its parents may be closed to the other user, too
        if user == 0:
            os.seteuid(65534)
        tracefs = Tracefs(Path())
        facts = gather(Path())
    finally:
        os.seteuid(user)
        os.chdir(before)
        os.close(here)
        (tmp_path / closed).chmod(0o755)
    assert (tracefs.state, facts.tracefs) == ("missing", "missing")
    assert tracefs.reason
