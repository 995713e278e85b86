"""Reading BTF: a small blob made by hand, the running kernel's, and garbage."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from mmwatch.kernel.btf import VMLINUX, Btf

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF = range(1, 9)
CONST, FUNC_PROTO = 10, 13
NAMES = ["task", "inner", "colour", "size_t", "btf_trace_hit"]


class Maker:
    """Writes types one after the other, as Documentation/bpf/btf.rst lays them out."""

    def __init__(self) -> None:
        self.strings = bytearray(b"\0")
        self.types = bytearray()
        self.count = 0

    def name(self, text: str) -> int:
        if not text:
            return 0
        self.strings += text.encode() + b"\0"
        return len(self.strings) - len(text) - 1

    def add(self, name: str, kind: int, size_or_type: int, *words: int, vlen: int = 0, flag: int = 0) -> int:
        info = flag << 31 | kind << 24 | vlen
        self.types += struct.pack(f"={3 + len(words)}I", self.name(name), info, size_or_type, *words)
        self.count += 1
        return self.count

    def blob(self) -> bytes:
        header = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self.types), len(self.types), len(self.strings))
        return header + bytes(self.types) + bytes(self.strings)


def small() -> bytes:
    """::

    struct task {            // 32 bytes
        int pid;             // 0
        union { long a; int b; };  // 8, anonymous
        unsigned bits:3;     // 16, a bit field
        size_t length;       // 24: typedef of const long
    };
    enum colour { RED = 7 };
    typedef void (*btf_trace_hit)(void *, int, size_t, struct task *);
    """
    make = Maker()
    integer = make.add("int", INT, 4, 32)
    long = make.add("long", INT, 8, 64)
    const_long = make.add("", CONST, long)
    size_t = make.add("size_t", TYPEDEF, const_long)
    union = make.add("", UNION, 8, make.name("a"), long, 0, make.name("b"), integer, 0, vlen=2)
    task = make.add(
        "task",
        STRUCT,
        32,
        *(make.name("pid"), integer, 0),
        *(0, union, 64),
        *(make.name("bits"), integer, 3 << 24 | 128),
        *(make.name("length"), size_t, 192),
        vlen=4,
        flag=1,
    )
    make.add("colour", ENUM, 4, make.name("RED"), 7, vlen=1)
    void_pointer = make.add("", PTR, 0)
    task_pointer = make.add("", PTR, task)
    arguments = [void_pointer, integer, size_t, task_pointer]
    proto = make.add("", FUNC_PROTO, 0, *(word for each in arguments for word in (0, each)), vlen=4)
    pointer = make.add("", PTR, proto)
    make.add("btf_trace_hit", TYPEDEF, pointer)
    return make.blob()


def test_members_with_those_of_anonymous_unions_and_bit_fields() -> None:
    assert Btf(small(), NAMES).members("task") == {
        "pid": (0, 4),
        "a": (8, 8),
        "b": (8, 4),
        "bits": (16, 4),
        "length": (24, 8),
    }


def test_sizes_and_enumerators() -> None:
    btf = Btf(small(), NAMES)
    assert btf.size("task") == 32
    assert btf.enumerator("colour", "RED") == 7
    assert btf.enumerator("colour", "GREEN") is None


def test_arguments_of_a_raw_tracepoint() -> None:
    assert Btf(small(), NAMES).raw_arguments("hit") == ("int", "size_t", "task *")


def test_what_is_not_there_is_not_known() -> None:
    btf = Btf(small(), [*NAMES, "nothing"])
    assert btf.members("nothing") == {}
    assert btf.size("nothing") is None
    assert btf.enumerator("task", "RED") is None
    assert btf.raw_arguments("nothing") is None


def test_what_was_not_asked_for_is_not_looked_at() -> None:
    assert Btf(small(), ["colour"]).members("task") == {}


def ask_everything(blob: bytes) -> None:
    btf = Btf(blob, NAMES)
    btf.members("task")
    btf.size("task")
    btf.enumerator("colour", "RED")
    btf.raw_arguments("hit")


@pytest.mark.parametrize("length", range(0, len(small()), 3))
def test_a_truncated_blob_raises_value_error_at_most(length: int) -> None:
    try:
        ask_everything(small()[:length])
    except ValueError:
        return


@pytest.mark.parametrize("seed", range(200))
def test_garbage_raises_value_error_at_most(seed: int) -> None:
    chance = random.Random(seed)
    blob = bytearray(small())
    for _ in range(chance.randint(1, 8)):
        blob[chance.randrange(4, len(blob))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    try:
        ask_everything(bytes(blob))
    except ValueError:
        return


@pytest.mark.parametrize("blob", [b"", b"\x9f\xeb", bytes(64), random.Random(1).randbytes(4096)])
def test_what_is_no_btf_is_refused(blob: bytes) -> None:
    with pytest.raises(ValueError, match="BTF"):
        Btf(blob, NAMES)


def test_no_file_is_no_btf(tmp_path: Path) -> None:
    assert Btf.of_kernel(NAMES, tmp_path) is None
    (tmp_path / VMLINUX).parent.mkdir(parents=True)
    (tmp_path / VMLINUX).write_bytes(b"garbage" * 100)
    assert Btf.of_kernel(NAMES, tmp_path) is None


def test_the_running_kernels() -> None:
    """Oracle: sizes that the architecture and the user-space ABI fix."""
    if not Path("/", VMLINUX).exists():
        pytest.skip("this kernel has no BTF")
    btf = Btf.of_kernel(["taskstats", "task_struct", "list_head", "btf_trace_mm_vmscan_direct_reclaim_begin"])
    if btf is None:
        pytest.skip("BTF of this kernel cannot be read by this user")
    assert btf.size("list_head") == 2 * struct.calcsize("P")
    assert btf.members("taskstats")["version"] == (0, 2)  # include/uapi/linux/taskstats.h
    assert btf.members("task_struct")["pid"][1] == 4
    assert btf.raw_arguments("mm_vmscan_direct_reclaim_begin") is not None
