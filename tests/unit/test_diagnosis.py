"""The verdict: each kind of trouble is found first, nothing is found on a healthy host, and the account adds up."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from make import make_session
from make_observations import GIB, HEALTHY, KSWAPD, SHORT, TROUBLES, S, at, cgroup, host, row, total

from mmwatch.diagnosis.answers import Answer, Clear, Evidence, Found, Remedy, Unknown
from mmwatch.diagnosis.json import to_json
from mmwatch.diagnosis.judge import independent, judge
from mmwatch.diagnosis.lately import Lately
from mmwatch.diagnosis.observation import Observation
from mmwatch.diagnosis.rule import Rule
from mmwatch.diagnosis.rules import all_rules
from mmwatch.diagnosis.subject import restrict, subject
from mmwatch.display.verdict import headline, verdict_lines
from mmwatch.kernel.plan import measures_of
from mmwatch.model.interval import CgroupMemory, Inside, Loss, Node, Probe, Process, Shrinker
from mmwatch.model.measures import MEASURES

RULES = {rule.id: rule for rule in all_rules()}
NEVER = {"kswapd-busy"}
"""Rules that only say what they saw."""


def found_by(observation: Observation) -> list[str]:
    return [finding.rule.id for finding in judge(observation).findings]


def test_there_is_a_case_for_each_rule() -> None:
    assert set(TROUBLES) == set(RULES) - NEVER


@pytest.mark.parametrize("name", TROUBLES)
def test_each_kind_of_trouble_is_found_first(name: str) -> None:
    verdict = judge(TROUBLES[name]())
    assert verdict.status == "finding"
    assert verdict.findings[0].rule.id == name
    found = verdict.findings[0].found
    assert independent(found.evidence) >= 2
    assert found.remedy.advice
    assert found.cause
    assert found.resolves is not None


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_host_is_healthy(name: str) -> None:
    verdict = judge(HEALTHY[name]())
    assert (verdict.status, found_by(HEALTHY[name]())) == ("healthy", [])
    assert verdict.summary


@pytest.mark.parametrize("name", TROUBLES)
def test_no_time_is_claimed_twice(name: str) -> None:
    observation = TROUBLES[name]()
    verdict = judge(observation)
    account = verdict.account
    assert account.total_ns + account.kswapd_ns == total(observation)
    assert 0 <= account.claimed_ns <= account.total_ns
    assert 0 <= account.kswapd_claimed_ns <= account.kswapd_ns
    claimed = sum(one.claims_ns for one in verdict.findings)
    assert account.unexplained_ns == account.total_ns - claimed - account.ordinary_ns


def test_the_price_of_ordinary_work_is_explained() -> None:
    verdict = judge(HEALTHY["a stream at its limit"]())
    assert (verdict.account.ordinary_ns, verdict.account.unexplained_ns) == (3 * (S // 8), 0)


def test_two_kinds_of_trouble_share_the_time() -> None:
    observation = host(
        row(path="node", reclaims_futile=100, reported_pages=0),
        row(tgid=200, comm=b"other", stall_ns=S // 4),
        nodes=TROUBLES["zone-reclaim-futile"]().last.nodes,
        settings={"zone_reclaim_mode": 1, "watermark_scale_factor": 10},
        vmstat={"zone_reclaim_failed": 100, "allocstall_normal": 100},
        processes={200: Process(200, "other", mempolicy="bind:0", mems_allowed="0-1")},
    )
    verdict = judge(observation)
    assert [(one.rule.id, one.claims_ns) for one in verdict.findings] == [
        ("zone-reclaim-futile", 3 * S // 2),
        ("node-bound", 3 * S // 4),
    ]
    assert verdict.account.unexplained_ns == 0
    assert verdict.summary == "Tasks spent 2.25s in reclaim; findings 1, 2 explain 100% of it."


QUIET_PRESSURE = {"some_us": 0, "full_us": 0, "some_avg10": 0.0, "full_avg10": 0.0}
SLOW_DISK = {**QUIET_PRESSURE, "io_some_us": 500_000, "io_full_us": 0}
OTHERWISE = {
    "dirty pages, without sleep": (
        "writeback-throttle",
        lambda: host(row(dirty_pages=3500), vmstat={"allocstall_normal": 100, "nr_vmscan_immediate_reclaim": 500}),
    ),
    "a node's cache is dirty, without batches": (
        "writeback-throttle",
        lambda: host(
            row(scanned_file_pages=0),
            nodes=(replace(SHORT, file_pages=1000, dirty_pages=400, writeback_pages=500),),
            vmstat={"allocstall_normal": 100},
        ),
    ),
    "a reserve of a low zone": (
        "unusable-free",
        lambda: host(row(), nodes=(Node(0, 90_000, 5_000, 7_000, 9_000, 250_000, free_reserved_pages=85_000),)),
    ),
    "slab in a cgroup": (
        "slab-unreclaimable",
        lambda: cgroup(row(), grown={"max": 1000}, levels={"file": 10 << 20, "slab_unreclaimable": 60 << 20}),
    ),
    "few pages read again, but the disk is slow": (
        "cache-thrash",
        lambda: cgroup(row(stall_ns=S // 30), grown={"max": 1000, "workingset_refault_file": 900}, pressure=SLOW_DISK),
    ),
    "an agent that is quick, but takes what is in use": (
        "proactive-agent",
        lambda: host(
            row(path="proactive", stall_ns=S // 30, comm=b"senpai"),
            vmstat={"pgsteal_proactive": 3300, "workingset_refault_file": 3200},
        ),
    ),
    "mapped files with much read-ahead": (
        "exec-thrash",
        lambda: cgroup(
            row(stall_ns=S // 30),
            grown={"max": 1000, "workingset_refault_file": 2500, "pgmajfault": 12},
            levels={"file": 80 << 20, "file_mapped": 60 << 20},
        ),
    ),
}
"""The same findings from other signs than in TROUBLES."""


@pytest.mark.parametrize("name", OTHERWISE)
def test_other_signs_of_the_same(name: str) -> None:
    rule, make = OTHERWISE[name]
    verdict = judge(make())
    assert verdict.findings[0].rule.id == rule, verdict.summary


SILENT = measures_of(("batches", "scans"))
UNSEEN = {"reclaimed_file_pages": 0, "scanned_file_pages": 0}
AGAIN = {"workingset_refault_file": 9000, "pgsteal_kswapd": 9000, "pgscan_kswapd": 9100}
IN_RAM = {"swap_total": GIB, "swap_free": GIB // 2, "swap_in_ram": GIB}
WITHOUT_BATCHES = {
    "swap-storm": lambda **more: host(row(**UNSEEN), vmstat={"pswpin": 3000, "pswpout": 3300}, **more),
    "zram-spin": lambda **more: cgroup(
        row(**UNSEEN),
        grown={"max": 1000, "workingset_refault_file": 0},
        memory=IN_RAM,
        vmstat={"pswpin": 3000, "pswpout": 3300},
        **more,
    ),
    "cache-thrash": lambda **more: host(
        row(**KSWAPD, **UNSEEN, reported_pages=0, stall_ns=S // 20), vmstat=AGAIN, **more
    ),
    "slab-unreclaimable": lambda **more: host(
        row(**KSWAPD, **UNSEEN, reported_pages=0, stall_ns=S // 20),
        vmstat=AGAIN,
        memory={"slab_unreclaimable": GIB},
        **more,
    ),
    "exec-thrash": lambda **more: cgroup(
        row(**UNSEEN, reported_pages=12_000),
        grown={"max": 1000, "workingset_refault_file": 1800, "pgmajfault": 600},
        levels={"file": 80 << 20, "file_mapped": 60 << 20},
        **more,
    ),
}
"""As on 6.1 with the multi-generational LRU, where batches have no events."""


@pytest.mark.parametrize("name", WITHOUT_BATCHES)
def test_without_batches_counters_tell(name: str) -> None:
    observation = WITHOUT_BATCHES[name](session={"unknown": SILENT}, settings={"lru_gen_enabled": 7})
    verdict = judge(observation)
    assert verdict.findings[0].rule.id == name, verdict.summary


def test_a_cgroup_that_swaps_does_not_stream_through_files() -> None:
    observation = WITHOUT_BATCHES["zram-spin"](session={"unknown": SILENT})
    found = RULES["memcg-limit"].judge(observation)
    assert isinstance(found, Found)
    assert "does not fit its limit" in found.cause


def test_what_an_old_kernel_does_not_count_is_no_zero() -> None:
    """zone_reclaim_success is new in 6.12."""
    observation = TROUBLES["zone-reclaim-thrash"]()
    old = tuple(
        replace(one, vmstat={name: value for name, value in one.vmstat.items() if name != "zone_reclaim_success"})
        for one in observation.intervals
    )
    (counter,) = (
        one.text
        for one in judge(replace(observation, intervals=old)).findings[0].found.evidence
        if one.label == "counter"
    )
    assert counter == "zone_reclaim_failed grew by 30, successes are not counted"


def test_a_limit_with_some_reading_ahead_is_no_thrash() -> None:
    grown = {"max": 1000, "workingset_refault_file": 1600, "pgmajfault": 0}
    assert 0.2 < 1600 / (2 * 3300) < 0.35
    rows = (row(reported_pages=3300), row(tgid=101, reported_pages=3300))
    assert found_by(cgroup(*rows, grown=grown)) == ["memcg-limit"]
    idle = tuple({**one, "stall_ns": S // 100} for one in rows)
    assert found_by(cgroup(*idle, grown=grown)) == ["cache-thrash"]


def test_many_tasks_that_stream_lose_much_together() -> None:
    def streams(tasks: int) -> Observation:
        rows = [row(tgid=100 + number, stall_ns=S // 10) for number in range(tasks)]
        return cgroup(*rows, grown={"max": 1000, "workingset_refault_file": 0})

    assert found_by(streams(4)) == []
    assert found_by(streams(6)) == ["memcg-limit"]


def test_a_write_of_3_drops_the_caches_once() -> None:
    """It counts as drop_pagecache and as drop_slab."""
    both = {"drop_pagecache": 1, "drop_slab": 1, "pgpgin": 50_000}
    found = RULES["drop-caches"].judge(host(vmstat=both))
    assert isinstance(found, Found)
    assert "dropped the caches of the whole host 3 times in 3 s" in found.summary
    once = RULES["drop-caches"].judge(host(count=1, vmstat={**both, "pgpgin": 0}))
    assert isinstance(once, Clear)
    assert "(1 time)" in once.reason


def test_large_folios_of_the_page_cache_are_no_trouble_of_their_own() -> None:
    """Nobody asked for huge pages: the order comes from reading ahead."""
    orders = {"order_histogram": at(9, 100, 11)}
    assert "high-order" not in found_by(host(row(**orders), vmstat={"compact_stall": 100, "allocstall_normal": 100}))


def test_what_kswapd_does_is_no_wait() -> None:
    """PSI counts kswapd's own work as if a task waited."""
    busy = row(**KSWAPD, stall_ns=S // 2, cpu_ns=S // 2)
    assert judge(host(busy, pressure={**QUIET_PRESSURE, "some_us": 500_000})).status == "healthy"


def test_tasks_whose_cgroup_is_not_known() -> None:
    observation = restrict(host(row(cgroup_id=0), vmstat={"allocstall_normal": 100}), cgroup="/app")
    verdict = judge(observation)
    assert (verdict.status, verdict.account.total_ns) == ("inconclusive", 0)
    assert "whose cgroup is not known spent 1.50s" in " ".join(verdict.caveats)


def test_what_nobody_explains_is_said_first() -> None:
    """Reclaim that was under way when mmwatch started has no path."""
    observation = host(
        row(path="node", reclaims_futile=100, reported_pages=0),
        row(path="other", tgid=300, stall_ns=S),
        settings={"zone_reclaim_mode": 1},
        nodes=TROUBLES["zone-reclaim-futile"]().last.nodes,
        vmstat={"zone_reclaim_failed": 100},
    )
    verdict = judge(observation)
    assert verdict.summary.startswith("66.7% of 4.50s in reclaim is not explained.")
    assert verdict.status == "finding"


def test_harm_that_no_rule_explains_is_inconclusive() -> None:
    verdict = judge(host(row(path="other")))
    assert (verdict.status, verdict.findings) == ("inconclusive", ())
    assert verdict.next


def test_pressure_alone_is_no_finding() -> None:
    observation = host(pressure={"some_us": 900_000, "full_us": 0})
    verdict = judge(observation)
    assert (verdict.status, verdict.findings) == ("inconclusive", ())
    assert "PSI" in verdict.summary


def test_with_too_much_lost_nothing_is_ruled_out() -> None:
    verdict = judge(host(loss=Loss(missed_runs=1000)))
    assert verdict.status == "degraded"
    assert {one.state for one in verdict.rejected} == {"unknown"}
    found = judge(replace_loss(TROUBLES["direct-reclaim"](), Loss(missed_runs=1000)))
    assert (found.status, found.findings[0].confidence) == ("finding", "low")


def replace_loss(observation: Observation, loss: Loss) -> Observation:
    return replace(observation, intervals=tuple(replace(one, loss=loss) for one in observation.intervals))


@pytest.mark.parametrize("name", sorted(TROUBLES))
def test_a_need_that_is_not_met_is_unknown(name: str) -> None:
    observation = TROUBLES[name]()
    for need in RULES[name].needs:
        session = replace(observation.session, unknown=frozenset({need}))
        verdict = judge(replace(observation, session=session), [RULES[name]])
        assert [(one.state, need in one.reason) for one in verdict.rejected] == [("unknown", True)]


def test_without_tracing_counters_name_suspects() -> None:
    everything = frozenset(measure.name for measure in MEASURES)

    def look(**fields: Any) -> Observation:
        return replace(host(count=1, session={"unknown": everything}, **fields), traced=False)

    quiet = judge(look())
    assert (quiet.status, quiet.signs) == ("healthy", ())
    assert quiet.caveats
    verdict = judge(look(vmstat={"zone_reclaim_failed": 25_000}, settings={"zone_reclaim_mode": 1}))
    assert (verdict.status, [sign.label for sign in verdict.signs]) == ("inconclusive", ["zone-reclaim-futile"])
    assert verdict.next == "sudo mmwatch diagnose"
    assert {
        sign.label for sign in judge(look(vmstat={"allocstall_normal": 5, "pswpin": 500, "pswpout": 500})).signs
    } == {
        "direct-reclaim",
        "swap-storm",
    }


def test_one_piece_of_evidence_makes_no_finding() -> None:
    def answer(observation: Observation) -> Answer:
        evidence = (Evidence("a", "one", "x"), Evidence("b", "two", "x"))
        return Found("s", evidence, "c", Remedy("r"), np.zeros(0, np.int64))

    verdict = judge(host(), [Rule("x", "t", "m", answer, needs=())])
    assert [one.state for one in verdict.rejected] == ["unknown"]


def test_the_limit_that_binds_may_be_a_parents() -> None:
    verdict = judge(TROUBLES["memcg-limit"]())
    found = verdict.findings[0].found
    assert found.cgroups == ("/app",)
    assert "They run below it, in /app/web." in found.summary
    assert found.remedy.commands == ("echo 157286400 >/sys/fs/cgroup/app/memory.max",)
    assert found.remedy.undo == ("echo 104857600 >/sys/fs/cgroup/app/memory.max",)


def test_the_target_tells_whose_limit_binds() -> None:
    """The counters of both grew; a child of the target was hit more often."""
    observation = cgroup(row(target_id=7), grown={"max": 1000, "workingset_refault_file": 400})
    inner = CgroupMemory(60 << 20, None, 60 << 20, 5, grown={"max": 9000}, levels={})
    memory = {7: observation.last.cgroup_memory[7], 8: inner}
    intervals = tuple(replace(one, cgroup_memory=memory) for one in observation.intervals)
    observation = replace(observation, intervals=intervals)
    assert list(observation.bound(observation.on("memcg"), "max")) == ["/app"]
    assert judge(observation).findings[0].found.cgroups == ("/app",)


def test_the_nearest_cgroup_whose_limit_is_hit_binds() -> None:
    observation = cgroup(row(), grown={"max": 1000})
    inner = CgroupMemory(60 << 20, None, 60 << 20, 5, grown={"max": 900}, levels={})
    memory = {7: observation.last.cgroup_memory[7], 8: inner}
    intervals = tuple(replace(one, cgroup_memory=memory) for one in observation.intervals)
    assert list(replace(observation, intervals=intervals).bound(observation.on("memcg"), "max")) == ["/app/web"]


@pytest.mark.parametrize(
    ("name", "estimate_ns"), [("memcg-high", 3 * S * 4 // 10), ("memcg-high-livelock", 3 * S * 45 // 100)]
)
def test_sleep_above_memory_high_is_measured_or_else_at_least_the_rest_of_the_wait(name: str, estimate_ns: int) -> None:
    observation = TROUBLES[name]()
    measured = judge(observation).findings[0].found
    (evidence,) = (one for one in measured.evidence if one.label == "sleep")
    assert (evidence.source, evidence.observed) == ("schedule_timeout_killable", 0.5)
    assert evidence.text == "its tasks slept 1.50s outside of reclaim, measured"
    assert measured.cost_ns == 3 * S // 2
    session = replace(observation.session, unknown=frozenset({"high_sleep_ns"}))
    estimated = judge(replace(observation, session=session)).findings[0].found
    assert "sleep" not in {one.label for one in estimated.evidence}
    assert estimated.cost_ns == estimate_ns
    if name == "memcg-high":
        assert not any("at least" in text for text in measured.cost)
        assert any("at least 1.20s asleep" in text for text in estimated.cost)


def test_hostile_names_reach_neither_a_terminal_nor_a_shell() -> None:
    observation = TROUBLES["memcg-limit"]()
    name = "/a; rm -rf \\x1b[31m"
    intervals = tuple(replace(one, cgroups={7: name, 8: f"{name}/b"}) for one in observation.intervals)
    observation = replace(observation, intervals=intervals)
    (command,) = judge(observation).findings[0].found.remedy.commands
    assert shlex.split(command.replace(" >", " > ")) == ["echo", "157286400", ">", f"/sys/fs/cgroup{name}/memory.max"]


@pytest.mark.parametrize("name", [*TROUBLES, *HEALTHY])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_text_fits_and_the_commands_are_whole(name: str, width: int) -> None:
    observation = {**TROUBLES, **HEALTHY}[name]()
    verdict = judge(observation)
    for verbose in (False, True):
        lines = verdict_lines(verdict, observation, verbose, width)
        remedies = [one.found.remedy for one in verdict.findings]
        commands = {line for one in remedies for line in (*one.commands, *one.undo, one.persistent) if line}
        for line in lines:
            assert len(line) <= width or " " not in line.strip() or any(command in line for command in commands), line
        if verdict.findings:
            text = "\n".join(lines)
            assert all(command in text for command in verdict.findings[0].found.remedy.commands)
    assert headline(verdict)


def test_the_first_finding_fits_one_screen() -> None:
    for name, make in TROUBLES.items():
        observation = make()
        assert len(verdict_lines(judge(observation), observation)) <= 48, name


def test_every_figure_is_in_the_json() -> None:
    for make in (*TROUBLES.values(), *HEALTHY.values()):
        observation = make()
        verdict = judge(observation)
        made = json.loads(json.dumps(to_json(verdict, observation), allow_nan=False))
        assert [one["id"] for one in made["findings"]] == [one.rule.id for one in verdict.findings]
        assert len(made["rejected"]) + len(made["findings"]) == len(RULES)


def test_one_process() -> None:
    observation = host(
        row(stall_ns=S // 50),
        row(tgid=200, comm=b"other"),
        vmstat={"allocstall_normal": 100},
        processes={100: Process(100, "task", system_time_us=300_000, user_time_us=100_000, major_faults=7)},
    )
    mine = restrict(observation, [100])
    of = subject(mine, [100])
    assert (of.name, of.stall_ns, of.duration_ns) == ("task[100]", 3 * (S // 50), 3 * S)
    assert (of.system_ns, of.user_ns, of.major_faults) == (900_000_000, 300_000_000, 21)
    text = "\n".join(verdict_lines(judge(mine), mine, of=of))
    assert "task[100] spent 60.0ms of 3.00s (2.0%) in reclaim" in text
    assert "Reclaim itself is not what makes it slow." in text
    assert judge(restrict(observation, [200])).findings[0].rule.id == "direct-reclaim"


def test_one_cgroup() -> None:
    observation = TROUBLES["cache-thrash"]()
    mine = restrict(observation, cgroup="/app")
    of = subject(mine, cgroup="/app")
    assert (of.refaults, of.memory_wait_ns) == (6000, 1_800_000_000)
    assert judge(mine).findings[0].rule.id == "cache-thrash"
    assert judge(restrict(observation, cgroup="/elsewhere")).findings == ()


def test_who_dropped_the_caches() -> None:
    observation = TROUBLES["drop-caches"]()
    assert judge(observation).findings[0].found.summary.startswith("Somebody dropped the caches")
    log = ("a b (171): drop_caches: 3", "Out of memory: Killed process 5")
    intervals = tuple(replace(one, kernel_log=log) for one in observation.intervals)
    found = judge(replace(observation, intervals=intervals)).findings[0].found
    assert found.summary.startswith("a b[171] dropped the caches of the whole host 3 times")


def test_avoidable_reclaim_is_quantified() -> None:
    observation = TROUBLES["zone-reclaim-thrash"]()
    avoidable = judge(observation).avoidable
    assert (avoidable.reclaimed_pages, avoidable.stall_ns) == (3 * 3300, 3 * S // 2)
    assert judge(HEALTHY["quiet"]()).avoidable.stall_ns == 0


def test_rules_are_declared_whole() -> None:
    for rule in all_rules():
        for text in (rule.title, rule.meaning, rule.evidence, rule.remedy):
            assert text, rule.id
        assert set(rule.yields_to) <= RULES.keys()
        for threshold in rule.thresholds:
            assert threshold.reason
            assert threshold.what
        assert rule.meaning.endswith(".")


def test_a_module_has_the_name_of_its_rule() -> None:
    for rule in all_rules():
        assert rule.judge.__module__.rpartition(".")[2] == rule.id.replace("-", "_")


def test_answers_are_what_they_claim() -> None:
    """Each rule on each case: no rule raises, whatever else is wrong."""
    for make in (*TROUBLES.values(), *HEALTHY.values()):
        observation = make()
        for rule in all_rules():
            answer = rule.judge(observation)
            assert isinstance(answer, (Found, Clear, Unknown))
            if isinstance(answer, Found):
                assert (answer.claim <= observation.stalls_ns).all()
                assert answer.claim.min(initial=0) >= 0
    empty = replace(host(), session=make_session(), intervals=(replace(host().last, nodes=(), memory={}, vmstat={}),))
    assert judge(empty).status == "healthy"
    assert GIB


def test_who_is_inside_now() -> None:
    observation = TROUBLES["direct-reclaim"]()
    inside = (Inside(7, 7, "stuck", "direct", 0, 3 * S), Inside(8, 8, "quick", "memcg", None, S // 1000))
    last = replace(observation.last, inside=inside)
    observation = replace(observation, intervals=(*observation.intervals[:-1], last))
    text = "\n".join(verdict_lines(judge(observation), observation))
    assert "NOW      stuck[7] has been in direct reclaim on node 0 for 3.00s" in text
    assert "quick[8]" not in text
    assert "quick[8]" in "\n".join(verdict_lines(judge(observation), observation, verbose=True))


def test_the_last_seconds_are_judged_now_and_then() -> None:
    """A verdict holds for five seconds, and looks back ten."""
    trouble, healthy = TROUBLES["direct-reclaim"](), HEALTHY["quiet"]()
    lately = Lately(trouble.session)
    assert lately.verdict() is None

    def status(observation: Observation, now: bool = False) -> str:
        lately.add(observation.last)
        judged = lately.verdict(now)
        assert judged is not None
        return judged[0].status

    assert status(trouble) == "finding"
    assert [status(healthy) for _ in range(4)] == ["finding"] * 4
    assert [status(healthy, now=True) for _ in range(8)][-1] == "healthy"


def shrunk(*shrinkers: Shrinker, **session: Any) -> Found:
    """What is found where reclaim is stuck in these."""
    observation = TROUBLES["shrinker-stall"]()
    intervals = tuple(replace(one, shrinkers=shrinkers) for one in observation.intervals)
    verdict = judge(replace(observation, session=replace(observation.session, **session), intervals=intervals))
    return verdict.findings[0].found


def evidence(found: Found, label: str) -> list[Evidence]:
    return [one for one in found.evidence if one.label == label]


def test_the_worst_shrinker_is_named() -> None:
    worst, other = Shrinker("super_cache_scan", 1000, 300, S * 3 // 10), Shrinker("xfs_scan [xfs]", 9000, 9, S // 10)
    found = shrunk(other, worst)
    assert "above all in super_cache_scan (dentries and inodes of file systems): " in found.summary
    (named,) = evidence(found, "worst")
    assert named.observed == 0.75
    assert "75.0% of the time in shrinkers" in named.text
    assert "went to super_cache_scan: 3000 calls, 0.3 objects freed in each" in named.text


def test_the_remedy_fits_the_shrinker() -> None:
    file = "/sys/kernel/mm/transparent_hugepage/enabled"
    found = shrunk(Shrinker("deferred_split_scan", 1, 0, S), settings={"thp_enabled": "always"})
    assert (found.remedy.commands, found.remedy.undo) == ((f"echo madvise >{file}",), (f"echo always >{file}",))
    assert "buffers of a graphics driver" in shrunk(Shrinker("i915_gem_shrinker_scan [i915]", 1, 0, S)).summary
    found = shrunk(Shrinker("own_scan [own]", 1, 0, S))
    assert "above all in own_scan [own]: " in found.summary
    assert "slabtop" in found.remedy.advice


def test_shrinkers_without_a_name() -> None:
    named = Shrinker("super_cache_scan", 1, 1, S // 100)
    probe = Probe("shrinker names", "/proc/kallsyms", "missing", "hides them")
    found = shrunk(named, Shrinker("", 5, 0, S), probes=(probe,))
    (unnamed,) = evidence(found, "worst")
    assert "went to one or several without a known name (/proc/kallsyms hides them)" in unnamed.text
    assert found.summary == shrunk().summary
    assert evidence(shrunk(), "worst") == []  # an old recording
