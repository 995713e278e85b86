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
    :param walks_every_cgroup: a pass takes a batch of each memory cgroup (up to 6.10), though one in all is enough.
    :param limits_ask_for_more: than 32 pages at a time, for a large folio.
    :param options: of its command line.
    :param modes: each of :data:`MODES` can be forced on it.
    :param preemptible_tracepoints: raw ones miss events while a task is preempted inside them.
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
        modes=True,
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
    :param lrus: it is about these.
    :param needs: what :class:`Kernel` must say yes to.
    :param kernels: by name, those where it is tried; without: all.
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
        "--stalls",
        "10",
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
"""More than its node holds, for several at once, until kswapd was too slow: tasks reclaim directly."""
MEMCG_STREAM = Scenario("memcg-stream", ("stream.py", "--mib", "150"))
MEMCG_BOTH = Scenario("memcg-both", ("both.py", "--file-mib", "200"))
HUGE = Scenario("huge", ("huge.py",))
LADDER = Scenario("ladder", ("ladder.py",), sysctls=(("zone_reclaim_mode", "1"),), lrus=(CLASSIC,))
OVERSHOOT = Scenario("overshoot", ("overshoot.py",), sysctls=(("zone_reclaim_mode", "1"),), lrus=(CLASSIC,))
INNER = Scenario("inner", ("inner.py",), lrus=(CLASSIC,), kernels=("5.10", "newest"), timeout_s=600)
PROACTIVE = Scenario("proactive", ("proactive.py",), needs=("memory_reclaim",))
PROACTIVE_NODE = Scenario("proactive-node", ("proactive.py", "--node", "0"), needs=("node_reclaim_file",))
# Version 1 is about the cgroup, not the LRU; and one more load of the programs is half a minute.
MEMCG_V1_STREAM = Scenario(
    "memcg-v1-stream", ("stream.py", "--mib", "150"), cgroup=1, lrus=(CLASSIC,), needs=("cgroup_v1",)
)
SOFT_LIMIT = Scenario("soft-limit", ("softlimit.py",), cgroup=1, lrus=(CLASSIC,), needs=("cgroup_v1",))

SCENARIOS = (
    FOUNDING,
    REMEDY,
    BOUND,
    BOUND_SWAP,
    HUGE,
    LADDER,
    OVERSHOOT,
    MEMCG_STREAM,
    MEMCG_BOTH,
    INNER,
    PROACTIVE,
    PROACTIVE_NODE,
    MEMCG_V1_STREAM,
    SOFT_LIMIT,
)
RECORDED = FOUNDING
"""The one that is also recorded and reported with the commands a user has."""


@dataclass(frozen=True)
class Mode:
    """A way to observe, whatever the plan would choose.

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
"""Observers of all of these look at one and the same workload."""
MODES_LRU = MGLRU
MODES_SCENARIOS = (FOUNDING, BOUND, MEMCG_STREAM)


@dataclass(frozen=True)
class Provocation:
    """Something that stands in mmwatch's way.

    :param prefix: of mmwatch's command line: it sees to that, runs it, and puts back what can be; ``{python}`` and
        ``{tests}`` are what they say.
    :param kernels: by name, those where it is tried.
    :param trial: doctor only finds out when it tries.
    """

    name: str
    prefix: tuple[str, ...]
    kernels: tuple[str, ...]
    trial: bool = True


def _meanwhile(path: str, value: str) -> tuple[str, ...]:
    """With this value in a file; what was there is put back."""
    script = f'was=$(cat {path}); echo {value} >{path}; "$@"; status=$?; echo $was >{path}; exit $status'
    return ("sh", "-c", script, "sh")


def _locked_down(level: str) -> tuple[str, ...]:
    """For as long as the guest lives: no kernel takes that back."""
    return ("sh", "-c", f'echo {level} >/sys/kernel/security/lockdown 2>/dev/null; "$@"', "sh")


NO_KPROBES = Provocation("no-kprobes", _meanwhile("/sys/kernel/debug/kprobes/enabled", "0"), ("newest",), trial=False)
NO_FTRACE = Provocation("no-ftrace", _meanwhile("/proc/sys/kernel/ftrace_enabled", "0"), ("newest",), trial=False)
NO_SYMBOL = Provocation("no-symbol", ("{python}", "{tests}/vm/elsewhere.py"), ("5.10",))
"""What was found of the kernel's functions has another name by now."""
FULL = Provocation("full", ("{python}", "{tests}/vm/full.py", "0"), ("6.12",))
"""As many programs on shrink_node as a function may have."""
FULL_BUT_ONE = Provocation("full-but-one", ("{python}", "{tests}/vm/full.py", "1"), ("newest",))
"""Where it takes two."""
FEW_FILES = Provocation("few-files", ("setpriv", "--bounding-set=-sys_resource", "prlimit", "--nofile=40"), ("5.10",))
FEW_LOCKED_PAGES = Provocation(
    "few-locked-pages", ("setpriv", "--bounding-set=-sys_resource", "prlimit", "--memlock=65536"), ("5.10",)
)
"""Up to 5.10 BPF's tables are locked memory of whoever makes them."""
TWO_CAPABILITIES = Provocation(
    "two-capabilities", ("setpriv", "--bounding-set=-all,+bpf,+perfmon,+dac_override"), ("6.12",)
)
"""And one for the load, which makes a control group."""
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
"""In this order, when all else is done: the last two cannot be taken back."""
PROVOKED = Scenario("provoked", ("stream.py", "--mib", "64"))
"""What is recorded then."""


@dataclass(frozen=True)
class Case:
    """One result to look at.

    :param mode: of the observer whose result it is; None: as the plan chooses.
    """

    kernel: Kernel
    lru: str
    scenario: Scenario
    mode: Mode | None = None

    @property
    def result(self) -> str:
        """What the guest's result is named."""
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
