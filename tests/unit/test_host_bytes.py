"""Names in the kernel's text hold any byte but NUL: no reader may stumble over them or over a file cut short."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mmwatch.host.cgroups import CgroupMount, memory_mount, resolve
from mmwatch.host.pressure import read_pressure
from mmwatch.host.processes import ProcessNames
from mmwatch.host.settings import read_settings
from mmwatch.kernel.facts import gather
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
)
TEXT = b"some avg10=0.00 total=7\nCapEff:\t00ff\n7 (x) S 1 2 - cgroup2 cgroup2 rw,memory\nMemTotal: 8 kB\n"


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
    cuts = [TEXT[:length] for length in range(0, len(TEXT), 7)]
    for data in [*cuts, *(bytes(random.choices(TEXT + bytes(range(256)), k=200)) for _ in range(30))]:
        put(tmp_path, name, data)
        reader(tmp_path)  # raises nothing


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
