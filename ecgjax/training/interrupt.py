"""SIGTERM and Ctrl-C as a request: the loop finishes its step, saves, and leaves."""

import os
import signal
import threading
from types import FrameType

from jax.experimental import multihost_utils

from ecgjax import distributed


class Interrupt:
    """Catches the first SIGTERM or SIGINT while in use as a context manager; a second one ends the process at once.

    One within another (a cell of a sweep) tells the outer one, which goes on to see it when the inner one has ended.

    In a run of several processes a SIGTERM is JAX's, which makes all of them agree on the step to stop after; Ctrl-C in
    one counts as a SIGTERM to it. Ask `stops_at`.

    Attributes:
        signal: the signal's number once it came, else None.
    """

    _SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.signal: int | None = None
        self._together = distributed.joined()

    def __enter__(self) -> "Interrupt":
        # Python lets only the main thread set handlers; elsewhere signals keep their meaning.
        if threading.current_thread() is threading.main_thread():
            caught = (signal.SIGINT,) if self._together else self._SIGNALS
            self._before = {number: signal.signal(number, self._catch) for number in caught}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in getattr(self, "_before", {}).items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells and schedulers expect: 143 after SIGTERM, 130 after Ctrl-C."""
        return 128 + (self.signal or 0)

    def stops_at(self, step: int) -> bool:
        """Whether to stop after this step: the same in all processes, each of which must ask at every step."""
        if not self._together:
            return self.signal is not None
        if not multihost_utils.reached_preemption_sync_point(step):
            return False
        self.signal = self.signal or signal.SIGTERM
        return True

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        if self._together:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.signal(number, signal.SIG_DFL)
            return
        outer = getattr(self._before[signal.Signals(number)], "__self__", None)
        if isinstance(outer, Interrupt):
            outer.signal = number
        for caught in self._SIGNALS:
            signal.signal(caught, signal.SIG_DFL)
