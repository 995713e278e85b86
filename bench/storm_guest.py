"""What bench/storm.py runs inside its guest: the founding case on MGLRU, under one probe after the other.

Node 0 is full of page cache and vm.zone_reclaim_mode is 1, so each page touched there costs futile calls of
node_reclaim with five passes each. The guest's clock counts instructions, so times do not depend on the machine.
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
FILE_MIB = 1000
"""More than node 0 can hold."""
ROUNDS = 3
MADV_NOHUGEPAGE = 15
OBSERVER_CPU = 1
"""On the node that is not full, so that the compiler's memory costs no reclaim."""

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
    """Futile calls of node_reclaim so far."""
    text = Path("/proc/vmstat").read_text()
    return int(text.partition("zone_reclaim_failed ")[2].split()[0])


def touch() -> tuple[int, int]:
    """Touch memory on node 0: nanoseconds, and futile calls of node_reclaim."""
    length = TOUCH_MIB << 20
    memory = mmap.mmap(-1, length, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(MADV_NOHUGEPAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    calls_before, began_ns = calls(), time.monotonic_ns()
    ctypes.memset(address, 1, length)
    return time.monotonic_ns() - began_ns, calls() - calls_before


def fill(file: Path) -> None:
    """Fill node 0 with page cache; what does not fit goes to the other node."""
    mode = Path("/proc/sys/vm/zone_reclaim_mode")
    mode.write_text("0")
    with file.open("rb", buffering=0) as whole:
        while whole.read(1 << 20):
            pass
    mode.write_text("1")


def on_node_0(function: Callable[[], Any]) -> Any:
    """Run a function in a child process on node 0, so that its memory is freed; return what it returned."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.sched_setaffinity(0, {0})
            os.write(write_end, json.dumps(function()).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end) as pipe:
        result = json.loads(pipe.read())
    os.waitpid(child, 0)
    return result


def mmwatch_with(**environment: str) -> Callable[[], Callable[[], None]]:
    """mmwatch observing, but printing nothing."""

    def start() -> Callable[[], None]:
        from mmwatch.session.observer import Observer
        from mmwatch.session.target import resolve_target

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
        from mmwatch.abi import bpf_directory

        os.environ["BCC_KERNEL_SOURCE"] = str(bpf_directory() / "include")
        from bcc import BPF

        class Program(BPF):  # type: ignore[misc]
            def _trace_autoload(self) -> None:
                """Attach nothing by name."""

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


def main(folder: Path, wanted: list[str]) -> None:
    """Measure, and write each result to the folder as it comes."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:.1f} billion instructions: {text}", flush=True)

    os.sched_setaffinity(0, {OBSERVER_CPU})
    Path("/sys/kernel/mm/lru_gen/enabled").write_text("y")
    subprocess.run(["mount", "-t", "tracefs", "nodev", "/sys/kernel/tracing"], check=False)
    Path("/run/storm").mkdir()
    subprocess.run(["mount", "/dev/vda", "/run/storm"], check=True)
    file = Path("/run/storm/file")
    with file.open("wb") as whole:
        whole.truncate(FILE_MIB << 20)
    results: dict[str, Any] = {}
    for name, start in TRACERS.items():
        if wanted and name not in wanted:
            continue
        try:
            stop = start()
        except Exception as error:
            results[name] = {"problem": str(error)}
        else:
            say(f"{name}: attached")
            on_node_0(lambda: fill(file))
            on_node_0(touch)  # the first one still finds free pages
            results[name] = {"traced": [on_node_0(touch) for _ in range(ROUNDS)]}
            stop()
            results[name]["untraced"] = [on_node_0(touch) for _ in range(ROUNDS)]
        say(f"{name}: {results[name]}")
        new = folder / "storm.new"
        new.write_text(json.dumps(results))
        new.rename(folder / "storm.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
