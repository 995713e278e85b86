"""Writes an observation to a file: each interval, and the single records that belong to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from mmwatch.session.beat import Beat
from mmwatch.session.observer import Observer

if TYPE_CHECKING:
    from mmwatch.model.accounting import Accounting
    from mmwatch.model.interval import Interval
    from mmwatch.model.records import Records
    from mmwatch.recording import Writer

LAST_TRIES, LAST_S = 20, 0.001
"""A record arrives some microseconds after its reclaim was counted, or later if its CPU was taken away in between."""
DRAIN_S = 0.05
"""Time between two drains of the ring buffer, which holds 70,000 records: ten times the most ever seen in that time."""


_QUOTA_MAX = (1 << 63) - 1


class Recorder:
    """Writes the intervals and records that an observer reads.

    The single reclaims it keeps are those that the rows count: not one from before the first reading or after the last.
    The kernel side counts a reclaim before it streams it. So what arrives before a reading is in its rows, and of what
    arrives after it, the first so many are in them.

    :param rate_limit_per_s: keep at most this many single records per second; the rest are counted as suppressed.
    :param total: the account so far.
    :param records: single records kept so far.
    """

    def __init__(self, observer: Observer, writer: Writer, interval_s: float, rate_limit_per_s: float) -> None:
        self._observer, self._writer = observer, writer
        self._quota = min(max(1, int(rate_limit_per_s * interval_s)), _QUOTA_MAX)
        self.total: Accounting | None = None
        self.records = 0
        self._early = observer.early_records
        self._reclaims = 0  # kept less counted

    def run(self, beat: Beat, ended: Callable[[], str], wait: Callable[[float], None], kept: Callable[[], None]) -> str:
        """Write intervals until the time is over or ``ended`` returns a reason to end. The caller writes the last one.

        :param wait: waits for at most the given number of seconds.
        :param kept: called after each interval.
        :returns: the reason it ended.
        :raises MmwatchError: the file could not be written.
        """
        self._observer.tracer.set_quota(self._quota)
        while True:
            if beat.over():
                return "the duration is over"
            reason = ended()
            if reason:
                return reason
            if beat.due():
                self.keep()
                kept()
                beat.advance()
            left_s = beat.left_s()
            if self._observer.tracer.options.detail:
                self._drain()
                left_s = min(left_s, DRAIN_S)
            wait(left_s)

    def keep(self, final: bool = False) -> None:
        """Write an interval and the records that came before its rows were read.

        :param final: as for :meth:`Observer.sample`.
        :raises MmwatchError: the file could not be written.
        """
        from mmwatch.model.accounting import accounting, sum_accounts

        interval = self._observer.sample(final)
        if self._observer.tracer.options.detail:
            loss = interval.loss
            self._reclaims -= int(interval.rows["reclaims"].sum())
            self._reclaims += loss.lost.get("reclaim", 0) + loss.suppressed.get("reclaim", 0)
            if final:
                self._drain_last()
                interval = self._without_later_losses(interval)
            else:
                self._drain()
        self._observer.tracer.set_quota(self._quota)
        self._writer.write(interval)
        self.total = sum_accounts(self.total, accounting(self._observer.session, interval))

    def _without_later_losses(self, interval: Interval) -> Interval:
        """The last interval, without reclaims that were dropped between the reading of its rows and of its losses."""
        losses = {"lost": dict(interval.loss.lost), "suppressed": dict(interval.loss.suppressed)}
        for counts in losses.values():
            later = max(min(self._reclaims, counts.get("reclaim", 0)), 0)
            self._reclaims -= later
            if later:
                counts["reclaim"] -= later
        return replace(interval, loss=replace(interval.loss, lost=losses["lost"], suppressed=losses["suppressed"]))

    def _drain(self) -> None:
        self._keep_records(self._observer.tracer.drain())

    def _drain_last(self) -> None:
        """Take the records that the rows count and that have not arrived yet, and no others."""
        from mmwatch.model.records import RECLAIM

        for _ in range(LAST_TRIES):
            records = self._after_the_start(self._observer.tracer.drain())
            ends = (records["kind"] == RECLAIM).nonzero()[0]
            wanted = max(-self._reclaims, 0)
            if len(ends) > wanted:
                records = records[: ends[wanted - 1] + 1 if wanted else 0]
            self._keep_records(records)
            if self._reclaims >= 0:
                return
            time.sleep(LAST_S)

    def _after_the_start(self, records: Records) -> Records:
        """These records without those that came before the first interval."""
        from mmwatch.model.records import RECLAIM

        if not self._early or not len(records):
            return records
        ends = (records["kind"] == RECLAIM).nonzero()[0][: self._early]
        self._early -= len(ends)
        return records[ends[-1] + 1 :] if not self._early else records[:0]

    def _keep_records(self, records: Records) -> None:
        from mmwatch.model.records import RECLAIM

        records = self._after_the_start(records)
        if len(records):
            self.records += len(records)
            self._reclaims += int((records["kind"] == RECLAIM).sum())
            self._writer.write_records(records)
