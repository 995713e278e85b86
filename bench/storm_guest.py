"""What bench/storm.py runs inside its guest: the founding case on MGLRU, under one probe after the other.

Node 0 is full of page cache, vm.zone_reclaim_mode is 1: each page that is touched there costs futile calls of
node_reclaim, of five passes each. The guest's clock counts instructions, so times do not depend on the machine.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOUCH_MIB = 40
FILE_MIB = 950
ROUNDS = 3
MADV_NOHUGEPAGE = 15

PROGRAMS = """
#include <linux/types.h>
#include <asm/ptrace.h>
int on_raw(struct bpf_raw_tracepoint_args *ctx) { return 0; }
int on_tracepoint(void *ctx) { return 0; }
int on_kprobe(struct pt_regs *ctx) { return 0; }
KFUNC_PROBE(shrink_node, u64 pgdat, u64 sc) { return 0; }
KRETFUNC_PROBE(shrink_node, u64 pgdat, u64 sc) { return 0; }
"""


def calls() -> int:
    """Futile calls of node_reclaim up to now."""
    text = Path("/proc/vmstat").read_text()
    return int(text.partition("zone_reclaim_failed ")[2].split()[0])


def touch() -> tuple[int, int]:
    """Nanoseconds it takes to touch memory on node 0, and the calls of node_reclaim that it took."""
    length = TOUCH_MIB << 20
    memory = mmap.mmap(-1, length, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(MADV_NOHUGEPAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    calls_before, began_ns = calls(), time.monotonic_ns()
    ctypes.memset(address, 1, length)
    return time.monotonic_ns() - began_ns, calls() - calls_before


def in_child() -> tuple[int, int]:
    """:func:`touch` in a process of its own, which gives the memory back."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import storm_guest; print(*storm_guest.touch())"
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, text=True, check=True
    )
    nanoseconds, count = map(int, done.stdout.split())
    return nanoseconds, count


def nothing() -> Callable[[], None]:
    """No tracer."""
    return lambda: None


def mmwatch_with(**environment: str) -> Callable[[], Callable[[], None]]:
    """mmwatch as it observes, without what it prints."""

    def start() -> Callable[[], None]:
        from mmwatch.cli.observe import Observer, resolve_target

        os.environ.update(environment)
        try:
            observer = Observer(resolve_target(), names=False, passes=environment.get("MMWATCH_PASSES") != "none")
        finally:
            for name in environment:
                del os.environ[name]
        return observer.close

    return start


def empty(kind: str) -> Callable[[], Callable[[], None]]:
    """A program that does nothing, on node reclaim's begin or on shrink_node."""

    def start() -> Callable[[], None]:
        from mmwatch.kernel.program import bpf_directory

        os.environ["BCC_KERNEL_SOURCE"] = str(bpf_directory() / "include")
        from bcc import BPF

        class Program(BPF):  # type: ignore[misc]
            def _trace_autoload(self) -> None:
                """Nothing attaches by its name."""

        bpf = Program(text=PROGRAMS)
        event = "mm_vmscan_node_reclaim_begin"
        if kind == "raw tracepoint":
            bpf.load_func(b"on_raw", BPF.RAW_TRACEPOINT)
            bpf.attach_raw_tracepoint(tp=event.encode(), fn_name=b"on_raw")
        elif kind == "tracepoint":
            bpf.load_func(b"on_tracepoint", BPF.TRACEPOINT)
            bpf.attach_tracepoint(tp=f"vmscan:{event}".encode(), fn_name=b"on_tracepoint")
        elif kind in ("kprobe", "kretprobe"):
            bpf.load_func(b"on_kprobe", BPF.KPROBE)
            getattr(bpf, f"attach_{kind}")(event=b"shrink_node", fn_name=b"on_kprobe")
        else:
            function = {"fentry": "kfunc", "fexit": "kretfunc"}[kind]
            for name in (f"{function}__vmlinux__shrink_node", f"{function}__shrink_node"):
                try:
                    getattr(bpf, f"attach_{function}")(fn_name=name.encode())
                    break
                except Exception as error:
                    if "Unknown program" not in str(error):
                        raise
        return lambda: bpf.cleanup()

    return start


TRACERS: dict[str, Callable[[], Callable[[], None]]] = {
    "no tracer": nothing,
    "mmwatch --no-passes": mmwatch_with(MMWATCH_PASSES="none"),
    "mmwatch (passes by fentry)": mmwatch_with(MMWATCH_PASSES="fentry"),
    "mmwatch (passes by kprobe)": mmwatch_with(MMWATCH_PASSES="kprobe"),
    "mmwatch --no-passes, raw tracepoints": mmwatch_with(MMWATCH_PASSES="none", MMWATCH_PROBES="raw tracepoint"),
    "mmwatch --no-passes, through perf": mmwatch_with(MMWATCH_PASSES="none", MMWATCH_PROBES="tracepoint"),
    **{
        f"empty {kind}": empty(kind)
        for kind in ("raw tracepoint", "tracepoint", "fentry", "fexit", "kprobe", "kretprobe")
    },
}


def main() -> None:
    """Measure, and leave the results in the folder named."""
    folder = Path(sys.argv[1])
    os.sched_setaffinity(0, {0})
    Path("/proc/sys/vm/zone_reclaim_mode").write_text("1")
    Path("/sys/kernel/mm/lru_gen/enabled").write_text("y")
    subprocess.run(["mount", "-t", "tracefs", "nodev", "/sys/kernel/tracing"], check=False)
    Path("/run/storm").mkdir()
    subprocess.run(["mount", "/dev/vda", "/run/storm"], check=True)
    file = Path("/run/storm/file")
    with file.open("wb") as whole:
        whole.truncate(FILE_MIB << 20)
    results: dict[str, Any] = {}
    for round_number in range(ROUNDS):
        for name, start in TRACERS.items():
            with file.open("rb", buffering=0) as whole:  # node 0 is full of it, at each turn
                while whole.read(1 << 20):
                    pass
            try:
                stop = start()
            except Exception as error:
                results.setdefault(name, {"problem": str(error)})
                continue
            try:
                results.setdefault(name, {"runs": []})["runs"].append(in_child())
            finally:
                stop()
        (folder / "storm.json").write_text(json.dumps({"rounds": round_number + 1, "results": results}))
    (folder / "done").write_text("")


if __name__ == "__main__":
    main()
