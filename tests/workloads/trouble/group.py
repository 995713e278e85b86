"""A cgroup that is too small for what runs in it: by its own limit, its parent's, or memory.high.

What runs in it: ``--stream`` reads a file in order, once; ``--file`` again and again, ``--random`` at random places;
``--mapped`` executes (maps and touches) one, ``--anon`` writes to anonymous memory, ``--churn`` also gives it back,
``--dirty`` writes a file, ``--dentries`` looks up names that do not exist, ``--pinned`` holds page cache that cannot be
freed. ``--cold``: it does so once and then rests.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import mmap
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable

from load import DISK, MIB, PAGE, Load, anonymous, arguments, idle, once, pin, read_random, read_range, touch

ENDLESS_MIB = 1 << 20


def parse() -> argparse.Namespace:
    parser = arguments(__doc__ or "")
    parser.add_argument("--max", type=int, help="memory.max, MiB")
    parser.add_argument("--high", type=int, help="memory.high, MiB")
    parser.add_argument("--parent-max", type=int, help="memory.max of the parent, MiB")
    parser.add_argument("--file", type=int, default=0, help="MiB")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--real", action="store_true", help="files are not sparse, so reading them is I/O")
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--share", type=float, default=1.0, help="of a CPU for each reader")
    parser.add_argument("--mapped", type=int, default=0, help="MiB")
    parser.add_argument("--anon", type=int, default=0, help="MiB for each process")
    parser.add_argument("--churn", type=int, default=0, help="MiB for each process")
    parser.add_argument("--incompressible", action="store_true", help="fill anonymous memory with random bytes")
    parser.add_argument("--dirty", type=int, default=0, help="MiB")
    parser.add_argument("--dentries", action="store_true")
    parser.add_argument("--pinned", type=int, default=0, help="MiB")
    parser.add_argument("--processes", type=int, default=1, help="of each kind")
    parser.add_argument("--zram", type=int, default=0, help="MiB of swap on zram")
    parser.add_argument("--cold", action="store_true")
    return parser.parse_args()


def anon_work(mib: int, incompressible: bool) -> Callable[[], object]:
    held: list[mmap.mmap] = []

    def work() -> None:
        if not held:
            held.append(anonymous(mib))
            if incompressible:
                for offset in range(0, mib * MIB, PAGE):
                    held[0][offset : offset + PAGE] = os.urandom(PAGE)
        touch(held[0])

    return work


def churn_work(mib: int) -> None:
    with anonymous(mib) as memory:
        touch(memory)


def mapped_work(fd: int, mib: int) -> Callable[[], object]:
    memory = mmap.mmap(fd, mib * MIB, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)

    def work() -> None:
        for _ in range(256):
            memory[random.randrange(mib * MIB // PAGE) * PAGE]

    return work


def dirty_work(fd: int, mib: int) -> Callable[[], object]:
    block = b"x" * MIB

    def work() -> None:
        for number in range(mib):
            os.pwrite(fd, block, number * MIB)

    return work


def dentry_work(folder: str, note: str) -> Callable[[], object]:
    numbers = itertools.count()

    def work() -> None:
        for number in itertools.islice(numbers, 1000):
            os.access(f"{folder}/there-is-no-file-of-this-long-name-and-there-never-was-one-{note}-{number}", os.F_OK)

    return work


def pinned_work(fd: int, mib: int) -> Callable[[], object]:
    def work() -> None:
        pipes = []
        for begin in range(0, mib * MIB, MIB):
            read_range(fd, begin, MIB)
            pipes.extend(pin(fd, begin, 1))
        idle()

    return work


def read_work(options: argparse.Namespace, fd: int) -> Callable[[], object]:
    if options.random:
        return lambda: read_random(fd, options.file)
    return lambda: read_range(fd, 0, options.file * MIB, share=options.share)


def works(options: argparse.Namespace, load: Load) -> list[tuple[str, Callable[[], object]]]:
    found: list[tuple[str, Callable[[], object]]] = []
    for _ in range(options.processes):
        if options.file:
            found.append(("mmw-read", read_work(options, load.file(options.file, not options.real).fileno())))
        if options.stream:
            fd = load.file(ENDLESS_MIB).fileno()
            found.append(("mmw-stream", functools.partial(read_range, fd, 0, ENDLESS_MIB * MIB)))
        if options.churn:
            found.append(("mmw-churn", functools.partial(churn_work, options.churn)))
        if options.mapped:
            fd = load.file(options.mapped, not options.real).fileno()
            found.append(("mmw-exec", mapped_work(fd, options.mapped)))
        if options.anon:
            found.append(("mmw-anon", anon_work(options.anon, options.incompressible)))
        if options.dirty:
            found.append(("mmw-write", dirty_work(load.file(options.dirty).fileno(), options.dirty)))
    if options.dentries:
        folder = tempfile.mkdtemp(dir=DISK, prefix="mmwatch-names-")
        load.undo(lambda: shutil.rmtree(folder))
        found += [("mmw-dentries", dentry_work(folder, str(each))) for each in range(options.processes)]
    if options.pinned:
        found.insert(0, ("mmw-pinned", pinned_work(load.file(options.pinned).fileno(), options.pinned)))
    return [(comm, once(work) if options.cold else work) for comm, work in found]


def limits(options: argparse.Namespace) -> dict[str, str]:
    found = {}
    for file, mib in (("memory.max", options.max), ("memory.high", options.high)):
        if mib:
            found[file] = str(mib * MIB)
    return found


def main() -> None:
    options = parse()
    with Load(options.seconds) as load:
        if options.zram:
            load.zram(options.zram)
        parent = load.cgroup({"memory.max": str(options.parent_max * MIB)}) if options.parent_max else None
        cgroup = load.cgroup(limits(options), parent)
        for comm, work in works(options, load):
            load.worker(work, comm, cgroup)

        def reached() -> bool:
            return load.events("high") + load.events("max") > 0

        def resting() -> bool:
            """At its limit, and nothing has been charged for a second."""
            if not reached():
                return False
            before = (cgroup / "memory.stat").read_text()
            time.sleep(1)
            return before == (cgroup / "memory.stat").read_text()

        load.run(resting if options.cold else reached)


if __name__ == "__main__":
    main()
