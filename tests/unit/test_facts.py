"""Facts of hosts that are folders, and the tracefs formats they are read from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmwatch.kernel.facts import Facts, _address, gather
from mmwatch.kernel.tracefs import Tracefs

FORMAT = """\
name: mm_vmscan_direct_reclaim_begin
ID: 123
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:int order;\toffset:8;\tsize:4;\tsigned:1;
\tfield:unsigned long gfp_flags;\toffset:16;\tsize:8;\tsigned:0;
\tfield:char comm[16];\toffset:24;\tsize:16;\tsigned:0;
\tfield:__data_loc char[] name;\toffset:40;\tsize:4;\tsigned:0;

print fmt: "order=%d gfp_flags=%s field:int lie;\toffset:0", REC->order, REC->gfp_flags
"""
BEGIN = "vmscan:mm_vmscan_direct_reclaim_begin"


def put(root: Path, path: str, text: str) -> Path:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)
    return root


def event_file(mount: str) -> str:
    return f"{mount}/events/{BEGIN.replace(':', '/')}/format"


# ---- tracefs ----


@pytest.mark.parametrize("mount", ["sys/kernel/tracing", "sys/kernel/debug/tracing"])
def test_fields_of_a_mounted_tracefs(tmp_path: Path, mount: str) -> None:
    put(tmp_path, event_file(mount), FORMAT)
    found = Tracefs(tmp_path)
    assert (found.state, found.reason) == ("mounted", "")
    assert found.fields(BEGIN) == {"common_type", "common_pid", "order", "gfp_flags", "comm", "name"}


def test_an_event_that_is_not_there(tmp_path: Path) -> None:
    put(tmp_path, event_file("sys/kernel/tracing"), FORMAT)
    assert Tracefs(tmp_path).fields("vmscan:no_such") is None


def test_an_empty_mount_point_is_no_tracefs(tmp_path: Path) -> None:
    (tmp_path / "sys/kernel/tracing").mkdir(parents=True)
    found = Tracefs(tmp_path)
    assert (found.state, found.path) == ("missing", None)
    assert found.reason
    assert found.fields(BEGIN) is None
    found.close()


@pytest.mark.parametrize("text", ["", "garbage", "\tfield:", "\tfield:;\toffset:", "\0\0"])
def test_a_format_that_is_none(tmp_path: Path, text: str) -> None:
    put(tmp_path, event_file("sys/kernel/tracing"), text)
    assert Tracefs(tmp_path).fields(BEGIN) == frozenset()


GFP_OF_6_18 = """\
{( unsigned long)((((((( gfp_t)(((((1UL))) << (10))|((((1UL))) << (11)))) | (( gfp_t)((((1UL))) << \
(6))) | (( gfp_t)((((1UL))) << (7))) | (( gfp_t)((((1UL))) << (20)))) | (( gfp_t)((((1UL))) << \
(1)))) | (( gfp_t)((((1UL))) << (3))) | (( gfp_t)0)) | (( gfp_t)((((1UL))) << (18))) | (( \
gfp_t)((((1UL))) << (19))) | (( gfp_t)((((1UL))) << (13)))) & ~(( gfp_t)(((((1UL))) << \
(10))|((((1UL))) << (11))))), "GFP_TRANSHUGE_LIGHT"}, {( unsigned long)(( gfp_t)((((1UL))) << (6))), \
"__GFP_IO"}, { 0, ((void *)0) }"""
GFP_OF_5_10 = """{(unsigned long)((((( gfp_t)(0x400u|0x800u)) | (( gfp_t)0x40u) | (( gfp_t)0x80u)) \
| (( gfp_t)0x100000u))), "GFP_USER"}, {(unsigned long)(( gfp_t)0x40u), "__GFP_IO"}"""


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (GFP_OF_6_18, {"GFP_TRANSHUGE_LIGHT": 0x1C20CA, "__GFP_IO": 0x40}),
        (GFP_OF_5_10, {"GFP_USER": 0x100CC0, "__GFP_IO": 0x40}),
        ('{1 << ___GFP_IO_BIT, "UNRESOLVED"}, {2, "KNOWN"}', {"KNOWN": 2}),
        ('{__import__("os"), "CODE"}, {(1)(2), "CALL"}, {1 << 99999999999, "LARGE"}, {, "NONE"}', {"LARGE": 1 << 64}),
    ],
)
def test_names_of_flags(tmp_path: Path, flags: str, names: dict[str, int]) -> None:
    line = f'print fmt: "gfp_flags=%s", (REC->gfp_flags) ? __print_flags(REC->gfp_flags, "|", {flags} ) : "none"\n'
    put(tmp_path, event_file("sys/kernel/tracing"), FORMAT.partition("print fmt")[0] + line)
    found = Tracefs(tmp_path).flags(BEGIN)
    assert found == names
    assert list(found) == list(names)  # combinations come first
    assert gather(tmp_path).gfp_flags == names
    assert Tracefs(tmp_path).flags("vmscan:no_such") == {}


# ---- facts ----


def test_of_an_empty_host(tmp_path: Path) -> None:
    facts = gather(tmp_path)
    assert facts.distribution == ()
    assert facts.capabilities is None
    assert facts.btf is False
    assert (facts.tracefs, facts.fields, facts.raw_arguments) == ("missing", {}, {})
    assert (facts.lockdown, facts.lru_gen, facts.memory_cgroup, facts.pid_namespace) == (None, None, None, 0)
    assert facts.nodes == (0,)


def test_btf_that_is_damaged_is_not_known(tmp_path: Path) -> None:
    put(tmp_path, "sys/kernel/btf/vmlinux", "no BTF at all, but a file of some length")
    assert gather(tmp_path).btf is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('ID=debian\nVERSION_ID="12"\n', ("debian",)),
        ('NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\n', ("rocky", "rhel", "centos", "fedora")),
        ("nonsense", ()),
    ],
)
def test_distribution(tmp_path: Path, text: str, expected: tuple[str, ...]) -> None:
    assert gather(put(tmp_path, "etc/os-release", text)).distribution == expected


@pytest.mark.parametrize(("text", "expected"), [("0\n", False), ("1\n", True), (None, None)])
def test_what_may_switch_probes_off(tmp_path: Path, text: str | None, expected: bool | None) -> None:
    for path in ("sys/kernel/debug/kprobes/enabled", "proc/sys/kernel/ftrace_enabled"):
        if text is not None:
            put(tmp_path, path, text)
    facts = gather(tmp_path)
    assert (facts.kprobes_fire, facts.ftrace_enabled) == (expected, expected)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("0000000000000000", frozenset()),
        ("000000c000000000", {"CAP_PERFMON", "CAP_BPF"}),
        ("000001ffffffffff", {"CAP_PERFMON", "CAP_BPF", "CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYSLOG"}),
    ],
)
def test_capabilities(tmp_path: Path, mask: str, expected: frozenset[str]) -> None:
    put(tmp_path, "proc/self/status", f"Name:\tx\nCapPrm:\t{'f' * 16}\nCapEff:\t{mask}\nCapBnd:\t{'f' * 16}\n")
    assert gather(tmp_path).capabilities == expected


@pytest.mark.parametrize(
    ("version", "chosen", "expected"),
    [
        ("#1 SMP Debian 5.10.251-1 (2026-10-01)\n", None, False),
        ("#1 SMP PREEMPT Tue\n", None, True),
        ("#1 SMP PREEMPT_RT Tue\n", None, True),
        ("#1 SMP PREEMPT_DYNAMIC Tue\n", "none (voluntary) full\n", False),
        ("#1 SMP PREEMPT_DYNAMIC Tue\n", "(none) voluntary full lazy\n", False),
        ("#1 SMP PREEMPT_DYNAMIC Tue\n", "none voluntary (full)\n", True),
        ("#1 SMP PREEMPT_DYNAMIC Tue\n", "full (lazy)\n", True),
        ("#1 SMP PREEMPT_DYNAMIC Tue\n", None, None),
        (None, "none voluntary (full)\n", None),
    ],
)
def test_preemption(tmp_path: Path, version: str | None, chosen: str | None, expected: bool | None) -> None:
    for path, text in (("proc/sys/kernel/version", version), ("sys/kernel/debug/sched/preempt", chosen)):
        if text is not None:
            put(tmp_path, path, text)
    assert gather(tmp_path).preemptible is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ffffffff81000000 T vmemmap_base_init\nffffffffa2f3a010 D vmemmap_base\n", 0xFFFFFFFFA2F3A010),
        ("ffffffffa2f3a010 d vmemmap_base\n", 0xFFFFFFFFA2F3A010),
        ("0000000000000000 D vmemmap_base\n", None),  # kernel.kptr_restrict
        ("ffffffffa2f3a010 T vmemmap_base\n", None),  # a function
        ("ffffffffc0003010 d vmemmap_base\t[module]\n", None),
        (None, None),
    ],
)
def test_the_address_of_a_variable(tmp_path: Path, text: str | None, expected: int | None) -> None:
    if text is not None:
        put(tmp_path, "proc/kallsyms", text)
    assert _address("vmemmap_base", tmp_path) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[none] integrity confidentiality\n", "none"),
        ("none [integrity] confidentiality\n", "integrity"),
        ("none integrity [confidentiality]\n", "confidentiality"),
        ("", None),
    ],
)
def test_lockdown(tmp_path: Path, text: str, expected: str | None) -> None:
    assert gather(put(tmp_path, "sys/kernel/security/lockdown", text)).lockdown == expected


@pytest.mark.parametrize(("text", "expected"), [("0\n", (0,)), ("0-1\n", (0, 1)), ("0,2-4\n", (0, 2, 3, 4))])
def test_nodes(tmp_path: Path, text: str, expected: tuple[int, ...]) -> None:
    assert gather(put(tmp_path, "sys/devices/system/node/has_memory", text)).nodes == expected


@pytest.mark.parametrize(("text", "expected"), [("0x0007\n", 7), ("0x0000\n", 0)])
def test_lru_gen(tmp_path: Path, text: str, expected: int) -> None:
    assert gather(put(tmp_path, "sys/kernel/mm/lru_gen/enabled", text)).lru_gen == expected


V1 = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
V2 = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("mounts", "controllers", "expected"),
    [(V1 + V2, "", 1), (V2 + V1, "memory", 1), (V2, "cpu memory\n", 2), (V2, "cpu\n", None), (V2, None, None)],
)
def test_memory_cgroup(tmp_path: Path, mounts: str, controllers: str | None, expected: int | None) -> None:
    put(tmp_path, "proc/self/mountinfo", mounts)
    if controllers is not None:
        put(tmp_path, "sys/fs/cgroup/unified/cgroup.controllers", controllers)
    assert gather(tmp_path).memory_cgroup == expected


def test_of_this_host() -> None:
    """Oracle: what Python and /proc say of it."""
    facts = gather()
    assert isinstance(facts, Facts)
    assert facts.kernel == os.uname().release
    assert facts.root == (os.geteuid() == 0)
    assert facts.capabilities is not None
    assert facts.nodes


def test_gathering_changes_no_mount() -> None:
    before = Path("/proc/self/mountinfo").read_text()
    open_before = os.listdir("/proc/self/fd")
    gather()
    assert Path("/proc/self/mountinfo").read_text() == before
    assert os.listdir("/proc/self/fd") == open_before
