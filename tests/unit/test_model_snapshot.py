"""Snapshots: from an interval to the figures of a table or a JSON object."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from make import VMSTAT, make_interval, make_rows, make_session, random_rows

from mmwatch.model.groupings import GROUPINGS
from mmwatch.model.interval import Interval, Loss, Node, Probe, Process, Session
from mmwatch.model.json import to_json
from mmwatch.model.measures import MEASURES, PATHS, STALL_BUCKETS, Fold
from mmwatch.model.merge import merge
from mmwatch.model.rows import bucket_edges_ns, limit_rows, stall_quantile_ns
from mmwatch.model.snapshot import UNATTRIBUTED, take

# Issue 2, "`report --json` prints one object". Keys may be added, never renamed.
CONTRACT = {
    "": {"schema", "session", "totals", "rows", "nodes", "accounting"},
    "session": {"start", "duration_s", "kernel", "filter"},
    "totals": {
        *("reclaims", "scanned_pages", "reclaimed_pages", "reclaimed_file_pages", "reclaimed_anon_pages"),
        *("asked_pages", "stall_ns"),
    },
    "row": {
        *("tgid", "tid", "comm", "path", "node", "cgroup", "reclaims", "asked_pages", "scanned_pages"),
        *("reclaimed_pages", "priority_min", "priority_histogram", "stall_ns", "stall_max_ns", "stall_p50_ns"),
        "stall_p99_ns",
    },
    "accounting": {
        *("vmstat_delta", "accounted_ratio", "lost", "missed_runs", "table_full", "unmatched_begin", "unmatched_end"),
    },
}
ADDED = {
    "": {"pressure", "cost", "matrix", "elsewhere", "cgroups", "memory", "inside", "shrinkers"},
    "session": {
        "end",
        "hostname",
        "version",
        "page_size",
        "by",
        "unknown",
        "settings",
        "probes",
        "topology",
        "uptime_s",
    },
    "row": {"cmdline", "nodes", "target", "overshoot", "efficiency", "system_time_us", "freepages_delay_ns"},
    "accounting": {
        *("scanned_ratio", "reclaimed_pages", "vmstat_reclaimed_pages", "scanned_pages", "vmstat_scanned_pages"),
        *("edge_pages", "edge_scanned_pages", "under_way", "comparable", "incomparable_reason", "suppressed"),
    },
}
MEASURED = {m.name for m in MEASURES if m.json}


def as_json(session: Session, interval: Interval, by: str = "task") -> dict[str, Any]:
    text = json.dumps(to_json(take(session, interval, by)), allow_nan=False)
    found: dict[str, Any] = json.loads(text)
    return found


# ---- grouping ----


@pytest.mark.parametrize("by", GROUPINGS)
def test_every_grouping_preserves_sums(by: str) -> None:
    rows = random_rows(500, seed=1)
    snapshot = take(make_session(), make_interval(rows), by)
    keys = GROUPINGS[by]
    assert len(snapshot.rows) == len({tuple(row[key].item() for key in keys) for row in rows})
    for measure in MEASURES:
        if measure.fold in (Fold.SUM, Fold.HISTOGRAM):
            total = rows[measure.name].sum(axis=0)
            assert np.array_equal(snapshot.rows[measure.name].sum(axis=0), total), measure.name
            assert np.array_equal(snapshot.totals[measure.name][0], total), measure.name


@pytest.mark.parametrize("by", GROUPINGS)
def test_nodes_and_overshoot_of_every_grouping(by: str) -> None:
    rows = random_rows(300, seed=2)
    snapshot = take(make_session(), make_interval(rows), by)
    asking = ~np.isin(rows["path"], [PATHS.index("kswapd"), PATHS.index("other")])
    for index, row in enumerate(snapshot.rows):
        members = np.logical_and.reduce([rows[key] == row[key] for key in GROUPINGS[by]])
        assert snapshot.nodes_of[index] == tuple(sorted(set(rows["node"][members].tolist())))
        asked = rows["asked_pages"][members & asking].sum()
        assert snapshot.asked_known[index] == (members & asking).any()
        if asked:
            assert snapshot.overshoot[index] == pytest.approx(rows["reported_pages"][members & asking].sum() / asked)
        else:
            assert np.isnan(snapshot.overshoot[index])


@pytest.mark.parametrize("by", GROUPINGS)
def test_nothing_at_all(by: str) -> None:
    snapshot = take(make_session(), make_interval(), by)
    assert (len(snapshot.rows), len(snapshot.nodes_of), len(snapshot.totals)) == (0, 0, 0)
    assert as_json(make_session(), make_interval(), by)["totals"]["reclaims"] == 0


def test_select_keeps_rows_and_what_belongs_to_them_together() -> None:
    snapshot = take(make_session(), make_interval(random_rows(200, seed=3)))
    chosen = np.array([7, 3, 5])
    some = snapshot.select(chosen)
    assert np.array_equal(some.rows, snapshot.rows[chosen])
    everybody = snapshot.identities()
    assert some.identities() == {key: [values[index] for index in chosen] for key, values in everybody.items()}
    assert snapshot.identity(3) == {key: values[3] for key, values in everybody.items()}
    assert some.accounting == snapshot.accounting


# ---- identity ----


def test_who_a_row_is() -> None:
    rows = make_rows({"tgid": 7, "tid": 8, "comm": b"worker", "path": "node", "node": 1, "cgroup_id": 9})
    interval = make_interval(rows, processes={7: Process(7, "main", "main --x", 1)}, cgroups={9: "/web"})
    who = {by: take(make_session(), interval, by).identity(0) for by in GROUPINGS}
    task = {
        "tgid": 7,
        "tid": None,
        "comm": "worker",
        "cmdline": "main --x",
        "path": "node",
        "node": 1,
        "cgroup": "/web",
        "target": "(host)",
    }
    nobody = {**dict.fromkeys(task), "target": "(host)"}
    assert who == {
        "task": task,
        "thread": {**task, "tid": 8},
        "comm": {**nobody, "comm": "worker", "path": "node", "node": 1, "cgroup": "/web"},
        "node": {**nobody, "node": 1, "cgroup": "/web"},
        "cgroup": {**nobody, "node": 1, "cgroup": "/web"},
        "target": {**nobody, "node": 1, "cgroup": "/web"},
        "path": {**nobody, "path": "node", "node": 1, "cgroup": "/web"},
    }


def targets_of(*rows: dict[str, Any], by: str = "task", **session: Any) -> list[str | None]:
    interval = make_interval(make_rows(*rows), cgroups={1: "/prod/cache", 2: "/prod"})
    found: list[str | None] = take(make_session(**session), interval, by).identities()["target"]
    return found


def test_the_target_is_the_cgroup_whose_limit_binds() -> None:
    task = {"cgroup_id": 1, "target_id": 2}
    assert targets_of(task) == ["/prod"]
    assert targets_of(task, unknown=frozenset({"target_id"})) == [None]
    assert targets_of({**task, "target_id": 3}) == [None]  # gone before its name was known
    assert targets_of(task, {**task, "target_id": 1}) == [None]
    both = targets_of(task, {**task, "target_id": 1}, by="target")
    assert sorted(map(str, both)) == ["/prod", "/prod/cache"]


def test_the_host_is_the_target_of_what_is_for_no_cgroup() -> None:
    for path in ("direct", "node", "kswapd", "proactive"):
        assert targets_of({"path": path}) == ["(host)"], path
    for path in ("memcg", "softlimit", "other"):
        assert targets_of({"path": path}) == [None], path
    assert targets_of({"path": "proactive", "start_ns": 0}) == [None]  # a row that many share
    assert targets_of({"path": "direct"}, {"path": "other"}, by="target") == ["(host)"]
    assert targets_of({"path": "direct"}, {"path": "softlimit"}, by="target") == [None]
    assert targets_of({"path": "direct"}, {"path": "memcg", "target_id": 2}, by="node") == [None]


def test_rows_that_stayed_empty_do_not_hide_the_target() -> None:
    used = {"cgroup_id": 1, "target_id": 2, "start_ns": 2, "reclaims": 1}
    assert targets_of({"cgroup_id": 1, "target_id": 0}, used) == ["/prod"]
    assert targets_of({"path": "direct", "reclaims": 1}, {"path": "memcg"}, by="target") == ["(host)"]


def test_rows_of_another_target_are_not_folded() -> None:
    rows = make_rows({"target_id": 1, "reclaims": 1}, {"target_id": 2, "reclaims": 2})
    merged = merge(make_interval(rows), make_interval(rows))
    assert dict(zip(merged.rows["target_id"].tolist(), merged.rows["reclaims"].tolist())) == {1: 2, 2: 4}
    assert limit_rows(np.repeat(rows, 4), 1)["target_id"].tolist()[1:] == [0]


def test_what_differs_within_a_row_has_no_name() -> None:
    rows = make_rows(
        {"tid": 1, "comm": b"a", "node": 0, "cgroup_id": 1}, {"tid": 2, "comm": b"b", "node": 1, "cgroup_id": 2}
    )
    interval = make_interval(rows, cgroups={1: "/a", 2: "/b"})
    who = take(make_session(), interval).identity(0)
    assert (who["comm"], who["node"], who["cgroup"]) == (None, None, None)
    known = make_interval(rows, processes={100: Process(100, "main")})
    assert take(make_session(), known).identity(0)["comm"] == "main"


def test_what_has_no_row_of_its_own_is_called_so() -> None:
    overflow = {"tgid": 0, "comm": b"", "node": -1}
    stranger = {"tgid": 0, "tid": 0, "comm": b"elsewhere"}
    who = [take(make_session(), make_interval(make_rows(*rows))).identity(0) for rows in ([overflow], [stranger])]
    assert [(one["tgid"], one["comm"], one["node"]) for one in who] == [
        (None, UNATTRIBUTED, None),
        (None, "elsewhere", 0),
    ]
    both = take(make_session(), make_interval(make_rows(overflow, stranger))).identity(0)
    assert both["comm"] == UNATTRIBUTED
    by_name = take(make_session(), make_interval(make_rows(overflow, stranger)), "comm").identities()["comm"]
    assert sorted(by_name) == [UNATTRIBUTED, "elsewhere"]


def test_short_lived_tasks_of_a_name_are_one_row() -> None:
    rows = make_rows(*({"tgid": tgid, "comm": b"dd", "reclaims": 1, "start_ns": tgid} for tgid in range(50)))
    snapshot = take(make_session(), make_interval(rows), "comm")
    assert (snapshot.identities()["comm"], snapshot.rows["reclaims"].tolist()) == (["dd"], [50])


@pytest.mark.parametrize("comm", [b"\x1b[2J", b"a\nb", b"\xff\xfe", "\u202eexe".encode(), b'"quoted"'])
def test_json_holds_no_hostile_name(comm: bytes) -> None:
    row = as_json(make_session(), make_interval(make_rows({"comm": comm})))["rows"][0]
    assert row["comm"].isprintable()
    row["comm"].encode()  # no lone surrogates, which other JSON readers refuse


# ---- quantiles ----


def histogram(times_ns: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """As stall_bucket() of bpf/brackets.h counts: by the bits after the highest one set."""
    found = np.zeros(STALL_BUCKETS, np.uint64)
    for ns in times_ns.tolist():
        top = ns.bit_length() - 1
        found[0 if ns < 256 else min(1 + (top - 8) * 4 + ((ns >> (top - 2)) & 3), STALL_BUCKETS - 1)] += 1
    return found


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("quantile", [0.5, 0.99])
def test_a_quantile_is_within_12_percent(seed: int, quantile: float) -> None:
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 2000))
    # From where the buckets are as fine as promised, 256 ns, to a quarter of an hour's worth of octaves.
    times = np.exp(random.uniform(np.log(256), np.log(4e11 ** random.uniform(0.5, 1)), count)).astype(np.int64)
    rows = make_rows({"stall_histogram": histogram(times), "stall_max_ns": times.max()})
    exact = np.percentile(times, quantile * 100, method="inverted_cdf")
    assert stall_quantile_ns(rows, quantile)[0] == pytest.approx(exact, rel=0.12)


def test_quantiles_of_none_and_of_one() -> None:
    one = make_rows({"stall_histogram": histogram(np.array([1000])), "stall_max_ns": 1000}, {})
    found = stall_quantile_ns(one, 0.99)
    assert found[0] <= 1000
    assert np.isnan(found[1])
    assert len(stall_quantile_ns(make_rows(), 0.5)) == 0


def test_bucket_edges() -> None:
    edges = bucket_edges_ns()
    assert len(edges) == STALL_BUCKETS + 1
    assert edges[:6].tolist() == [0, 256, 320, 384, 448, 512]
    for bucket in range(1, STALL_BUCKETS):
        assert histogram(np.array([int(edges[bucket])]))[bucket] == 1
        assert histogram(np.array([int(edges[bucket]) - 1]))[bucket - 1] == 1
    assert 824e9 < edges[-2] < 825e9


# ---- accounting ----

ROWS = make_rows({"reclaimed_file_pages": 60, "reclaimed_anon_pages": 4, "scanned_file_pages": 100})
COUNTED = {"pgsteal_anon": 4, "pgsteal_file": 60, "pgscan_anon": 0, "pgscan_file": 125}


def test_accounted() -> None:
    counts = take(make_session(), make_interval(ROWS, vmstat=COUNTED)).accounting
    assert (counts.ratio, counts.scanned_ratio, counts.incomparable) == (1.0, 0.8, "")


@pytest.mark.parametrize(
    ("session", "vmstat", "reason"),
    [
        ({"filter": {"pid": 1}}, COUNTED, "filter"),
        ({"incomparable": "because"}, COUNTED, "because"),
        ({}, {"pgscan_anon": 1, "pgscan_file": 1}, "pgsteal"),
        ({"unknown": frozenset(["reclaimed_file_pages"])}, COUNTED, "no probe"),
        ({}, VMSTAT, ""),
    ],
)
def test_no_ratio(session: dict[str, Any], vmstat: dict[str, int], reason: str) -> None:
    counts = take(make_session(**session), make_interval(ROWS, vmstat=vmstat)).accounting
    assert counts.ratio is None
    assert reason in counts.incomparable
    assert bool(counts.incomparable) == bool(reason)


def test_scans_may_be_unknown_alone() -> None:
    vmstat = {name: value for name, value in COUNTED.items() if "steal" in name}
    counts = take(make_session(), make_interval(ROWS, vmstat=vmstat)).accounting
    assert (counts.ratio, counts.scanned_ratio) == (1.0, None)
    unknown = make_session(unknown=frozenset(["scanned_anon_pages"]))
    counts = take(unknown, make_interval(ROWS, vmstat=COUNTED)).accounting
    assert (counts.ratio, counts.scanned_ratio, counts.scanned_pages) == (1.0, None, None)


def test_accounts_add_up() -> None:
    loss = Loss(lost={"reclaim": 1}, missed_runs=2, unmatched_end=3, table_full=4)
    first = take(make_session(), make_interval(ROWS, vmstat=COUNTED, edge_begin_pages=9)).accounting
    second = take(make_session(), make_interval(ROWS, vmstat=VMSTAT, loss=loss)).accounting
    both = first.then(second)
    assert (both.reclaimed_pages, both.vmstat_reclaimed_pages, both.ratio) == (128, 64, 2.0)
    assert both.edge_pages == 9
    assert both.loss.missed_runs is None  # not known in the first
    assert (both.lost, second.lost) == (8, 10)
    filtered = take(make_session(filter={"pid": 1}), make_interval(ROWS)).accounting
    assert first.then(filtered).ratio is None


# ---- JSON ----


@pytest.mark.parametrize("by", GROUPINGS)
def test_json_has_the_keys_of_the_contract(by: str) -> None:
    interval = make_interval(random_rows(30, seed=4), nodes=(Node(0, 1, 2, 3, 4, 5, 6, 7),))
    found = as_json(make_session(probes=(Probe("batches", "tp", "attached"),)), interval, by)
    assert found["schema"] == 1
    assert found.keys() == CONTRACT[""] | ADDED[""]
    assert found["session"].keys() == CONTRACT["session"] | ADDED["session"]
    assert found["totals"].keys() == MEASURED - {"gfp_flags"} | {"scanned_pages", "reclaimed_pages"}
    assert found["totals"].keys() >= CONTRACT["totals"]
    assert found["accounting"].keys() == CONTRACT["accounting"] | ADDED["accounting"]
    assert found["rows"]
    for row in found["rows"]:
        assert row.keys() == CONTRACT["row"] | ADDED["row"] | MEASURED


def test_json_figures() -> None:
    rows = make_rows(
        {
            "asked_pages": 32,
            "reported_pages": 64,
            "reclaims": 2,
            "stall_ns": -5,
            "reclaimed_file_pages": 60,
            "reclaimed_anon_pages": 4,
            "scanned_file_pages": 128,
            "priority_histogram": [0, 0, 3] + [0] * 10,
        },
        {"path": "kswapd", "tgid": 50, "asked_pages": 999},
    )
    processes = {100: Process(100, system_time_us=12)}
    totals, (first, kswapd) = (
        as_json(make_session(), make_interval(rows, processes=processes))[key] for key in ("totals", "rows")
    )
    if first["tgid"] != 100:
        first, kswapd = kswapd, first
    wanted = {
        "asked_pages": 32,
        "overshoot": 2.0,
        "efficiency": 0.5,
        "reclaimed_pages": 64,
        "scanned_pages": 128,
        "priority_min": 2,
        "stall_ns": 0,
        "system_time_us": 12,
        "freepages_delay_ns": None,
        "stall_p50_ns": None,
    }
    assert {key: first[key] for key in wanted} == wanted
    assert [kswapd[key] for key in ("asked_pages", "overshoot", "efficiency", "priority_min")] == [None] * 4
    assert (totals["reclaims"], totals["reclaimed_pages"]) == (2, 64)


@pytest.mark.parametrize(
    ("unknown", "keys"),
    [
        ("scanned_anon_pages", {"scanned_anon_pages", "scanned_pages", "efficiency"}),
        ("priority_histogram", {"priority_histogram"}),
        ("stall_histogram", {"stall_p50_ns", "stall_p99_ns"}),
        ("asked_pages", {"asked_pages", "overshoot"}),
        ("throttled_ns", {"throttled_ns"}),
    ],
)
def test_what_has_no_probe_is_null(unknown: str, keys: set[str]) -> None:
    ones = {m.name: np.ones(m.length) if m.length else 1 for m in MEASURES}
    interval = make_interval(make_rows(ones))
    known = as_json(make_session(), interval)
    found = as_json(make_session(unknown=frozenset([unknown])), interval)
    row = found["rows"][0]
    assert {key for key in row if row[key] is None and known["rows"][0][key] is not None} == keys
    assert {key for key, value in found["totals"].items() if value is None} == keys & found["totals"].keys()


def test_the_lowest_priority_is_known_by_batches_or_by_passes() -> None:
    rows = make_rows({"pass_histogram": np.arange(13)})
    both = frozenset(["priority_histogram", "pass_histogram"])
    known = as_json(make_session(unknown=both - {"pass_histogram"}), make_interval(rows))
    assert known["rows"][0]["priority_min"] == 1
    assert as_json(make_session(unknown=both), make_interval(rows))["rows"][0]["priority_min"] is None


def test_what_kswapd_freed_is_unknown_where_no_batch_tells() -> None:
    rows = make_rows({"path": "kswapd", "reclaims": 3, "reclaims_futile": 3}, {"path": "direct", "reclaims_futile": 1})
    silent = make_session(unknown=frozenset(["reclaimed_file_pages", "reclaimed_anon_pages"]))
    found = as_json(silent, make_interval(rows), "path")
    futile = {row["path"]: row["reclaims_futile"] for row in found["rows"]}
    assert futile == {"kswapd": None, "direct": 1}
    assert found["totals"]["reclaims_futile"] is None
    assert as_json(make_session(), make_interval(rows), "path")["totals"]["reclaims_futile"] == 4


def test_json_keeps_the_order_asked_for() -> None:
    snapshot = take(make_session(), make_interval(random_rows(40, seed=5)))
    order = np.array([5, 1, 9])
    assert [row["tgid"] for row in to_json(snapshot, order)["rows"]] == snapshot.rows["tgid"][order].tolist()
