"""Runs a command while shrink_node has as many BPF programs as a function may have (kernel: BPF_MAX_TRAMP_LINKS).

``full.py COMMAND...``: its exit status is the command's.
"""

from __future__ import annotations

import subprocess
import sys

from bcc import BPF
from bcc.libbcc import lib

from mmwatch.kernel.program import environment

MAX = 1000
NAME = b"kfunc__vmlinux__shrink_node"

if __name__ == "__main__":
    with environment():
        program = BPF(text="KFUNC_PROBE(shrink_node) { return 0; }")
    attached = 1
    while attached < MAX:
        program.funcs.pop(NAME, None)  # of bcc's, which would give the same program again
        function = program.load_func(NAME, BPF.TRACING)
        if lib.bpf_attach_kfunc(function.fd) < 0:
            break
        attached += 1
    else:
        sys.exit(f"shrink_node takes more than {MAX} programs")
    print(f"shrink_node has {attached} programs, and takes no other", file=sys.stderr)
    sys.exit(subprocess.run(sys.argv[1:], check=False).returncode)
