"""What is shown without tracing: settings, nodes, and counters since boot and lately."""

from __future__ import annotations

from make_observations import HOST, OTHER, SHORT, cgroup, host, row

from mmwatch.display.look import look_lines


def test_what_a_look_shows() -> None:
    observation = host(
        nodes=(SHORT, OTHER),
        kswapd={0: "gave up"},
        settings={**HOST, "zone_reclaim_mode": 1},
        vmstat={"allocstall_normal": 3, "allocstall_dma32": 1, "pgsteal_file": 500, "workingset_refault_file": 7},
        session={"since_boot": {"allocstall_normal": 40, "allocstall_dma32": 2, "pgsteal_file": 9, "pgsteal_anon": 1}},
        pressure={"some_us": 250_000, "full_us": 0},
        count=1,
    )
    text = "\n".join(look_lines(observation))
    assert "zone_reclaim_mode 1  " in text
    assert "   0    23M  [####m##..l....h....]   20M   27M   35M     -  40 to 1, kswapd gave up" in text
    assert f"{'direct reclaims (allocstall)':<32}{42:>14}{4:>12}" in text
    assert f"{'pages reclaimed, by all':<32}{10:>14}{500:>12}" in text
    assert "file pages refaulted" not in text  # not counted since boot: the kernel has no such counter
    assert f"{'tasks waited for memory (PSI)':<32}{'':>14}{25.0:>11.1f}%" in text
    assert "CGROUP" not in text


def test_the_cgroups_whose_limit_was_hit() -> None:
    lines = look_lines(cgroup(row(), grown={"max": 30, "high": 0}))
    assert f"{'/app':<44}{'99M':>6}{'100M':>7}{30:>9}" in lines
    assert not any(line.startswith("/app/web") for line in lines)
