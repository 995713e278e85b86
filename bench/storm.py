"""Cost in the worst storm: futile node reclaim on MGLRU, in instructions, in a virtual machine.

Boots the newest kernel of the laboratory (tests/vm) with two nodes under ``-icount``, so that the guest's clock counts
instructions. Inside, bench/storm_guest.py touches memory on a full node under one probe after the other. This takes
three minutes. ``python -m bench.storm 6.12 "mmwatch --no-passes"`` measures only that tracer, on another kernel.
"""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "vm"))
TIMEOUT_S = 3000
PASSES = 5  # per call: priority 4 to 0


def main() -> None:
    """Print the tables."""
    import lab
    import runner
    from kernels import cache_directory, fetch

    runner.check_tools()
    kernel = next(kernel for kernel in lab.KERNELS if kernel.name == (sys.argv[1:] or ["newest"])[0])
    image = fetch(kernel)
    cache_directory().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="storm-", dir=cache_directory()) as name:
        folder = Path(name)
        disk = runner._disk(folder / "disk.img", 2048)
        command = runner._command(image.vmlinuz, folder, lab.TWO_FAR_NODES, [disk])
        script = folder / "init.sh"
        text = script.read_text().rsplit("exec ", 1)[0]
        words = shlex.join([sys.executable, str(Path(__file__).with_name("storm_guest.py")), name, *sys.argv[2:]])
        script.write_text(f"{text}PYTHONPATH={shlex.quote(str(ROOT))} exec {words}\n")
        command = [f"{word} -icount shift=0,sleep=off" if word.startswith("--qemu-opts=") else word for word in command]
        problem = runner._run(command, folder, TIMEOUT_S)
        found = folder / "storm.json"
        if not found.exists():
            log = folder / "guest.log"
            sys.exit(f"bench: no results: {problem}\n{log.read_text()[-2000:] if log.exists() else ''}")
        results = json.loads(found.read_text())
    if problem:
        print(f"bench: incomplete results: {problem}", file=sys.stderr)
    headings = {False: "| tracer | ratio | more instructions per call |", True: "| empty program on | per hit |"}
    for empty, heading in headings.items():
        print(f"\n{heading}\n|{'---|' * heading.count(' |')}")
        for tracer, result in results.items():
            if tracer.startswith("empty ") != empty:
                continue
            if "problem" in result:
                print(f"| {tracer} | {result['problem']} |")
                continue
            traced, untraced = (median(ns / calls for ns, calls in result[runs]) for runs in ("traced", "untraced"))
            if empty:
                print(f"| {tracer[6:]} | {(traced - untraced) / (1 if 'tracepoint' in tracer else PASSES):.0f} |")
            else:
                print(f"| {tracer} | {traced / untraced:.2f} | {traced - untraced:.0f} on {untraced:.0f} |")


if __name__ == "__main__":
    main()
