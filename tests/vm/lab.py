"""The laboratory as data: kernels, memory and node layouts, kinds of LRU, scenarios, and their combinations.

Nothing here looks at a host or boots anything. A kernel is a Debian release; its exact version is looked up when it is
fetched (:mod:`kernels`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

CLASSIC, MGLRU = "classic", "mglru"


@dataclass(frozen=True)
class Kernel:
    """A kernel to boot, and what the tests expect of it because of its sources (kernel.md names the places).

    :param suite: the Debian suite whose newest ordinary kernel is used.
    :param security: the suite has a separate archive of security updates.
    :param mglru: the multi-generational LRU is built in.
    :param mglru_tells: the multi-generational LRU has events for its batches.
    :param mglru_node_reclaim: the multi-generational LRU frees pages in node reclaim with zone_reclaim_mode 1.
    :param steal_has_memcg: pgsteal_direct and similar counters include reclaim of memory cgroups.
    :param counts_node_reclaim: there is zone_reclaim_success as well as zone_reclaim_failed.
    :param cgroup_v1: a version 1 hierarchy can limit memory (CONFIG_MEMCG_V1).
    :param memory_reclaim: memory cgroups have a memory.reclaim file.
    :param node_reclaim_file: nodes have a reclaim file in sysfs.
    :param walks_every_cgroup: a pass reclaims a batch from each memory cgroup (up to 6.10), though one batch would do.
    :param limits_ask_for_more: reclaim at a limit asks for more than 32 pages at a time, for a large folio.
    :param begin_names_cgroup: the event at the begin of a cgroup's reclaim names the cgroup.
    :param options: added to its command line.
    :param modes: each of :data:`MODES` can be forced on it.
    :param preemptible_tracepoints: raw tracepoints miss events while a task is preempted inside them.
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
    walks_every_cgroup: bool = False
    limits_ask_for_more: bool = False
    begin_names_cgroup: bool = False
    options: tuple[str, ...] = ()
    modes: bool = False
    preemptible_tracepoints: bool = False

    @property
    def lrus(self) -> tuple[str, ...]:
        return (CLASSIC, MGLRU) if self.mglru else (CLASSIC,)


KERNELS = (
    Kernel("5.10", "bullseye", mglru=False, counts_node_reclaim=False, memory_reclaim=False, walks_every_cgroup=True),
    Kernel(
        "6.1",
        "bookworm",
        mglru_tells=False,
        mglru_node_reclaim=True,
        counts_node_reclaim=False,
        walks_every_cgroup=True,
    ),
    Kernel("6.12", "trixie", cgroup_v1=False, options=("preempt=full",), modes=True),
    Kernel(
        "newest",
        "sid",
        security=False,
        steal_has_memcg=True,
        cgroup_v1=False,
        node_reclaim_file=True,
        limits_ask_for_more=True,
        begin_names_cgroup=True,
        modes=True,
        preemptible_tracepoints=True,
    ),
)


@dataclass(frozen=True)
class Layout:
    """Memory of a guest. Each node has a CPU, because a node with CPUs is reclaimed only by tasks on its own CPUs."""

    name: str
    nodes_mib: tuple[int, ...]
    distance: int

    @property
    def memory_mib(self) -> int:
        return sum(self.nodes_mib)


TWO_FAR_NODES = Layout("two far nodes", (1024, 1024), distance=40)
"""More than node_reclaim_distance (30): an allocation on node 0 may not reclaim from node 1."""

DISK_MIB = 4096
SWAP_MIB = 1024


@dataclass(frozen=True)
class Scenario:
    """A workload and the settings it needs.

    :param command: a program of ``tests/workloads`` and its arguments; ``{disk}`` is a folder on a disk of the guest.
    :param sysctls: sysctls below vm, or files by their full path, set before and restored afterwards.
    :param cgroup: version of the hierarchy that limits memory.
    :param swap: swap is on while it runs.
    :param lrus: the kinds of LRU it runs with.
    :param needs: fields of :class:`Kernel` that must be true.
    :param kernels: names of the kernels it runs on; empty: all.
    """

    name: str
    command: tuple[str, ...]
    sysctls: tuple[tuple[str, str], ...] = ()
    cgroup: int = 2
    swap: bool = False
    lrus: tuple[str, ...] = (CLASSIC, MGLRU)
    needs: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
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
"""The remedy: the same load allocates on the other node, and no task reclaims for it."""
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
        "--stalls",
        "10",
    ),
    # Little memory between the watermarks: free memory drops below min before kswapd, which waits for swap, frees any.
    sysctls=(
        ("zone_reclaim_mode", "0"),
        ("swappiness", "100"),
        ("min_free_kbytes", "1024"),
        ("watermark_scale_factor", "1"),
    ),
    swap=True,
)
"""Several tasks use more memory than their node has, until kswapd is too slow: the tasks reclaim directly."""
LARGE_FOLIOS = replace(
    BOUND_SWAP,
    name="large-folios",
    command=(*BOUND_SWAP.command, "--stalls", "0", "--huge"),
    sysctls=(*BOUND_SWAP.sysctls, ("/sys/block/vdb/queue/rotational", "0")),
    lrus=(MGLRU,),
    kernels=("newest",),
)
"""The same in huge pages. The kernel writes them to swap in one piece if that is a disk that does not rotate."""
MEMCG_STREAM = Scenario("memcg-stream", ("stream.py", "--mib", "150", "--group", "below"))
"""The tasks are in a cgroup below the one with the limit."""
MEMCG_BOTH = Scenario("memcg-both", ("both.py", "--file-mib", "200"))
MEMCG_HIGH = Scenario("memcg-high", ("high.py",))
HUGE = Scenario("huge", ("huge.py",))
LADDER = Scenario("ladder", ("ladder.py",), sysctls=(("zone_reclaim_mode", "1"),), lrus=(CLASSIC,))
OVERSHOOT = Scenario("overshoot", ("overshoot.py",), sysctls=(("zone_reclaim_mode", "1"),), lrus=(CLASSIC,))
INNER = Scenario("inner", ("inner.py",), lrus=(CLASSIC,), kernels=("5.10", "newest"), timeout_s=600)
PROACTIVE = Scenario("proactive", ("proactive.py",), needs=("memory_reclaim",))
PROACTIVE_NODE = Scenario("proactive-node", ("proactive.py", "--node", "0"), needs=("node_reclaim_file",))
# Version 1 tests the cgroup, not the LRU, and loading the programs once more takes half a minute.
MEMCG_V1_STREAM = Scenario(
    "memcg-v1-stream", ("stream.py", "--mib", "150"), cgroup=1, lrus=(CLASSIC,), needs=("cgroup_v1",)
)
SOFT_LIMIT = Scenario("soft-limit", ("softlimit.py",), cgroup=1, lrus=(CLASSIC,), needs=("cgroup_v1",))

SCENARIOS = (
    FOUNDING,
    REMEDY,
    BOUND,
    BOUND_SWAP,
    LARGE_FOLIOS,
    HUGE,
    LADDER,
    OVERSHOOT,
    MEMCG_STREAM,
    MEMCG_BOTH,
    MEMCG_HIGH,
    INNER,
    PROACTIVE,
    PROACTIVE_NODE,
    MEMCG_V1_STREAM,
    SOFT_LIMIT,
)
RECORDED = FOUNDING
"""The scenario that is also run through the ``record`` and ``report`` commands."""


@dataclass(frozen=True)
class Mode:
    """A way to observe that overrides the plan's choice.

    :param probes: MMWATCH_PROBES; empty: as the plan chooses.
    :param passes: MMWATCH_PASSES.
    """

    name: str
    probes: str = ""
    passes: str = ""


FENTRY = Mode("fentry", "", "fentry")
KPROBE = Mode("kprobe", "", "kprobe")
TRACEPOINT = Mode("tracepoint", "tracepoint", "none")
MODES = (FENTRY, KPROBE, TRACEPOINT)
"""Observers in all of these modes watch the same workload at the same time."""
MODES_LRU = MGLRU
MODES_SCENARIOS = (FOUNDING, BOUND, MEMCG_STREAM, MEMCG_HIGH)


@dataclass(frozen=True)
class Provocation:
    """An obstacle for mmwatch.

    :param prefix: put before mmwatch's command line. It creates the obstacle, runs the command, and undoes what can be
        undone. ``{python}`` and ``{tests}`` are replaced by the interpreter and the tests' folder.
    :param kernels: names of the kernels to try it on.
    :param trial: doctor notices it only when it tries the probes.
    """

    name: str
    prefix: tuple[str, ...]
    kernels: tuple[str, ...]
    trial: bool = True


def _meanwhile(path: str, value: str) -> tuple[str, ...]:
    """A command prefix: write this value to a file, run the command, restore the old value."""
    script = f'was=$(cat {path}); echo {value} >{path}; "$@"; status=$?; echo $was >{path}; exit $status'
    return ("sh", "-c", script, "sh")


def _locked_down(level: str) -> tuple[str, ...]:
    """A command prefix: lock the kernel down. This cannot be undone while the guest runs."""
    return ("sh", "-c", f'echo {level} >/sys/kernel/security/lockdown 2>/dev/null; "$@"', "sh")


NO_KPROBES = Provocation("no-kprobes", _meanwhile("/sys/kernel/debug/kprobes/enabled", "0"), ("newest",), trial=False)
NO_FTRACE = Provocation("no-ftrace", _meanwhile("/proc/sys/kernel/ftrace_enabled", "0"), ("newest",), trial=False)
NO_SYMBOL = Provocation("no-symbol", ("{python}", "{tests}/vm/elsewhere.py"), ("5.10",))
"""The kernel function has a different name than the one that was found."""
FULL = Provocation("full", ("{python}", "{tests}/vm/full.py", "0"), ("6.12",))
"""shrink_node has as many programs attached as a function may have."""
FULL_BUT_ONE = Provocation("full-but-one", ("{python}", "{tests}/vm/full.py", "1"), ("newest",))
"""shrink_node takes one more program, where mmwatch needs two."""
FEW_FILES = Provocation("few-files", ("setpriv", "--bounding-set=-sys_resource", "prlimit", "--nofile=40"), ("5.10",))
FEW_LOCKED_PAGES = Provocation(
    "few-locked-pages", ("setpriv", "--bounding-set=-sys_resource", "prlimit", "--memlock=65536"), ("5.10",)
)
"""Up to 5.10, BPF maps count as locked memory of the process that creates them."""
TWO_CAPABILITIES = Provocation(
    "two-capabilities", ("setpriv", "--bounding-set=-all,+bpf,+perfmon,+dac_override"), ("6.12",)
)
"""The two capabilities mmwatch needs, and one for the load, which creates a cgroup."""
HARDENED = Provocation(
    "hardened",
    (
        *_meanwhile("/proc/sys/kernel/kptr_restrict", "2"),
        *_meanwhile("/proc/sys/kernel/perf_event_paranoid", "3"),
        *_locked_down("integrity"),
    ),
    ("newest",),
    trial=False,
)
CONFIDENTIAL = Provocation("confidential", _locked_down("confidentiality"), ("newest",))
PROVOCATIONS = (
    NO_KPROBES,
    NO_FTRACE,
    NO_SYMBOL,
    FULL,
    FULL_BUT_ONE,
    FEW_FILES,
    FEW_LOCKED_PAGES,
    TWO_CAPABILITIES,
    HARDENED,
    CONFIDENTIAL,
)
"""Tried in this order at the very end, because the last two cannot be undone."""
PROVOKED = Scenario("provoked", ("stream.py", "--mib", "64"))
"""The scenario that is recorded under each provocation."""


@dataclass(frozen=True)
class Case:
    """One result to check.

    :param mode: of the observer whose result it is; None: as the plan chooses.
    """

    kernel: Kernel
    lru: str
    scenario: Scenario
    mode: Mode | None = None

    @property
    def result(self) -> str:
        """The name of the guest's result."""
        return "-".join([self.lru, self.scenario.name, *([self.mode.name] if self.mode else [])])

    @property
    def name(self) -> str:
        return f"{self.kernel.name}-{self.result}"


def _meet(kernel: Kernel, lru: str, scenario: Scenario) -> bool:
    here = kernel.name in (scenario.kernels or (kernel.name,))
    return here and lru in scenario.lrus and all(getattr(kernel, need) for need in scenario.needs)


CASES = tuple(
    Case(kernel, lru, scenario)
    for kernel in KERNELS
    for lru in kernel.lrus
    for scenario in SCENARIOS
    if _meet(kernel, lru, scenario)
) + tuple(
    Case(kernel, MODES_LRU, scenario, mode)
    for kernel in KERNELS
    if kernel.modes
    for scenario in MODES_SCENARIOS
    for mode in MODES
)
