"""Between nodes: the matrix, and pages reclaimed from one node while another had plenty."""

from __future__ import annotations

from dataclasses import replace

from make import make_interval, make_rows, make_session

from mmwatch.display.host import elsewhere_lines
from mmwatch.display.table import matrix_lines
from mmwatch.model.interval import Elsewhere, Interval, Node
from mmwatch.model.merge import merge
from mmwatch.model.nodes import Cell, elsewhere, matrix
from mmwatch.model.snapshot import take

FULL = Node(0, free_pages=90, min_pages=50, low_pages=70, high_pages=100)
ROOMY = Node(1, free_pages=220160, min_pages=50, low_pages=70, high_pages=100)
TIGHT = replace(ROOMY, free_pages=100)
THRASH = {"path": "node", "node": 0, "reclaims": 3102, "reclaimed_file_pages": 99264, "stall_ns": 7_000_000}


def interval(*rows: dict[str, object], nodes: tuple[Node, ...] = (FULL, ROOMY)) -> Interval:
    return make_interval(make_rows(*rows), nodes=nodes)


def lines(found: Interval, by: str = "node") -> list[str]:
    return elsewhere_lines(take(make_session(), found, by), None)


def test_a_node_gave_up_pages_while_another_had_plenty() -> None:
    assert elsewhere(interval(THRASH)) == {0: Elsewhere(99264, 0, 7_000_000, 1, 220160)}
    assert lines(interval(THRASH)) == ["! node 1 had 860M free while node 0 gave up 99264 pages in 7.00ms"]


def test_futile_reclaim_of_a_node_is_reported() -> None:
    futile = {"path": "node", "node": 0, "reclaims": 5, "reclaims_futile": 5, "stall_ns": 2_000}
    assert lines(interval(futile)) == ["! node 1 had 860M free while 5 reclaims on node 0 freed nothing in 2.00us"]


def test_where_batches_have_no_events_what_reclaim_reported_counts() -> None:
    silent = {**THRASH, "reclaimed_file_pages": 0, "reported_pages": 99264}
    assert elsewhere(interval(silent)) == elsewhere(interval(THRASH))


def test_what_matters_most_is_not_cut_off() -> None:
    futile = {"path": "node", "node": 0, "reclaims": 5, "reclaims_futile": 5, "stall_ns": 2_000}
    narrow = elsewhere_lines(take(make_session(), interval(futile), "node"), 60)
    assert narrow == ["! node 1 had 860M free while 5 reclaims on node 0 freed", "  nothing in 2.00us"]


def test_nothing_is_said_without_a_node_that_has_plenty() -> None:
    assert elsewhere(interval(THRASH, nodes=(FULL, TIGHT))) == {}
    assert elsewhere(interval(THRASH, nodes=(FULL,))) == {}
    assert elsewhere(interval(THRASH, nodes=(FULL, Node(1)))) == {}  # not known is not plenty


def test_a_cgroup_at_its_limit_gets_no_help_from_another_node() -> None:
    assert elsewhere(interval({**THRASH, "path": "memcg"})) == {}


def test_stretches_of_time_add_up_and_keep_the_best_witness() -> None:
    less = replace(ROOMY, free_pages=1000)
    both = merge(interval(THRASH), interval(THRASH, nodes=(FULL, less)))
    third = merge(both, interval(THRASH, nodes=(FULL, TIGHT)))
    assert elsewhere(third) == {0: Elsewhere(2 * 99264, 0, 14_000_000, 1, 220160)}


def test_the_matrix_has_the_node_a_task_ran_on_and_the_one_it_took_from() -> None:
    far = {**THRASH, "node": 1, "cpu_node": 0, "reclaimed_file_pages": 1}
    idle = {"node": 1, "cpu_node": 1, "kswapd_wakeups": 1}
    found = interval({**THRASH, "cpu_node": 0}, {**THRASH, "cpu_node": 0, "tid": 2}, far, idle)
    assert matrix(found.rows) == (
        Cell(0, 0, 6204, 0, 198528, 14_000_000),
        Cell(0, 1, 3102, 0, 1, 7_000_000),
    )
    assert matrix_lines(take(make_session(), found, "node"), None) == [
        "RAN ON  TOOK FROM  RECLAIMS    PAGES  SCANNED   TIME",
        "     0          0      6204   198528        0 14.0ms",
        "     0          1      3102        1        0 7.00ms",
    ]


def test_one_node_needs_no_matrix() -> None:
    assert matrix_lines(take(make_session(), interval(THRASH, nodes=(FULL,)), "node"), None) == []
    assert matrix(make_rows()) == ()
