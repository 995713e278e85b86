"""What a row of a table can stand for. Does not use numpy, so that the command line can be parsed without it."""

from __future__ import annotations

from collections.abc import Mapping

GROUPINGS: Mapping[str, tuple[str, ...]] = {
    "task": ("tgid", "path"),
    "thread": ("tgid", "tid", "path"),
    "comm": ("comm", "path"),
    "node": ("node",),
    "cgroup": ("cgroup_id",),
    "target": ("target_id",),
    "path": ("path",),
}
"""For each grouping, the identity fields that rows must share to be folded into one."""
