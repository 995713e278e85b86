"""A look at the host without tracing: two readings of its counters. It needs no root and no BPF."""

from __future__ import annotations

import socket
import time

import numpy as np

import mmwatch
from mmwatch.model.interval import Interval, Session
from mmwatch.model.measures import MEASURES
from mmwatch.model.rows import ROW_DTYPE
from mmwatch.session.surroundings import Surroundings
from mmwatch.units import clean

LOOK_S = 0.8
"""Between the two readings."""


class Look:
    """The first reading is taken at once.

    :raises UnavailableError: there is no /proc/vmstat or /proc/zoneinfo.
    """

    def __init__(self) -> None:
        self._around = Surroundings(everything=True)
        self._before = self._around.vmstat.read()
        self._began_ns = time.monotonic_ns()
        self._around.begin()
        self.session = Session(
            **self._around.of_session(self._before),
            kernel=self._around.settings.kernel_release,
            hostname=clean(socket.gethostname()),
            version=mmwatch.__version__,
            unknown=frozenset(measure.name for measure in MEASURES),
            incomparable="nothing was traced",
        )

    def left_s(self) -> float:
        """Time until :data:`LOOK_S` are over."""
        return max(0.0, LOOK_S - (time.monotonic_ns() - self._began_ns) / 1e9)

    def take(self) -> Interval:
        """What happened since the first reading."""
        now = self._around.vmstat.read()
        duration_ns = max(time.monotonic_ns() - self._began_ns, 1)
        around = self._around.of_interval(np.zeros(0, ROW_DTYPE), final=True)
        states = {state.node: "gave up" for state in self._around.states if state.kswapd_gave_up}
        return Interval(
            **around,
            duration_ns=duration_ns,
            rows=np.zeros(0, ROW_DTYPE),
            vmstat={name: value - self._before.get(name, 0) for name, value in now.items()},
            kswapd=states,
        )
