"""Runs a command while shrink_node has as many BPF programs as a function may have (kernel: BPF_MAX_TRAMP_LINKS).

``full.py COMMAND...``: its exit status is the command's.
"""

from __future__ import annotations

import os
import subprocess
import sys

from bcc import BPF
from bcc.libbcc import lib

from mmwatch.kernel.program import bpf_directory

MAX = 1000

if __name__ == "__main__":
    os.environ["BCC_KERNEL_SOURCE"] = str(bpf_directory() / "include")
    program = BPF(text="KFUNC_PROBE(shrink_node) { return 0; }")
    (name,) = program.funcs  # loaded and attached by bcc itself; releases of it name it differently
    attached = 1
    while attached < MAX:
        del program.funcs[name]  # or bcc gives the same program again
        function = program.load_func(name, BPF.TRACING)
        if lib.bpf_attach_kfunc(function.fd) < 0:
            break
        attached += 1
    else:
        sys.exit(f"shrink_node takes more than {MAX} programs")
    print(f"shrink_node has {attached} programs, and takes no other", file=sys.stderr)
    sys.exit(subprocess.run(sys.argv[1:], check=False).returncode)
