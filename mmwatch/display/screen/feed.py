"""Where a screen gets its intervals from: a live session, or a recording that is played again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mmwatch.display.screen.layout import Layout
from mmwatch.model.interval import Interval, Session

if TYPE_CHECKING:
    from mmwatch.display.detail import Recent
    from mmwatch.display.screen.history import Before


class Feed(Protocol):
    """Intervals, one after the other, from whoever reads them: usually another thread.

    Nothing here waits, and nothing is lost: what the screen did not take comes merged with what follows.
    """

    @property
    def session(self) -> Session | None:
        """None until everything is attached."""

    @property
    def problem(self) -> BaseException | None:
        """Why it ended early."""

    @property
    def ended(self) -> bool:
        """There will be no other interval."""

    def take(self) -> Interval | None:
        """What came since the last call, as one interval (:func:`mmwatch.model.snapshot.merge`); None: nothing."""

    def set_interval_s(self, seconds: float) -> None:
        """From now on, so long between two intervals."""


class Controls(Protocol):
    """What a recording can do and a live session cannot."""

    paused: bool
    speed: float
    """Seconds of the recording in a second."""

    def position(self) -> tuple[int, int, float, float, float]:
        """``(index, count, begin_s, now_s, end_s)``: the interval shown, of how many, and Unix times."""

    def before(self) -> Before | None:
        """What was before the interval that :meth:`Feed.take` gives next; None: that follows the one it gave last."""

    def step(self, n: int) -> None:
        """So many intervals on, or back, and pause there."""

    def jump_s(self, seconds: float) -> None:
        """So many seconds on, or back."""

    def seek(self, fraction: float) -> None:
        """To a place between 0, the beginning, and 1, the end."""

    def worst(self) -> bool:
        """Pause at the interval with the greatest share of time in reclaim; asked there, at the next one after it.

        :returns: whether there is one.
        """


@dataclass
class Services:
    """What the screen asks of whoever runs it. All return at once; a recording leaves out what it cannot do.

    :param exited: whether a process is gone; None: not known.
    :param limits: of the cgroup at this path: ``memory.max`` -> ``64M``.
    :param watch: keep the single reclaims of this process from now on; None: of none.
    :param recent: those that were kept, in order.
    :param bpf_ns: run time of the BPF programs in the newest interval; None: the kernel does not count it.
    :param record: start recording, or stop; None: it cannot be done.
    :param recording: to where; empty when it is not.
    :param notices: what is to be told since the last call.
    :param save: keep the layout; returns what to tell.
    :param export: write the screen as SVG and as text, likewise.
    :param notes: what the help should say of this session.
    """

    exited: Callable[[int], bool | None] = lambda tgid: None
    limits: Callable[[str], Mapping[str, str]] = lambda path: {}
    watch: Callable[[int | None], None] = lambda tgid: None
    recent: Callable[[], Sequence[Recent]] = tuple
    bpf_ns: Callable[[], int | None] = lambda: None
    record: Callable[[], None] | None = None
    recording: Callable[[], str] = str
    notices: Callable[[], Sequence[str]] = tuple
    save: Callable[[Layout], str] | None = None
    export: Callable[[str, str], str] | None = None
    notes: Callable[[], Sequence[str]] = tuple
