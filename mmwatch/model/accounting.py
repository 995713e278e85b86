"""How closely mmwatch's counts match the kernel's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mmwatch.model.interval import Interval, Loss, Session
from mmwatch.model.rows import SUMS, Rows

STEAL = ("pgsteal_anon", "pgsteal_file")
SCAN = ("pgscan_anon", "pgscan_file")
"""Counted for every reclaim, memory cgroups included, since 5.8. The counters by reclaimer leave cgroups out up to 7.0
(kernel: mm/vmscan.c, shrink_inactive_list and evict_folios)."""

REFAULT = ("workingset_refault_anon", "workingset_refault_file", "workingset_refault")
"""Pages refaulted soon after they were reclaimed. Up to 5.8 there is one counter, for file pages only
(kernel: mm/workingset.c)."""


@dataclass(frozen=True)
class Accounting:
    """mmwatch's counts beside the kernel's.

    :param reclaimed_pages: sum of all rows, None without a probe; ``vmstat_reclaimed_pages`` is the growth of
        pgsteal_anon + pgsteal_file, or None.
    :param incomparable: why the two cannot be compared; empty if they can.
    """

    reclaimed_pages: int | None
    scanned_pages: int | None
    vmstat_reclaimed_pages: int | None
    vmstat_scanned_pages: int | None
    edge_begin_pages: int
    edge_end_pages: int
    edge_begin_scanned_pages: int | None
    edge_end_scanned_pages: int | None
    incomparable: str
    loss: Loss
    vmstat: Mapping[str, int]

    @property
    def edge_pages(self) -> int:
        """How far the two may differ only because they cannot be read at the same instant."""
        return self.edge_begin_pages + self.edge_end_pages

    @property
    def edge_scanned_pages(self) -> int | None:
        """The same for scanned pages; None if it is not known."""
        return sum_both(self.edge_begin_scanned_pages, self.edge_end_scanned_pages)

    @property
    def ratio(self) -> float | None:
        """Reclaimed pages seen / pgsteal of /proc/vmstat; None if unknown or if nothing was reclaimed."""
        return self._share(self.reclaimed_pages, self.vmstat_reclaimed_pages)

    @property
    def scanned_ratio(self) -> float | None:
        """The same for scanned pages and pgscan."""
        return self._share(self.scanned_pages, self.vmstat_scanned_pages)

    def _share(self, seen: int | None, counted: int | None) -> float | None:
        return None if self.incomparable or seen is None or not counted else seen / counted

    @property
    def refaulted_pages(self) -> int | None:
        """Pages refaulted soon after they were reclaimed (:data:`REFAULT`); None if the kernel does not count them."""
        counted = [self.vmstat[name] for name in REFAULT if name in self.vmstat]
        return sum(counted) if counted else None

    @property
    def lost(self) -> int:
        """Everything known to be missing, of any kind. What was under way at the start is not: nothing went wrong."""
        loss = self.loss
        return (
            sum(loss.lost.values())
            + sum(loss.suppressed.values())
            + (loss.missed_runs or 0)
            + loss.unmatched_begin
            + loss.unmatched_end
            + loss.table_full
        )

    def then(self, later: Accounting) -> Accounting:
        """The account of this interval and the next one together."""
        return Accounting(
            reclaimed_pages=sum_both(self.reclaimed_pages, later.reclaimed_pages),
            scanned_pages=sum_both(self.scanned_pages, later.scanned_pages),
            vmstat_reclaimed_pages=sum_both(self.vmstat_reclaimed_pages, later.vmstat_reclaimed_pages),
            vmstat_scanned_pages=sum_both(self.vmstat_scanned_pages, later.vmstat_scanned_pages),
            edge_begin_pages=self.edge_begin_pages,
            edge_end_pages=later.edge_end_pages,
            edge_begin_scanned_pages=self.edge_begin_scanned_pages,
            edge_end_scanned_pages=later.edge_end_scanned_pages,
            incomparable=self.incomparable or later.incomparable,
            loss=sum_losses(self.loss, later.loss),
            vmstat=sum_maps(self.vmstat, later.vmstat),
        )


def is_known(session: Session, *names: str) -> bool:
    """Whether the session has a probe for all of these measures."""
    return not session.unknown.intersection(names)


def total_of(session: Session, rows: Rows, *names: str) -> int | None:
    """Sum of these measures over all rows; None without a probe for one of them."""
    return sum(int(rows[name].sum()) for name in names) if is_known(session, *names) else None


def accounting(session: Session, interval: Interval) -> Accounting:
    """Compare the sum of all rows with /proc/vmstat."""

    def counted(names: tuple[str, ...]) -> int | None:
        return sum(interval.vmstat[name] for name in names) if all(name in interval.vmstat for name in names) else None

    reclaimed = total_of(session, interval.rows, *SUMS["reclaimed_pages"])
    vmstat_reclaimed = counted(STEAL)
    incomparable = session.incomparable or ("a filter is on" if session.filter else "")
    if not incomparable and not interval.vmstat:
        incomparable = "no interval was kept"
    if not incomparable and reclaimed is None:
        incomparable = "no probe counts reclaimed pages"
    if not incomparable and vmstat_reclaimed is None:
        incomparable = "/proc/vmstat has no pgsteal_anon and pgsteal_file"
    return Accounting(
        reclaimed_pages=reclaimed,
        scanned_pages=total_of(session, interval.rows, *SUMS["scanned_pages"]),
        vmstat_reclaimed_pages=vmstat_reclaimed,
        vmstat_scanned_pages=counted(SCAN),
        edge_begin_pages=interval.edge_begin_pages,
        edge_end_pages=interval.edge_end_pages,
        edge_begin_scanned_pages=interval.edge_begin_scanned_pages,
        edge_end_scanned_pages=interval.edge_end_scanned_pages,
        incomparable=incomparable,
        loss=interval.loss,
        vmstat=interval.vmstat,
    )


def sum_accounts(before: Accounting | None, later: Accounting) -> Accounting:
    """The account so far and the next one together; ``before`` is None at the start."""
    return before.then(later) if before else later


def sum_maps(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    """Sums by key, in the order of ``a`` and then of ``b``."""
    return {key: a.get(key, 0) + b.get(key, 0) for key in [*a, *(key for key in b if key not in a)]}


def sum_both(a: int | None, b: int | None) -> int | None:
    """None unless both are known."""
    return None if a is None or b is None else a + b


def sum_losses(a: Loss, b: Loss) -> Loss:
    """The losses of two consecutive intervals."""
    return Loss(
        lost=sum_maps(a.lost, b.lost),
        suppressed=sum_maps(a.suppressed, b.suppressed),
        missed_runs=sum_both(a.missed_runs, b.missed_runs),
        unmatched_begin=a.unmatched_begin + b.unmatched_begin,
        unmatched_end=a.unmatched_end + b.unmatched_end,
        under_way=a.under_way + b.under_way,
        table_full=a.table_full + b.table_full,
    )
