"""The verdict on loads whose cause is known, as a user gets it: text, JSON and exit status."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from harness import Gated, Json, Mmwatch, assert_clean, run_as_nobody

from mmwatch.errors import EXIT_FINDING, EXIT_INCONCLUSIVE, EXIT_OK, EXIT_USAGE

FOREVER = 1_000_000
STREAM = ("stream", "--mib", FOREVER)
THRASH = ("stream", "--mib", 48, "--rounds", FOREVER)
"""Reads the same file again and again, more than its cgroup may hold."""


def diagnosed(mmwatch: Mmwatch, *words: object, status: int = EXIT_FINDING) -> Json:
    done = mmwatch.run("diagnose", "--json", *words)
    assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    found: Json = json.loads(done.stdout)
    return found


def assert_adds_up(verdict: Json) -> None:
    """Oracle: arithmetic. No time is claimed twice."""
    account = verdict["account"]
    assert account["claimed_ns"] == sum(finding["claims_ns"] for finding in verdict["findings"])
    assert account["claimed_ns"] + account["ordinary_ns"] + account["unexplained_ns"] == account["total_ns"]


def test_the_limit_of_a_parent(mmwatch: Mmwatch) -> None:
    """Oracle: the limit is set on the parent. Read ahead by two at once, some pages are gone before they are used."""
    with Gated(*STREAM, "--group", "inner") as load:
        load.go()
        verdict = diagnosed(mmwatch, "-d", "2s", "-c", Path(load.about["cgroup"]).name)
    name = f"/{Path(load.about['cgroup']).name}"
    first = verdict["findings"][0]
    assert first["id"] in ("memcg-limit", "cache-thrash")
    assert first["cgroups"] == [name]
    assert {one["tgid"] for one in first["who"]} <= set(load.pids)
    assert {one["cgroup"] for one in first["who"]} == {f"{name}/inner"}
    assert_adds_up(verdict)
    assert verdict["subject"]["stall_ns"] == verdict["account"]["total_ns"]


def test_page_cache_that_does_not_fit(mmwatch: Mmwatch, tmp_path: Path) -> None:
    """Oracle: the file is larger than the limit and read all the time. A recording gives the same verdict."""
    path = tmp_path / "a.mmw"
    with Gated(*THRASH) as load:
        load.go()
        live = diagnosed(mmwatch, "-d", "2s", "-p", load.pids[0])
        done = mmwatch.run("record", "-d", "2s", "-i", "0.5", "-o", path)
        assert done.returncode == 0, done.stderr
    name = f"/{Path(load.about['cgroup']).name}"
    recorded = diagnosed(mmwatch, "--from", path, "-p", load.pids[0])
    for verdict in (live, recorded):
        assert (verdict["findings"][0]["id"], verdict["findings"][0]["cgroups"]) == ("cache-thrash", [name])
        remedy = verdict["findings"][0]["remedy"]
        # Without a command, somewhat more would not do.
        assert all(command.split(" >")[1].startswith(load.about["cgroup"]) for command in remedy["commands"])
        assert remedy["commands"] or "Somewhat more memory will not do" in remedy["advice"]
        assert_adds_up(verdict)
    text = mmwatch.run("diagnose", "--from", path)
    assert text.returncode == EXIT_FINDING
    assert "1  cache-thrash" in text.stdout
    assert_clean(text.stdout)
    assert max(map(len, text.stdout.splitlines())) <= 80 + len(load.about["cgroup"])


HIDE_BTF = """mount --bind /dev/null /sys/kernel/btf/vmlinux
mount -t debugfs nodev /sys/kernel/debug  # bcc 0.18 looks there
mount -t tracefs nodev /sys/kernel/tracing
exec "$@"
"""


@pytest.mark.parametrize(
    "prefix",
    [
        pytest.param(("unshare", "--pid", "--fork", "--mount-proc"), id="inside a PID namespace"),
        pytest.param(("unshare", "--mount", "sh", "-c", HIDE_BTF, "sh"), id="without BTF"),
    ],
)
def test_where_less_can_be_known(mmwatch: Mmwatch, prefix: tuple[str, ...]) -> None:
    """Oracle: the load's cgroup. The namespace does not see its processes; without BTF, /proc tells their cgroup."""
    with Gated(*THRASH) as load:
        load.go()
        for words in ((), ("-c", load.about["cgroup"])):
            done = mmwatch.run("diagnose", "--json", "-d", "2s", *words, prefix=prefix)
            assert done.returncode == EXIT_FINDING, f"{done.stdout}\n{done.stderr}"
            verdict = json.loads(done.stdout)
            first = verdict["findings"][0]
            assert (first["id"], first["cgroups"]) == ("cache-thrash", [f"/{Path(load.about['cgroup']).name}"])
            assert_adds_up(verdict)
            known = {one["tgid"] for one in first["who"]} & set(load.pids)
            assert bool(known) == ("--pid" not in prefix)


def test_a_cgroup_at_rest_is_healthy(mmwatch: Mmwatch) -> None:
    """Oracle: its processes wait to be let go."""
    with Gated(*STREAM) as load:
        verdict = diagnosed(mmwatch, "-d", "1s", "-c", load.about["cgroup"], status=EXIT_OK)
    assert (verdict["status"], verdict["findings"], verdict["account"]["total_ns"]) == ("healthy", [], 0)


@pytest.mark.parametrize("words", [("--no-trace",), ("-d", "1s")])
def test_without_root_counters_are_judged(words: tuple[str, ...]) -> None:
    """Oracle: there is no finding, since nothing was traced, and the user is told."""
    done = run_as_nobody("diagnose", "--json", *words)
    assert done.returncode in (EXIT_OK, EXIT_INCONCLUSIVE), done.stderr
    verdict = json.loads(done.stdout)
    assert (verdict["traced"], verdict["findings"]) == (False, [])
    assert verdict["quality"]["caveats"][0].startswith("without tracing")
    assert ("cannot trace" in done.stderr) == (words[0] == "-d")


def test_a_signal_ends_it_with_a_verdict(mmwatch: Mmwatch) -> None:
    """Oracle: the length of what was judged."""
    running = mmwatch.start("diagnose", "-d", "100s", "--json")
    running.wait_for("tracing for 100 s", "err")
    assert running.stop(signal.SIGINT) in (EXIT_OK, EXIT_FINDING, EXIT_INCONCLUSIVE), running.stderr
    assert 0 < json.loads(running.stdout)["duration_ns"] < 30_000_000_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-p", "1", "-c", "/"), "cannot be combined"),
        (("--begin", "10:00"), "add --from FILE"),
        (("--from", "x.mmw", "-d", "5s"), "cannot be combined with --from"),
    ],
)
def test_options_that_make_no_sense(mmwatch: Mmwatch, words: tuple[str, ...], said: str) -> None:
    done = mmwatch.run("diagnose", *words)
    assert done.returncode == EXIT_USAGE
    assert said in done.stderr
