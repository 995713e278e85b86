"""Which rows the table shows, in which order: grouping, sorting, filter, tree. Pure: no terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mmwatch.display.screen.layout import TREES_OF, Layout
from mmwatch.model.arrangement import is_active, sort_order
from mmwatch.model.groupings import GROUPINGS
from mmwatch.model.history import History
from mmwatch.model.interval import Interval
from mmwatch.model.snapshot import Snapshot, take
from mmwatch.units import ancestors

Key = tuple[object, ...]
"""Identifies a row, wherever it is in the table."""

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Frame:
    """The table at one moment.

    :param snapshot: of the interval or of everything since the start.
    :param order: the lines from the top, as row numbers of ``snapshot``; ``-1 - n`` is heading ``n`` of a tree.
    :param depth: how far each line is indented; empty if none is.
    :param active: whether each row of ``snapshot`` did anything in the newest interval.
    :param headings: one row per heading, the sum of the rows below it; None without a tree.
    :param names: of the headings.
    :param matching: number of rows that match the filter, and of all rows.
    """

    snapshot: Snapshot
    order: Indices
    depth: Indices
    active: npt.NDArray[np.bool_]
    headings: Snapshot | None
    names: tuple[str, ...]
    matching: tuple[int, int]

    def key(self, line: int) -> Key:
        """The key of the row or heading on this line."""
        row = int(self.order[line])
        if row < 0:
            return ("heading", self.names[-1 - row])
        return tuple(self.snapshot.rows[name][row].item() for name in GROUPINGS[self.snapshot.by])

    def find(self, key: Key | None) -> int | None:
        """The line with this key; None if there is none."""
        if key is None or not len(self.order):
            return None
        if key[0] == "heading":
            wanted = [-1 - number for number, name in enumerate(self.names) if name == key[1]]
            found = np.flatnonzero(np.isin(self.order, wanted))
        else:
            same = np.ones(len(self.snapshot.rows), bool)
            for name, value in zip(GROUPINGS[self.snapshot.by], key):
                same &= self.snapshot.rows[name] == value
            found = np.flatnonzero(np.isin(self.order, np.flatnonzero(same)))
        return int(found[0]) if len(found) else None

    def is_faded(self, line: int) -> bool:
        """Whether the line is a row that did nothing in the newest interval."""
        row = int(self.order[line])
        return row >= 0 and not self.active[row]

    def select(self, first: int, count: int) -> list[tuple[int, int]]:
        """Row number and depth of ``count`` lines from ``first`` on."""
        rows = self.order[first : first + count].tolist()
        return list(zip(rows, self.depth[first : first + count].tolist() if len(self.depth) else [0] * len(rows)))


def build(
    history: History,
    layout: Layout,
    wanted: str = "",
    limit: int | None = None,
    exited: Callable[[int], bool | None] = lambda tgid: None,
) -> Frame | None:
    """The table as the layout arranges it; None before the first interval.

    :param wanted: only rows that contain this text (:func:`matches`).
    :param limit: rows at most.
    :param exited: whether a process is gone; those that did nothing in the interval are not shown any more.
    """
    interval = history.since_start() if layout.cumulative else history.with_fading(layout.by)
    if interval is None or history.latest is None:
        return None
    snapshot = take(history.session, interval, layout.by)
    if layout.cumulative:
        active = _also_in(snapshot, take(history.session, history.latest, layout.by))
        shown = is_active(snapshot)
    else:
        active = is_active(snapshot)
        # Show no figures for faded rows. A task that only woke kswapd did not reclaim.
        shown = active | (snapshot.rows["kswapd_wakeups"] == 0)
        for row in np.flatnonzero(shown & ~active).tolist() if "tgid" in GROUPINGS[layout.by] else ():
            shown[row] = not exited(int(snapshot.rows["tgid"][row]))
    if layout.active:
        shown = shown & active
    order = sort_order(snapshot, layout.sort_column(), layout.reverse)
    order = order[shown[order]]
    if not layout.cumulative:
        order = np.concatenate([order[active[order]], order[~active[order]]])
    everything = len(order)
    if wanted:
        order = order[matches(snapshot, order, wanted)]
    order = order[:limit]
    frame = Frame(snapshot, order, np.zeros(0, np.intp), active, None, (), (len(order), everything))
    if layout.tree not in TREES_OF.get(layout.by, ("",))[1:]:
        return frame
    return _by_cgroup(frame, layout) if layout.tree == "cgroup" else _by_parent(frame, layout)


def _also_in(snapshot: Snapshot, latest: Snapshot) -> npt.NDArray[np.bool_]:
    """Whether each row is active in ``latest``, too."""
    fields = GROUPINGS[snapshot.by]
    rows = latest.rows[is_active(latest)]
    now = set(zip(*(rows[name].tolist() for name in fields)))
    return np.array([key in now for key in zip(*(snapshot.rows[name].tolist() for name in fields))], bool)


def matches(snapshot: Snapshot, rows: Indices, wanted: str) -> npt.NDArray[np.bool_]:
    """Whether names, numbers, path or cgroup of each of these rows contain a text, in upper or lower case."""
    found = snapshot.select(rows).identities()
    wanted = wanted.casefold()
    fields = ("tgid", "tid", "comm", "cmdline", "path", "target" if snapshot.by == "target" else "cgroup", "node")
    return np.array(
        [
            any(value is not None and wanted in str(value).casefold() for value in values)
            for values in zip(*(found[name] for name in fields))
        ],
        bool,
    )


# ---- trees ----


def _by_parent(frame: Frame, layout: Layout) -> Frame:
    """The same rows below their parents. A heading is sorted by the sum of its rows."""
    by_row = _families(frame)
    names = tuple(dict.fromkeys(by_row.values()))
    number = {name: index for index, name in enumerate(names)}
    headings = _sums(frame, [(row, number[name]) for row, name in by_row.items()])
    below: dict[int, list[int]] = {index: [] for index in range(len(names))}
    for row in frame.order.tolist():  # in the order of the table
        below[number[by_row[row]]].append(row)
    depths = _generations(frame)
    lines: list[tuple[int, int]] = []
    for index in sort_order(headings, layout.sort_column(), layout.reverse).tolist():
        rows = _under_parents(frame, below[int(headings.rows["cgroup_id"][index])])
        # A process in the table needs no heading, and neither does an only child.
        headed = len({int(frame.snapshot.rows["tgid"][row]) for row in rows if not depths[row]}) > 1
        lines += [(-1 - index, 0)] * headed
        lines += [(row, headed + depths.get(row, 0)) for row in rows]
    return _arranged(frame, lines, headings, names)


def _by_cgroup(frame: Frame, layout: Layout) -> Frame:
    """The same rows below their cgroups, and these below those above them. A heading sums up all that is below it."""
    paths = frame.snapshot.select(frame.order).identities()["cgroup"]
    own: dict[str, list[int]] = {}
    for row, path in zip(frame.order.tolist(), paths):
        own.setdefault(path if path is not None else "(no single cgroup)", []).append(row)
    lines_of = {path: (path, *(ancestors(path) if path.startswith("/") else ())) for path in own}
    names = tuple(dict.fromkeys(name for line in lines_of.values() for name in line))
    number = {name: index for index, name in enumerate(names)}
    headings = _sums(
        frame, [(row, number[name]) for path, rows in own.items() for name in lines_of[path] for row in rows]
    )
    children: dict[str, list[str]] = {}
    index_of: dict[str, int] = {}
    for index in sort_order(headings, layout.sort_column(), layout.reverse).tolist():
        name = names[int(headings.rows["cgroup_id"][index])]
        index_of[name] = index
        above = next(iter(ancestors(name)), "") if name.startswith("/") else ""
        children.setdefault(above, []).append(name)
    lines: list[tuple[int, int]] = []

    def add(name: str, depth: int) -> None:
        rows, below = own.get(name, []), children.get(name, [])
        # A heading above a single cgroup would say the same twice.
        headed = len(below) > 1 or bool(rows and (below or layout.by != "cgroup"))
        lines.extend([(-1 - index_of[name], depth)] * headed)
        lines.extend((row, depth + headed) for row in rows)
        for one in below:
            add(one, depth + headed)

    for name in children.get("", []):
        add(name, 0)
    return _arranged(frame, lines, headings, names)


def _arranged(frame: Frame, lines: list[tuple[int, int]], headings: Snapshot, names: Sequence[str]) -> Frame:
    return replace(
        frame,
        order=np.array([row for row, _ in lines], np.intp),
        depth=np.array([depth for _, depth in lines], np.intp),
        headings=headings,
        names=tuple(names[group] for group in headings.rows["cgroup_id"].tolist()),
    )


def _sums(frame: Frame, groups: list[tuple[int, int]]) -> Snapshot:
    """One row per group; ``groups`` has pairs of a row and a group that it belongs to."""
    rows = frame.snapshot.rows[np.array([row for row, _ in groups], np.intp)].copy()
    rows["cgroup_id"] = np.array([group for _, group in groups], np.uint64)
    interval: Interval = replace(frame.snapshot.interval, rows=rows, cgroups={}, elsewhere={})
    return take(frame.snapshot.session, interval, "cgroup")


def _parents(frame: Frame) -> dict[int, int]:
    """Parent by process, of the processes in the table whose parent is known."""
    found = {}
    for tgid in set(frame.snapshot.rows["tgid"][frame.order].tolist()):
        process = frame.snapshot.interval.processes.get(tgid)
        if process is not None and process.ppid is not None:
            found[tgid] = process.ppid
    return found


def _ancestors(tgid: int, parents: dict[int, int]) -> list[int]:
    """The process and its ancestors, up to the first that is not in the table. Stops at a loop, as PIDs are reused."""
    line = [tgid]
    while line[-1] in parents and parents[line[-1]] not in line:
        line.append(parents[line[-1]])
    return line


def _families(frame: Frame) -> dict[int, str]:
    """For each row, the name of its topmost known ancestor."""
    parents = _parents(frame)
    processes = frame.snapshot.interval.processes
    found = {}
    for row, tgid in zip(frame.order.tolist(), frame.snapshot.rows["tgid"][frame.order].tolist()):
        top = _ancestors(tgid, parents)[-1]
        process = processes.get(top)
        found[row] = f"{top} {process.comm}".rstrip() if process else f"{top}" if top else "0"
    return found


def _generations(frame: Frame) -> dict[int, int]:
    """For each row, how many of its ancestors are in the table."""
    parents = _parents(frame)
    tgids = frame.snapshot.rows["tgid"]
    present = set(tgids[frame.order].tolist())
    return {
        row: sum(1 for above in _ancestors(int(tgids[row]), parents)[1:] if above in present)
        for row in frame.order.tolist()
    }


def _under_parents(frame: Frame, rows: list[int]) -> list[int]:
    """Children right below their parents; siblings keep their order."""
    parents = _parents(frame)
    tgids = frame.snapshot.rows["tgid"]
    by_process: dict[int, list[int]] = {}
    for row in rows:
        by_process.setdefault(int(tgids[row]), []).append(row)
    children: dict[int | None, list[int]] = {}
    for tgid in by_process:
        above = next((one for one in _ancestors(tgid, parents)[1:] if one in by_process), None)
        children.setdefault(above, []).append(tgid)
    ordered: list[int] = []
    seen: set[int] = set()
    waiting = list(reversed(children.get(None, [])))
    while waiting:
        tgid = waiting.pop()
        if tgid not in seen:
            seen.add(tgid)
            ordered += by_process[tgid]
            waiting += reversed(children.get(tgid, []))
    return ordered + [row for row in rows if int(tgids[row]) not in seen]
