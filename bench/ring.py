"""Draining the ring buffer: records per CPU second of the drain, with every drop counted.

Two processes call getppid as fast as they can. For each call a raw tracepoint puts a record of the size of ``struct
record`` into a ring buffer, or counts a drop. Drained and dropped records must add up to the calls seen.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np

from mmwatch.abi import bpf_directory
from mmwatch.kernel.ring import Ring

CALLS = 3_000_000
RING_BYTES = 8 << 20

PROGRAM = """
#include <linux/types.h>
#include <asm/ptrace.h>
#include "abi.h"
BPF_RINGBUF_OUTPUT(records, %d);
BPF_ARRAY(record_layout, struct record, 1);
BPF_ARRAY(counts, u64, 2);
int on_enter(struct bpf_raw_tracepoint_args *ctx)
{
	struct record *r;
	u32 kept = 0, dropped = 1;
	u64 *count;

	if (ctx->args[1] != 110 && ctx->args[1] != 173) /* getppid on x86_64 and arm64 */
		return 0;
	r = records.ringbuf_reserve(sizeof(*r));
	count = counts.lookup(r ? &kept : &dropped);
	if (count)
		__sync_fetch_and_add(count, 1);
	if (!r)
		return 0;
	r->time_ns = bpf_ktime_get_ns();
	r->kind = 0;
	records.ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return 0;
}
"""


def flood() -> int:
    """Fork a process that makes the calls."""
    pid = os.fork()
    if pid == 0:
        for _ in range(CALLS):
            os.getppid()
        os._exit(0)
    return pid


def main() -> None:
    """Print the figures."""
    os.environ["BCC_KERNEL_SOURCE"] = str(bpf_directory() / "include")
    from bcc import BPF

    pages = RING_BYTES // os.sysconf("SC_PAGE_SIZE")
    bpf = BPF(text=PROGRAM % pages, cflags=[f"-I{bpf_directory()}", f"-DPAGE_SIZE={os.sysconf('SC_PAGE_SIZE')}"])
    bpf.load_func(b"on_enter", BPF.RAW_TRACEPOINT)
    dtype = np.dtype(bpf[b"record_layout"].Leaf)
    ring = Ring(bpf[b"records"].map_fd, RING_BYTES, dtype)
    bpf.attach_raw_tracepoint(tp=b"sys_enter", fn_name=b"on_enter")
    running = {flood() for _ in range(2)}
    drained, cpu_began = 0, time.process_time()
    while True:
        ended = not running
        count = len(ring.drain())
        drained += count
        if ended and not count:
            break
        time.sleep(0.003)
        for pid in list(running):
            if os.waitpid(pid, os.WNOHANG)[0]:
                running.discard(pid)
    cpu_s = time.process_time() - cpu_began
    kept, dropped = (int(bpf[b"counts"][index].value) for index in range(2))
    print(f"| records of {dtype.itemsize} bytes | drained | dropped | CPU s of the drain | per CPU second |")
    print("|---|---|---|---|---|")
    print(f"| {kept + dropped} | {drained} | {dropped} | {cpu_s:.2f} | {drained / cpu_s / 1e6:.1f} M |")
    if drained != kept:
        sys.exit(f"bench: {kept} records were submitted, {drained} drained")


if __name__ == "__main__":
    main()
