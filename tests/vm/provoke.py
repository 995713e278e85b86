"""Boots a kernel once, provokes the troubles of troubles.py in it, and has a command look at each.

``python tests/vm/provoke.py KERNEL [NAME...]`` says which counters moved, whether as troubles.py expects, and where
everything is: ``LRU-NAME.json`` has the counters' differences, the observer's output and the load's lines;
``LRU-NAME.mmw`` is a recording, which ``mmwatch diagnose --from`` judges. It fails if
a load did not do what it is for, whatever the observer said.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kernels import MissingError, cache_directory, fetch
from lab import CLASSIC, DISK_MIB, KERNELS, MGLRU, SWAP_MIB, TWO_FAR_NODES, Kernel
from runner import CHECKOUT, _command, _disk, _run, _swap, check_tools, collect
from trouble import Trouble, moved, unmet
from trouble_guest import OBSERVE_S, READY_S, STOP_S
from troubles import MODULES, TROUBLES

BOOT_S = 300.0


def chosen(kernel: Kernel, names: Sequence[str], lru: str | None) -> list[tuple[str, Trouble]]:
    """What is provoked, in this order: kinds of LRU and troubles."""
    return [
        (kind, trouble)
        for kind in (CLASSIC, MGLRU)
        if kind in kernel.lrus and lru in (None, kind)
        for trouble in TROUBLES
        if trouble.runs_on(kernel, kind) and (not names or trouble.name in names)
    ]


def boot(kernel: Kernel, troubles: Sequence[tuple[str, Trouble]], observe: str = "") -> Path:
    """Run one guest; the folder with its results."""
    check_tools()
    image = fetch(kernel)
    runs = cache_directory() / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"trouble-{kernel.name}-", dir=runs))
    print(folder, flush=True)
    job = {
        "checkout": str(CHECKOUT),
        "cpus": len(TWO_FAR_NODES.nodes_mib),
        "observe": observe,
        "troubles": [(lru, asdict(trouble)) for lru, trouble in troubles],
    }
    (folder / "job.json").write_text(json.dumps(job))
    disks = [_disk(folder / "disk.img", DISK_MIB), _swap(folder / "swap.img", SWAP_MIB)]
    command = _command(image.vmlinuz, folder, TWO_FAR_NODES, disks, kernel.options, "trouble_guest.py", MODULES)
    try:
        problem = _run(command, folder, BOOT_S + len(troubles) * (READY_S + OBSERVE_S + STOP_S))
    finally:
        for disk in disks:
            disk.unlink()
    if problem:
        print(problem, file=sys.stderr)
    return folder


def problems(trouble: Trouble, result: dict[str, Any]) -> list[str]:
    """Why this result says nothing, or something else than it should."""
    if result["error"]:
        return [result["error"]]
    ready, *rest = result["lines"]
    notes = [] if ready["steady"] else ["not steady"]
    notes += unmet(trouble, result["moved"])
    if result["stopped"] != 0 or result["left"]:
        notes.append(f"stopped {result['stopped']}, left {result['left']}")
    if rest and rest[-1]["dead"]:
        notes.append("workers died")
    return notes


def summary(trouble: Trouble, result: dict[str, Any], notes: list[str]) -> str:
    """One line: whether it was provoked, and what shows it."""
    if result["error"]:
        return f"FAILED {result['error']}"
    figures = " ".join(f"{name}={moved(result['moved'], name)}" for name, _ in (*trouble.shows, *trouble.flat))
    observer = f"observer {result['observer']['status']} in {result['observer']['seconds']} s"
    return f"{'; '.join(notes) or 'as expected'} (ready in {result['ready_s']} s, {observer}) {figures}"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="boot a kernel and provoke troubles in it")
    parser.add_argument("kernel", choices=[kernel.name for kernel in KERNELS])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(each.name for each in TROUBLES)}")
    parser.add_argument("--lru", choices=(CLASSIC, MGLRU), help="only with this one")
    parser.add_argument(
        "--observe", default="", help="command that looks at each; else mmwatch records it: LRU-NAME.mmw"
    )
    options = parser.parse_intermixed_args(argv)
    if unknown := set(options.names) - {trouble.name for trouble in TROUBLES}:
        parser.error(f"no such trouble: {', '.join(sorted(unknown))}")
    kernel = next(each for each in KERNELS if each.name == options.kernel)
    troubles = chosen(kernel, options.names, options.lru)
    began = time.monotonic()
    folder = boot(kernel, troubles, options.observe)
    results = collect(folder)
    failed = 0
    for lru, trouble in troubles:
        name = f"{lru}-{trouble.name}"
        found = results.cases.get(name)
        notes = problems(trouble, found) if found else ["no result"]
        failed += bool(notes)
        print(f"{name}: {summary(trouble, found, notes) if found else notes[0]}")
    print(f"{time.monotonic() - began:.0f} s, {folder}")
    print(json.dumps(results.done) if results.done else results.problem)
    return 1 if failed or results.done is None else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the guest is to end with us
    try:
        sys.exit(main(sys.argv[1:]))
    except MissingError as error:
        print(f"provoke: {error}", file=sys.stderr)
        sys.exit(69)
