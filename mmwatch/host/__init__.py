"""Facts about this host that need no BPF: counters, nodes, pressure, settings, cgroups, processes.

Every reader takes ``root``, the directory that contains ``proc`` and ``sys``, so that a test can use its own tree.
What the kernel does not report is ``None``, never 0.
"""
