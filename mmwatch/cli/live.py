"""A live session in a thread of its own: read at a steady beat, whatever the screen is at."""

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
from mmwatch.cli.observe import Observer, Target
from mmwatch.errors import MmwatchError

if TYPE_CHECKING:
    from mmwatch.display.detail import Recent
    from mmwatch.model.interval import Interval, Session
    from mmwatch.model.snapshot import Accounting, Snapshot
    from mmwatch.recording import Writer

FIRST_INTERVAL_S = 0.2
"""The first screen does not wait for a whole interval."""
DRAIN_S = 0.1
RECENT_MAX = 50
RING_BYTES = 1 << 20
"""Single reclaims are streamed only while somebody looks at a task: a small buffer is enough."""


class LiveFeed(threading.Thread):
    """Attached and counting, until :meth:`end`; a :class:`mmwatch.display.screen.feed.Feed`.

    :param count: end after so many intervals.
    :param attached: called when everything from now on is counted.
    :param seen: called with each interval, and what was accounted up to then.
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

    # ---- from the screen's thread; nothing waits ----

    def take(self) -> Interval | None:
        """What came since the last call, as one interval."""
        with self._lock:
            interval, self._slot = self._slot, None
        return interval

    def set_interval_s(self, seconds: float) -> None:
        """From now on."""
        with self._lock:
            self._interval_s = seconds
            self._lock.notify()

    def watch(self, tgid: int | None) -> None:
        """Keep the latest reclaims of this process from now on; None: of none."""
        with self._lock:
            self._watched = tgid
            self._recent.clear()
            self._lock.notify()

    def recent(self) -> Sequence[Recent]:
        """Of the process that is watched."""
        with self._lock:
            return tuple(self._recent)

    def record(self) -> None:
        """Start to record from here, or stop."""
        with self._lock:
            self._switch_recording = True
            self._lock.notify()

    def notices(self) -> Sequence[str]:
        """What is to be told."""
        with self._lock:
            told = tuple(self._notices)
            self._notices.clear()
        return told

    def end(self) -> None:
        """Detach, and come to an end."""
        with self._lock:
            self._stopping = True
            self._lock.notify()

    # ---- in its own ----

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

                # Not before: the compiler, a process of ours, would be spared by the OOM killer, too.
                self.notes = protect() or ["its memory is locked, and the OOM killer leaves it alone"]
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
        start = last = time.monotonic()
        until_s = start + self._duration_s
        beat = min(last + min(self._interval_s, FIRST_INTERVAL_S), until_s)
        shown = -1  # the first is not one of those asked for
        while self._count is None or shown < self._count:
            with self._lock:
                interval_s = self._interval_s
                self._lock.wait(max(0.0, min(beat - time.monotonic(), DRAIN_S if self._watched else beat)))
                stopping, switch, self._switch_recording = self._stopping, self._switch_recording, False
                if self._interval_s != interval_s:  # no slice shorter than that
                    beat = min(max(last, time.monotonic()) + self._interval_s, until_s)
                watched = self._watched
            observer.tracer.control["detail"] = int(watched is not None)
            if watched is not None:
                self._drain(observer, watched)
            now = time.monotonic()
            if not stopping and not switch and now < beat:
                continue
            self._keep(observer)
            shown += now >= beat
            if stopping or now >= until_s:
                return
            if switch:
                self._switch()
            if now >= beat:
                last = beat = max(beat, now - self._interval_s)
                beat = min(beat + self._interval_s, until_s)

    def _keep(self, observer: Observer) -> None:
        """Hand over an interval."""
        from mmwatch.model.interval import Loss
        from mmwatch.model.snapshot import accounting, merge, take

        interval = observer.sample()
        # Single records are an extra of one view here; what is missing of them is missing in no figure.
        loss: Loss = replace(interval.loss, lost={}, suppressed={})
        interval = replace(interval, loss=loss)
        self.bpf_ns = observer.tracer.bpf_ns()
        if self._seen and self.session:
            counts = accounting(self.session, interval)
            self._total = self._total.then(counts) if self._total else counts
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
        from mmwatch.display.detail import recents

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
        from mmwatch.recording import Writer

        path = Path(time.strftime("mmwatch-%Y%m%d-%H%M%S.mmw"))
        assert self.session is not None
        try:
            self._writer = Writer(path, replace(self.session, start_s=time.time(), interval_s=self._interval_s))
        except MmwatchError as error:
            self._tell(f"cannot record: {error.message}")
            return
        self.recording = str(path)
        self._tell(f"recording to {path}")

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
        many = f"{summary.intervals} interval{'' if summary.intervals == 1 else 's'}"
        self._tell(f"{many}, {units.pages_text(summary.bytes, 1)} in {units.clean(os.fspath(summary.path))}")

    def _tell(self, text: str) -> None:
        with self._lock:
            self._notices.append(text)
