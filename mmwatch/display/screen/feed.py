"""Where a screen gets its intervals: a live session, or a recording played back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mmwatch.display.screen.layout import Layout
from mmwatch.model.interval import Interval, Session

if TYPE_CHECKING:
    from mmwatch.model.course import Position
    from mmwatch.model.history import Before
    from mmwatch.model.records import Recent


class Feed(Protocol):
    """A sequence of intervals, usually read by another thread.

    No method waits, and nothing is lost: intervals that the screen did not take are merged with the next.
    """

    @property
    def session(self) -> Session | None:
        """None until everything is attached."""

    @property
    def problem(self) -> BaseException | None:
        """Why the feed ended early; None if it did not."""

    @property
    def ended(self) -> bool:
        """There will be no more intervals."""

    def take(self) -> Interval | None:
        """Everything since the last call as one interval (:func:`mmwatch.model.merge.merge`); None if nothing came."""

    def set_interval_s(self, seconds: float) -> None:
        """Change the interval from now on."""


class Controls(Protocol):
    """Controls to move in a recording."""

    paused: bool
    speed: float
    """Seconds of the recording per second."""

    def position(self) -> Position:
        """Where the playback is."""

    def before(self) -> Before | None:
        """The history before the interval that :meth:`Feed.take` returns next; None if that follows the last one."""

    def step(self, n: int) -> None:
        """Move by ``n`` intervals and pause."""

    def jump_s(self, seconds: float) -> None:
        """Move by ``seconds``."""

    def seek(self, fraction: float) -> None:
        """Move to a place between 0, the beginning, and 1, the end."""

    def go_to_time(self, time_s: float) -> bool:
        """Move to the interval that contains this Unix time; False if none does."""

    def worst(self) -> bool:
        """Pause at the interval with the largest share of time in reclaim. Called again there, go to the next largest.

        :returns: False if no task spent time in reclaim.
        """


@dataclass
class Services:
    """What the screen needs from its caller. All return at once; a recording leaves out what it cannot do.

    :param exited: whether a process is gone; None if unknown.
    :param watch: keep the single reclaims of this process from now on; None: keep none.
    :param recent: the reclaims kept, in order.
    :param bpf_ns: run time of the BPF programs in the newest interval; None: the kernel does not count it.
    :param record: start or stop recording; None if that is not possible.
    :param recording: the file being recorded to; empty without one.
    :param notices: messages for the user since the last call.
    :param save: save the layout; returns a message for the user.
    :param export: write the screen as SVG and as text; returns a message for the user.
    :param notes: lines about this session for the help.
    """

    exited: Callable[[int], bool | None] = lambda tgid: None
    watch: Callable[[int | None], None] = lambda tgid: None
    recent: Callable[[], Sequence[Recent]] = tuple
    bpf_ns: Callable[[], int | None] = lambda: None
    record: Callable[[], None] | None = None
    recording: Callable[[], str] = str
    notices: Callable[[], Sequence[str]] = tuple
    save: Callable[[Layout], str] | None = None
    export: Callable[[str, str], str] | None = None
    notes: Callable[[], Sequence[str]] = tuple
