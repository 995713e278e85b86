"""The table as lines of plain text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mmwatch.display.text import cells, field, fit
from mmwatch.model.columns import Column
from mmwatch.model.nodes import matrix
from mmwatch.model.snapshot import Snapshot
from mmwatch.units import clean, count_text, ns_text

TEXT_MIN = 6
"""No text column shrinks below this width, in cells."""

_ENDLESS = 0
"""Width of a column that is as long as its text."""

Order = npt.NDArray[np.intp]


def table_lines(
    snapshot: Snapshot,
    columns: Sequence[Column],
    order: Order,
    width: int | None,
    limit: int | None = None,
    stretch: str = "interval",
) -> list[str]:
    """A title and a line for each row of ``order``; without any row, a line that says why.

    :param order: row indices, as :func:`mmwatch.model.columns.sort_order` gives them.
    :param limit: rows at most; a last line says how many more there are.
    :param stretch: what the table covers: an interval, a session or a recording.
    """
    widths = column_widths(columns, width)
    shown = snapshot.select(order if limit is None else order[:limit])
    texts = [[column.text(value) for value in column.of(shown).tolist()] for column in columns]
    for index, column in enumerate(columns) if width is None else ():
        if column.grows and widths[index] != _ENDLESS:
            widths[index] = max([widths[index], *(cells(clean(text)) for text in texts[index])])
    lines = [_line([column.title for column in columns], columns, widths)]
    lines += [_line(row, columns, widths) for row in zip(*texts)]
    if not len(order):
        lines.append(empty_line(snapshot, stretch))
    elif len(order) > len(shown.rows):
        lines.append(f"... {len(order) - len(shown.rows)} more")
    between = matrix_lines(snapshot, width) if snapshot.by == "node" else []
    return [*(fit(line, width) for line in lines), *([""] if between else []), *between]


def column_widths(columns: Sequence[Column], width: int | None) -> list[int]:
    """Widths in cells. They do not depend on the rows, so nothing jumps. On a narrow terminal text columns shrink, the
    widest first. On a wide one some text columns share the rest; without a limit the last one is as long as its text.
    """
    widths = [max(column.width, cells(column.title)) for column in columns]
    if not columns:
        return widths
    if width is None:
        return [*widths[:-1], _ENDLESS] if columns[-1].left else widths
    spare = width - sum(widths) - (len(widths) - 1)
    text = [index for index, column in enumerate(columns) if column.left and column.width > TEXT_MIN]
    while spare < 0 and text and max(widths[index] for index in text) > TEXT_MIN:
        widths[max(text, key=lambda index: widths[index])] -= 1
        spare += 1
    growing = [index for index, column in enumerate(columns) if column.grows]
    if columns[-1].left and not columns[-1].grows:
        growing.append(len(columns) - 1)
    for left, index in zip(range(len(growing), 0, -1), growing):
        share = max(spare, 0) // left
        widths[index] += share
        spare -= share
    return widths


def _line(texts: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    return " ".join(
        field(text, width, column.left, column.keep_end) if width != _ENDLESS else clean(text)
        for text, column, width in zip(texts, columns, widths)
    )


def empty_line(snapshot: Snapshot, stretch: str = "interval") -> str:
    """A line that says why the table is empty; ``stretch`` is what the table covers."""
    counted = snapshot.accounting.vmstat_reclaimed_pages
    if snapshot.session.filter:
        others = "" if counted is None else f"; the whole host: {counted} pages"
        return f"no task that matches the filter reclaimed in this {stretch}{others}"
    if counted:
        return f"nothing seen, but the kernel counted {counted} pages: see `mmwatch doctor`"
    if counted is None:
        return f"no reclaim in this {stretch} was seen"
    return f"no reclaim in this {stretch}: nobody had to free memory"


def matrix_lines(snapshot: Snapshot, width: int | None) -> list[str]:
    """Work by the node a task ran on and the node it took pages from. Nothing on a host with one node."""
    cells = matrix(snapshot.interval.rows)
    if len(snapshot.interval.nodes) < 2 or not cells:
        return []
    lines = ["RAN ON  TOOK FROM  RECLAIMS    PAGES  SCANNED   TIME"]
    for cell in cells:
        ran_on, took_from = (str(node) if node >= 0 else "-" for node in (cell.cpu_node, cell.node))
        counts = "".join(
            f"  {count_text(value, 7):>7}" for value in (cell.reclaims, cell.reclaimed_pages, cell.scanned_pages)
        )
        lines.append(f"{ran_on:>6}  {took_from:>9} {counts} {ns_text(cell.stall_ns):>6}")
    return [fit(line, width) for line in lines]
