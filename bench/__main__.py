"""``python -m bench [NAME ...]``: run the measurements and print their results, with the machine they ran on."""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import sys
from pathlib import Path

NAMES = ("startup", "snapshot", "cost", "ring", "recording", "overhead", "storm", "screen", "verdict")


def main() -> int:
    """Run the named measurements, or all of them."""
    names = sys.argv[1:] or NAMES
    print(f"{platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    root = Path(__file__).parents[1]
    for name in names:
        if name not in NAMES:
            print(f"bench: no measurement is named {name}; choose from: {', '.join(NAMES)}", file=sys.stderr)
            return 64
        module = importlib.import_module(f"bench.{name}")
        print(f"\n## {name}: {(module.__doc__ or '').strip().splitlines()[0]}\n", flush=True)
        # One process each, so that none pays for what another has imported or left in memory.
        subprocess.run([sys.executable, "-m", f"bench.{name}"], cwd=root, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
