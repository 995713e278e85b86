"""Runs a command while shrink_node has almost as many BPF programs as the kernel allows (BPF_MAX_TRAMP_LINKS).

``full.py ROOM COMMAND...`` leaves room for ROOM more. The exit status is the command's.
"""

from __future__ import annotations

import os
import subprocess
import sys

from bcc import BPF
from bcc.libbcc import lib

from mmwatch.abi import bpf_directory

MAX = 1000

if __name__ == "__main__":
    os.environ["BCC_KERNEL_SOURCE"] = str(bpf_directory() / "include")
    program = BPF(text="KFUNC_PROBE(shrink_node) { return 0; }")
    (name,) = program.funcs  # loaded and attached by bcc itself; its name depends on the bcc release
    links: list[int] = []
    while len(links) < MAX:
        del program.funcs[name]  # otherwise bcc returns the same program again
        function = program.load_func(name, BPF.TRACING)
        links.append(lib.bpf_attach_kfunc(function.fd))
        if links[-1] < 0:
            break
    else:
        sys.exit(f"shrink_node takes more than {MAX} programs")
    room = int(sys.argv[1])
    print(f"shrink_node has {len(links) - room} programs, and takes {room} more", file=sys.stderr)
    for link in links[-1 - room : -1]:
        os.close(link)
    sys.exit(subprocess.run(sys.argv[2:], check=False).returncode)
