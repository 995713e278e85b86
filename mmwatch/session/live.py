"""A live session in a separate thread, so that a slow screen never delays a reading."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmwatch import units
from mmwatch.abi import RECORD_KINDS
from mmwatch.errors import MmwatchError
from mmwatch.session.beat import Beat
from mmwatch.session.observer import FIRST_INTERVAL_S, Observer
from mmwatch.session.target import Target

if TYPE_CHECKING:  # slow imports run while the compiler works
    from mmwatch.model.accounting import Accounting
    from mmwatch.model.interval import Interval, Session
    from mmwatch.model.records import Recent
    from mmwatch.model.snapshot import Snapshot
    from mmwatch.recording import Writer

STREAMED = 1 << RECORD_KINDS.index("reclaim")
"""What is streamed while somebody looks at one task."""
DRAIN_S = 0.1
RECENT_MAX = 50
RING_BYTES = 1 << 20
"""Small, because single reclaims are streamed only while the user looks at one task."""


class LiveFeed(threading.Thread):
    """The feed of a live session. Probes stay attached until :meth:`end`.

    :param count: end after this many intervals.
    :param attached: called once the probes are attached and count.
    :param seen: called with each interval and the account from the start to its end.
    """

    def __init__(
        self,
        target: Target,
        interval_s: float,
        *,
        passes: bool = True,
        count: int | None = None,
        duration_s: float = float("inf"),
        attached: Callable[[], None] | None = None,
        seen: Callable[[Snapshot, Accounting], None] | None = None,
    ) -> None:
        super().__init__(name="mmwatch-feed")
        self.session: Session | None = None
        self.problem: BaseException | None = None
        self.ended = False
        self.recording = ""
        self.bpf_ns: int | None = None
        self.notes: Sequence[str] = ()
        self._target, self._interval_s, self._passes = target, interval_s, passes
        self._count, self._duration_s, self._attached, self._seen = count, duration_s, attached, seen
        self._lock = threading.Condition()
        self._slot: Interval | None = None
        self._notices: deque[str] = deque(maxlen=10)
        self._stopping = self._switch_recording = False
        self._watched: int | None = None
        self._recent: deque[Recent] = deque(maxlen=RECENT_MAX)
        self._writer: Writer | None = None
        self._total: Accounting | None = None
        self._monotonic_s = 0.0

    # ---- called by the screen's thread; nothing waits ----

    def take(self) -> Interval | None:
        """Everything since the last call, as one interval."""
        with self._lock:
            interval, self._slot = self._slot, None
        return interval

    def set_interval_s(self, seconds: float) -> None:
        """Change the interval from now on."""
        with self._lock:
            self._interval_s = seconds
            self._lock.notify()

    def watch(self, tgid: int | None) -> None:
        """Keep the latest reclaims of this process from now on; None: keep none."""
        with self._lock:
            self._watched = tgid
            self._recent.clear()
            self._lock.notify()

    def recent(self) -> Sequence[Recent]:
        """The latest reclaims of the watched process."""
        with self._lock:
            return tuple(self._recent)

    def record(self) -> None:
        """Start recording, or stop."""
        with self._lock:
            self._switch_recording = True
            self._lock.notify()

    def notices(self) -> Sequence[str]:
        """Messages for the user. Each is returned once."""
        with self._lock:
            told = tuple(self._notices)
            self._notices.clear()
        return told

    def end(self) -> None:
        """Detach and end the thread."""
        with self._lock:
            self._stopping = True
            self._lock.notify()

    # ---- in the feed's own thread ----

    def run(self) -> None:
        """Attach, read, detach."""
        try:
            observer = Observer(
                self._target,
                interval_s=self._interval_s,
                detail=frozenset({"reclaim"}),
                ring_bytes=RING_BYTES,
                passes=self._passes,
            )
            try:
                from mmwatch.host.protection import protect

                # Not earlier: the compiler is a child process and would inherit the OOM killer's exemption.
                self.notes = protect() or ["memory is locked, and the OOM killer spares mmwatch"]
                observer.tracer.control["detail"] = 0
                self._monotonic_s = time.time() - time.monotonic()
                if self._attached:
                    self._attached()
                self.session = observer.session
                self._observe(observer)
            finally:
                self._close_recording()
                observer.close()
        except BaseException as error:
            self.problem = error
        finally:
            self.ended = True

    def _observe(self, observer: Observer) -> None:
        """Interval after interval."""
        beat = Beat(self._interval_s, self._duration_s, FIRST_INTERVAL_S)
        shown = -1  # the first interval is short and does not count
        while self._count is None or shown < self._count:
            with self._lock:
                left_s = beat.left_s()
                self._lock.wait(min(left_s, DRAIN_S) if self._watched else left_s)
                stopping, switch, self._switch_recording = self._stopping, self._switch_recording, False
                beat.change(self._interval_s)
                watched = self._watched
            observer.tracer.control["detail"] = STREAMED if watched is not None else 0
            if watched is not None:
                self._drain(observer, watched)
            due = beat.due()
            if not stopping and not switch and not due:
                continue
            self._keep(observer)
            shown += due
            if stopping or beat.over():
                return
            if switch:
                self._switch()
            if due:
                beat.advance()

    def _keep(self, observer: Observer) -> None:
        """Hand over an interval."""
        from mmwatch.model.accounting import accounting, sum_accounts
        from mmwatch.model.interval import Loss
        from mmwatch.model.merge import merge
        from mmwatch.model.snapshot import take

        interval = observer.sample()
        # Only the details show single records. Losing some does not affect any figure.
        loss: Loss = replace(interval.loss, lost={}, suppressed={})
        interval = replace(interval, loss=loss)
        self.bpf_ns = observer.tracer.bpf_ns()
        if self._seen and self.session:
            self._total = sum_accounts(self._total, accounting(self.session, interval))
            self._seen(take(self.session, interval), self._total)
        self._write(interval)
        with self._lock:
            before = self._slot
            self._slot = None
        if before is not None:
            interval = merge(before, interval)
        with self._lock:
            self._slot = interval

    def _drain(self, observer: Observer, watched: int) -> None:
        from mmwatch.model.records import recents

        records = observer.tracer.drain()
        mine = recents(records[records["tgid"] == watched][-RECENT_MAX:], self._monotonic_s)
        with self._lock:
            if self._watched == watched:
                self._recent.extend(mine)

    # ---- recording ----

    def _switch(self) -> None:
        if self._writer is not None:
            self._close_recording()
            return
        from mmwatch.recording import NewFile, Writer

        path = Path(time.strftime("mmwatch-%Y%m%d-%H%M%S.mmw"))
        assert self.session is not None
        try:
            file = NewFile(path)
            self._writer = Writer(file, replace(self.session, start_s=time.time(), interval_s=self._interval_s))
        except MmwatchError as error:
            self._tell(f"cannot record: {error.message}")
            return
        self.recording = str(path)
        self._tell("; ".join([f"recording to {path}", *file.notices]))

    def _write(self, interval: Interval) -> None:
        if self._writer is not None:
            try:
                self._writer.write(interval)
            except MmwatchError as error:
                self._tell(f"the recording ends here: {error.message}")
                self._close_recording()

    def _close_recording(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        self.recording = ""
        try:
            summary = writer.close()
        except MmwatchError as error:
            self._tell(f"the recording could not be finished: {error.message}")
            return
        intervals = units.number_text(summary.intervals, "interval")
        self._tell(f"{intervals}, {units.pages_text(summary.bytes, 1)} in {units.clean(os.fspath(summary.path))}")

    def _tell(self, text: str) -> None:
        with self._lock:
            self._notices.append(text)
