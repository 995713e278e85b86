"""Facts about this host that need no BPF: counters, nodes, pressure, settings, cgroups, processes.

Every reader takes ``root``, the directory in which ``proc`` and ``sys`` are found, so that a test can use a tree
of its own. What the kernel does not tell is ``None``, never 0.
"""
