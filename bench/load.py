"""A reclaim load of known shape: threads that stream sparse files through a memory cgroup too small for them.

It is a separate program, so that it does not share an interpreter with what is measured.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time

from mmwatch.host.cgroups import OwnCgroup, memory_mount


def work(
    descriptor: int, file_bytes: int, buffer: bytearray, offset: int, pause_s: float, until: float, rounds: int
) -> None:
    """Read one chunk after another, from ``offset`` on. The data is thrown away."""
    chunk_bytes = len(buffer)
    while time.monotonic() < until and rounds:
        os.preadv(descriptor, [buffer], offset)
        offset = (offset + chunk_bytes * 7) % (file_bytes - chunk_bytes)
        rounds -= 1
        if pause_s:
            time.sleep(pause_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit-mib", type=int, default=64)
    parser.add_argument("--file-mib", type=int, default=4096)
    parser.add_argument("--chunk-kib", type=int, default=1024)
    parser.add_argument("--pause-s", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=-1, help="most chunks that a thread reads; -1 for no limit")
    arguments = parser.parse_args()
    threading.stack_size(128 << 10)
    with OwnCgroup.create(memory_mount(), f"mmwatch-bench-{os.getpid()}", arguments.limit_mib << 20) as group:
        children = []
        for _ in range(arguments.processes):
            pid = os.fork()
            if pid:
                children.append(pid)
                continue
            group.add(0)
            with tempfile.TemporaryFile(dir="/var/tmp") as file:
                file_bytes = arguments.file_mib << 20
                os.ftruncate(file.fileno(), file_bytes)
                until = time.monotonic() + arguments.seconds
                span = file_bytes // arguments.threads
                shape = (file_bytes, bytearray(arguments.chunk_kib << 10))
                rest = (arguments.pause_s, until, arguments.rounds)
                threads = [
                    threading.Thread(target=work, args=(file.fileno(), *shape, span * n, *rest))
                    for n in range(arguments.threads)
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            os._exit(0)
        for child in children:
            os.waitpid(child, 0)


if __name__ == "__main__":
    main()
