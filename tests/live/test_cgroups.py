"""Memory cgroups: who is in which, and whose limit binds."""

from __future__ import annotations

from pathlib import Path

from harness import Mmwatch, workload

LIMIT_MIB = 32


def test_the_limit_of_a_parent_is_recorded_with_its_usage(mmwatch: Mmwatch, tmp_path: Path) -> None:
    """Oracle: the load's own cgroup, which has a limit, and the one below it, which has none and holds the tasks."""
    path = tmp_path / "a.mmw"
    # It lasts for many intervals: a cgroup that is gone before the tree is walked has no name.
    load = workload("stream", "--mib", 768, "--share", 0.2, "--limit", LIMIT_MIB, "--group", "below")
    done = mmwatch.record(path, load, "-i", "0.2", "--detail", "none")
    report = mmwatch.report(path)
    parent = f"/{Path(done['cgroup']).name}"
    assert {row["cgroup"] for row in report["rows"] if row["tgid"] in done["pids"]} == {f"{parent}/below"}
    told = "target_id" not in report["session"]["unknown"]
    assert {row["target"] for row in report["rows"] if row["path"] == "memcg"} == {parent if told else None}
    memory = {one["cgroup"]: one for one in report["cgroups"]}
    assert (memory[parent]["limit_bytes"], memory[f"{parent}/below"]["limit_bytes"]) == (LIMIT_MIB << 20, None)
    usage, of_parent = memory[f"{parent}/below"]["usage_bytes"], memory[parent]["usage_bytes"]
    assert 0 < of_parent <= LIMIT_MIB << 20
    # They are read one after the other, and a batch of reclaim may come in between.
    assert 0 < usage <= of_parent + (1 << 20)
    assert memory[parent]["limit_hits"] > 0
    tree = mmwatch.run("report", path, "--by", "cgroup").stdout
    assert f"{parent}/below" in tree
