"""vmstat, zoneinfo, topology, pressure and settings, from made-up trees and from this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmwatch.errors import UnavailableError
from mmwatch.host.kmsg import KernelLog, message
from mmwatch.host.meminfo import read_levels
from mmwatch.host.pressure import Pressure, read_pressure
from mmwatch.host.settings import read_settings
from mmwatch.host.task import Placement, TaskTimes, read_placement, read_times
from mmwatch.host.vmstat import Vmstat
from mmwatch.host.zoneinfo import NodeTopology, Zoneinfo, parse_zoneinfo, read_topology
from mmwatch.units import number_list

FIXTURES = Path(__file__).parent / "fixtures"


def put(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    ("text", "numbers"), [("0\n", (0,)), ("0-2,8\n", (0, 1, 2, 8)), ("", ()), ("\n", ()), ("3,5-5", (3, 5))]
)
def test_number_list(text: str, numbers: tuple[int, ...]) -> None:
    assert number_list(text) == numbers


def test_vmstat_takes_what_matches_and_is_there(tmp_path: Path) -> None:
    put(tmp_path, "proc/vmstat", "nr_free_pages 5\npgsteal_kswapd_dma 1\npgsteal_anon 2\npgfault 9\nallocstall 3\n")
    vmstat = Vmstat(tmp_path)
    assert vmstat.read() == {"pgsteal_kswapd_dma": 1, "pgsteal_anon": 2, "allocstall": 3}
    assert vmstat.names == ("pgsteal_kswapd_dma", "pgsteal_anon", "allocstall")
    vmstat.close()


def test_vmstat_reads_anew_and_survives_a_change_of_lines(tmp_path: Path) -> None:
    put(tmp_path, "proc/vmstat", "pgsteal_anon 2\noom_kill 1\n")
    vmstat = Vmstat(tmp_path)
    assert vmstat.read() == {"pgsteal_anon": 2, "oom_kill": 1}
    put(tmp_path, "proc/vmstat", "pgsteal_anon 3\noom_kill 1\n")
    assert vmstat.read() == {"pgsteal_anon": 3, "oom_kill": 1}
    put(tmp_path, "proc/vmstat", "oom_kill 7\npgsteal_anon 3\n")
    assert vmstat.read() == {"oom_kill": 7, "pgsteal_anon": 3}


def test_vmstat_longer_than_the_buffer(tmp_path: Path) -> None:
    put(tmp_path, "proc/vmstat", "".join(f"pgsteal_{number} {number}\n" for number in range(5000)))
    assert Vmstat(tmp_path).read() == {f"pgsteal_{number}": number for number in range(5000)}


def test_vmstat_missing(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="proc/vmstat") as caught:
        Vmstat(tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("files", "answer"),
    [
        ({}, None),
        ({"proc/zoneinfo": "Node 0, zone DMA\n"}, False),
        ({"proc/zoneinfo": "Node 0, zone DMA\n  per-node stats\n pgsteal_anon 0\n"}, True),
        ({"sys/devices/system/node/node1/vmstat": "pgsteal_anon 0\n"}, True),
        ({"sys/devices/system/node/node0/vmstat": "nr_free_pages 0\n"}, False),
    ],
)
def test_whether_counters_are_node_stats(tmp_path: Path, files: dict[str, str], answer: bool | None) -> None:
    put(tmp_path, "proc/vmstat", "pgsteal_anon 0\n")
    for path, text in files.items():
        put(tmp_path, path, text)
    assert Vmstat(tmp_path).counters_are_node_stats is answer


def test_refresh_only_where_it_matters(tmp_path: Path) -> None:
    put(tmp_path, "proc/vmstat", "pgsteal_anon 0\n")
    put(tmp_path, "proc/zoneinfo", "nothing\n")
    assert Vmstat(tmp_path).refresh()  # no refresh is needed, so it succeeds without stat_refresh
    put(tmp_path, "proc/zoneinfo", "pgsteal_anon 0\n")
    assert not Vmstat(tmp_path).refresh()
    put(tmp_path, "proc/sys/vm/stat_refresh", "")
    assert Vmstat(tmp_path).refresh()


def test_what_the_counters_may_lack_until_they_are_folded(tmp_path: Path) -> None:
    """Two CPUs, two nodes; of each node's zones the largest threshold counts."""
    zones = [("Node 0, zone DMA", 10), ("Node 0, zone Normal", 40), ("Node 1, zone Normal", 40)]
    text = "".join(f"{name}\n  pagesets\n" + f"    cpu: 0\n  vm stats threshold: {t}\n" * 2 for name, t in zones)
    put(tmp_path, "proc/vmstat", "pgsteal_anon 0\n")
    put(tmp_path, "proc/zoneinfo", text)
    for node in (0, 1):
        put(tmp_path, f"sys/devices/system/node/node{node}/vmstat", "nr_free_pages 0\n")
    assert Vmstat(tmp_path).unfolded_pages == 0
    for node in (0, 1):
        put(tmp_path, f"sys/devices/system/node/node{node}/vmstat", "pgsteal_anon 0\n")
    assert Vmstat(tmp_path).unfolded_pages == 2 * 2 * 2 * 40


def test_zoneinfo_of_two_nodes() -> None:
    first, second = parse_zoneinfo((FIXTURES / "zoneinfo-2nodes.txt").read_bytes())
    assert (first.node, first.free_pages, first.managed_pages) == (0, 3000, 243840)
    # The watermark of 32 of the empty Movable zone does not count.
    assert (first.min_pages, first.low_pages, first.high_pages, first.boost_pages) == (174, 284, 394, 64)
    assert (first.file_pages, first.anon_pages, first.inactive_file_pages) == (7000, 300, 3000)
    assert (first.page_cache_pages, first.mapped_pages, first.dirty_pages) == (7700, 60, 8)
    assert (first.writeback_pages, first.slab_reclaimable_pages, first.kswapd_gave_up) == (9, 500, False)
    assert (second.node, second.free_pages, second.min_pages, second.kswapd_gave_up) == (1, 77, 400, True)


def test_zoneinfo_of_an_old_kernel_with_statistics_per_zone() -> None:
    (node,) = parse_zoneinfo((FIXTURES / "zoneinfo-4.4-style.txt").read_bytes())
    assert (node.free_pages, node.min_pages, node.managed_pages) == (8977, 131, 1003977)
    assert (node.file_pages, node.anon_pages, node.page_cache_pages) == (700, 30, 800)
    assert node.free_reserved_pages == 3977  # all that is free in DMA
    assert node.boost_pages is None
    assert node.mapped_pages is None
    assert node.writeback_pages is None


def test_zoneinfo_of_this_kind_of_machine() -> None:
    (node,) = parse_zoneinfo((FIXTURES / "zoneinfo-6.18-1node.txt").read_bytes())
    text = (FIXTURES / "zoneinfo-6.18-1node.txt").read_text()
    managed = [int(line.split()[1]) for line in text.splitlines() if line.strip().startswith("managed")]
    assert node.managed_pages == sum(managed)
    assert node.free_movable_pages is None  # an empty zone
    assert [name for name, value in vars(node).items() if value is None] == ["free_movable_pages"]


def test_zoneinfo_with_nothing_in_it() -> None:
    assert parse_zoneinfo(b"") == ()


def test_topology(tmp_path: Path) -> None:
    base = "sys/devices/system/node"
    put(tmp_path, f"{base}/online", "0,2\n")
    for node, cpus, distances in ((0, "0-1", "10 40"), (2, "", "40 10")):
        put(tmp_path, f"{base}/node{node}/cpulist", f"{cpus}\n")
        put(tmp_path, f"{base}/node{node}/distance", f"{distances}\n")
    assert read_topology(tmp_path) == (
        NodeTopology(0, (0, 1), {0: 10, 2: 40}),
        NodeTopology(2, (), {0: 40, 2: 10}),
    )
    assert read_topology(tmp_path / "nowhere") == ()


def test_levels(tmp_path: Path) -> None:
    assert read_levels(tmp_path) == {}
    put(tmp_path, "proc/meminfo", "MemTotal: 100 kB\nSwapTotal: 30 kB\nActive(file): 7 kB\nHugePages_Total: 5\n")
    assert read_levels(tmp_path) == {"total": 102400, "swap_total": 30720, "active_file": 7168, "swap_in_ram": 0}
    put(
        tmp_path,
        "proc/swaps",
        "Filename Type Size Used Priority\n/dev/zram0 partition 20 5 100\n/dev/sda2 partition 10 0 -2\n"
        "/zram1 file 10 0 -3\n",
    )
    assert read_levels(tmp_path)["swap_in_ram"] == 20480


def test_the_log_of_the_kernel(tmp_path: Path) -> None:
    assert KernelLog(tmp_path).read() == ()  # nobody may read it
    put(tmp_path, "dev/kmsg", "")
    log = KernelLog(tmp_path)
    record = b"6,1,2,-;\\xff\\x1bsh (7): drop_caches: 3\n SUBSYSTEM=x\n"
    (tmp_path / "dev/kmsg").write_bytes(record)
    assert log.read() == ("\xff\\x1bsh (7): drop_caches: 3",)
    assert message(b"6,1,2,-;usb 1-1: new device\n") == "usb 1-1: new device"
    assert message(b"") == ""
    log.close()


def test_a_task(tmp_path: Path) -> None:
    assert (read_times(7, tmp_path), read_placement(7, tmp_path)) == (None, Placement("", ""))
    put(tmp_path, "proc/7/stat", "7 (a ) b) S " + " ".join(map(str, range(1, 30))) + "\n")
    tick_us = 1_000_000 // os.sysconf("SC_CLK_TCK")
    assert read_times(7, tmp_path) == TaskTimes(11 * tick_us, 12 * tick_us, 9)
    put(tmp_path, "proc/7/status", "Name:\tx\nVmRSS:\t  100 kB\nMems_allowed_list:\t0-1\n")
    assert read_placement(7, tmp_path) == Placement("0-1", "")
    put(tmp_path, "proc/7/numa_maps", "1000 default file=/x\n2000 bind:0 anon=5\n3000 bind:0 heap\n")
    assert read_placement(7, tmp_path) == Placement("0-1", "bind:0")
    put(tmp_path, "proc/7/numa_maps", "1000 default file=/x\n")
    assert read_placement(7, tmp_path).mempolicy == "default"
    put(tmp_path, "proc/7/status", "VmRSS:\t900000000 kB\nMems_allowed_list:\t1\n")
    assert read_placement(7, tmp_path) == Placement("1", "")  # numa_maps of so large a process takes too long


def test_pressure(tmp_path: Path) -> None:
    assert read_pressure(tmp_path) is None
    put(
        tmp_path,
        "proc/pressure/memory",
        "some avg10=1.25 avg60=0.00 avg300=0.00 total=900\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=400\n",
    )
    assert read_pressure(tmp_path) == Pressure(1.25, 900, 0.5, 400)
    put(tmp_path, "proc/pressure/memory", "")
    assert read_pressure(tmp_path) is None


def test_settings_that_are_not_there_are_not_known(tmp_path: Path) -> None:
    settings = read_settings(tmp_path)
    known = {name for name, value in vars(settings).items() if value is not None}
    assert known == {"kernel_release", "page_size_bytes"}


def test_settings(tmp_path: Path) -> None:
    for path, text in {
        "proc/meminfo": "MemTotal:  1024 kB\nSwapTotal:       8 kB\n",
        "proc/sys/kernel/osrelease": "6.12\x1b[31m\n",
        "proc/sys/kernel/task_delayacct": "1\n",
        "proc/sys/vm/zone_reclaim_mode": "7\n",
        "proc/sys/vm/swappiness": "60\n",
        "sys/kernel/mm/lru_gen/enabled": "0x0007\n",
        "sys/kernel/mm/numa/demotion_enabled": "false\n",
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    }.items():
        put(tmp_path, path, text)
    settings = read_settings(tmp_path)
    assert settings.kernel_release == "6.12\\x1b[31m"
    assert (settings.memory_total_bytes, settings.swap_total_bytes) == (1048576, 8192)
    assert (settings.zone_reclaim_mode, settings.swappiness, settings.min_free_kbytes) == (7, 60, None)
    assert (settings.lru_gen_enabled, settings.thp_enabled) == (7, "madvise")
    assert settings.demotion_enabled is False
    assert settings.task_delayacct is True


@pytest.mark.parametrize(("cmdline", "answer"), [("quiet nodelayacct", False), ("quiet", None)])
def test_delay_accounting_before_there_was_a_switch(tmp_path: Path, cmdline: str, answer: bool | None) -> None:
    put(tmp_path, "proc/cmdline", cmdline)
    assert read_settings(tmp_path).task_delayacct is answer


def test_this_machine() -> None:
    counters = Vmstat()
    first, second = counters.read(), counters.read()
    assert list(first) == list(second)
    assert all(second[name] >= first[name] for name in first)
    assert {"pgscan_direct_throttle", "pageoutrun", "oom_kill"} <= set(first)
    nodes = Zoneinfo().read()
    assert sum(node.managed_pages for node in nodes) > 0
    assert all(node.min_pages <= node.low_pages <= node.high_pages for node in nodes)
    settings = read_settings()
    assert settings.kernel_release == os.uname().release
    assert settings.memory_total_bytes
