"""The laboratory as data: kernels, memory and node layouts, kinds of LRU, scenarios, and which of them meet.

Nothing here looks at a host or boots anything. A kernel is a Debian release; which exact version that means today is
looked up when it is fetched (:mod:`kernels`).
"""

from __future__ import annotations

from dataclasses import dataclass

CLASSIC, MGLRU = "classic", "mglru"


@dataclass(frozen=True)
class Kernel:
    """A kernel to boot, and what the tests expect of it because of its sources (kernel.md names the places).

    :param suite: of Debian, whose newest ordinary kernel is taken.
    :param security: the suite has security updates of its own.
    :param mglru: the multi-generational LRU is built in.
    :param mglru_tells: it has events for its batches.
    :param mglru_node_reclaim: it frees something in node reclaim with zone_reclaim_mode 1.
    :param steal_has_memcg: pgsteal_direct and its like count reclaim of memory cgroups too.
    :param counts_node_reclaim: there is zone_reclaim_success, beside zone_reclaim_failed.
    :param cgroup_v1: a version 1 hierarchy can limit memory (CONFIG_MEMCG_V1).
    :param memory_reclaim: control groups have memory.reclaim.
    :param node_reclaim_file: so have nodes, in sysfs.
    :param preemptible_tracepoints: raw ones skip what others do while their task has lost the CPU.
    """

    name: str
    suite: str
    security: bool = True
    mglru: bool = True
    mglru_tells: bool = True
    mglru_node_reclaim: bool = False
    steal_has_memcg: bool = False
    counts_node_reclaim: bool = True
    cgroup_v1: bool = True
    memory_reclaim: bool = True
    node_reclaim_file: bool = False
    preemptible_tracepoints: bool = False

    @property
    def lrus(self) -> tuple[str, ...]:
        return (CLASSIC, MGLRU) if self.mglru else (CLASSIC,)


KERNELS = (
    Kernel("5.10", "bullseye", mglru=False, counts_node_reclaim=False, memory_reclaim=False),
    Kernel("6.1", "bookworm", mglru_tells=False, mglru_node_reclaim=True, counts_node_reclaim=False),
    Kernel("6.12", "trixie", cgroup_v1=False),
    Kernel(
        "newest",
        "sid",
        security=False,
        steal_has_memcg=True,
        cgroup_v1=False,
        node_reclaim_file=True,
        preemptible_tracepoints=True,
    ),
)


@dataclass(frozen=True)
class Layout:
    """Memory of a guest. One CPU a node: node reclaim is left to the CPUs of a node that has some."""

    name: str
    nodes_mib: tuple[int, ...]
    distance: int

    @property
    def memory_mib(self) -> int:
        return sum(self.nodes_mib)


TWO_FAR_NODES = Layout("two far nodes", (1024, 1024), distance=40)
"""Further than node_reclaim_distance (30): an allocation on node 0 may not reclaim node 1."""

DISK_MIB = 4096
SWAP_MIB = 1024


@dataclass(frozen=True)
class Scenario:
    """A workload and what has to be so for it.

    :param command: a program of ``tests/workloads`` and its arguments; ``{disk}`` is a folder on a disk of the guest.
    :param sysctls: below vm, set before and put back afterwards.
    :param cgroup: version of the hierarchy that limits memory.
    :param swap: on while it runs.
    :param needs: what :class:`Kernel` must say yes to.
    """

    name: str
    command: tuple[str, ...]
    sysctls: tuple[tuple[str, str], ...] = ()
    cgroup: int = 2
    swap: bool = False
    needs: tuple[str, ...] = ()
    timeout_s: float = 300.0


FOUNDING = Scenario(
    "founding",
    ("founding.py", "--file", "{disk}/founding", "--file-mib", "950", "--anon-mib", "500"),
    sysctls=(("zone_reclaim_mode", "1"),),
)
REMEDY = Scenario(
    "remedy",
    ("founding.py", "--file", "{disk}/founding", "--file-mib", "950", "--anon-mib", "500"),
    sysctls=(("zone_reclaim_mode", "0"),),
)
"""The remedy: the same load goes to the other node, and nobody reclaims for it."""
BOUND = Scenario(
    "bound",
    ("founding.py", "--file", "{disk}/founding", "--file-mib", "950", "--anon-mib", "500", "--bind"),
    sysctls=(("zone_reclaim_mode", "0"),),
)
"""The same load may not leave its node: kswapd and direct reclaim."""
BOUND_SWAP = Scenario(
    "bound-swap",
    (
        "founding.py",
        "--file",
        "{disk}/founding",
        "--file-mib",
        "600",
        "--anon-mib",
        "1000",
        "--bind",
        "--processes",
        "4",
    ),
    # Nearly nothing between the watermarks: a task is below min before kswapd, which has to wait for swap, has run.
    sysctls=(
        ("zone_reclaim_mode", "0"),
        ("swappiness", "100"),
        ("min_free_kbytes", "1024"),
        ("watermark_scale_factor", "1"),
    ),
    swap=True,
)
"""More than its node holds, for several at once: kswapd waits for swap, and the tasks reclaim directly."""
MEMCG_STREAM = Scenario("memcg-stream", ("stream.py", "--mib", "150"))
MEMCG_BOTH = Scenario("memcg-both", ("both.py", "--file-mib", "200"))
HUGE = Scenario("huge", ("huge.py",))
PROACTIVE = Scenario("proactive", ("proactive.py",), needs=("memory_reclaim",))
PROACTIVE_NODE = Scenario("proactive-node", ("proactive.py", "--node", "0"), needs=("node_reclaim_file",))
MEMCG_V1_STREAM = Scenario("memcg-v1-stream", ("stream.py", "--mib", "150"), cgroup=1, needs=("cgroup_v1",))
SOFT_LIMIT = Scenario("soft-limit", ("softlimit.py",), cgroup=1, needs=("cgroup_v1",))

SCENARIOS = (
    FOUNDING,
    REMEDY,
    BOUND,
    BOUND_SWAP,
    HUGE,
    MEMCG_STREAM,
    MEMCG_BOTH,
    PROACTIVE,
    PROACTIVE_NODE,
    MEMCG_V1_STREAM,
    SOFT_LIMIT,
)
RECORDED = FOUNDING
"""The one that is also recorded and reported with the commands a user has."""


@dataclass(frozen=True)
class Case:
    """One result to look at."""

    kernel: Kernel
    lru: str
    scenario: Scenario

    @property
    def name(self) -> str:
        return f"{self.kernel.name}-{self.lru}-{self.scenario.name}"


def _meet(kernel: Kernel, lru: str, scenario: Scenario) -> bool:
    # Version 1 is about the cgroup, not the LRU; and one more load of the programs is half a minute.
    return all(getattr(kernel, need) for need in scenario.needs) and (scenario.cgroup == 2 or lru == CLASSIC)


CASES = tuple(
    Case(kernel, lru, scenario)
    for kernel in KERNELS
    for lru in kernel.lrus
    for scenario in SCENARIOS
    if _meet(kernel, lru, scenario)
)
