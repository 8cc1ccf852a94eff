"""SIGTERM and Ctrl-C as a request: the loop finishes its step, saves, and leaves."""

import os
import signal
import threading
from types import FrameType
from typing import Any, ClassVar

from jax.experimental import multihost_utils

from ecgjax import distributed


class Interrupt:
    """Catches the first SIGTERM or SIGINT while in use as a context manager; a second one ends the process at once.

    Of several, one within another (a sweep, and a cell of it), all know of the signal: the inner one, if it begins only
    after it, from its start, and the outer one goes on to see it when the inner one has ended.

    In a run of several processes a SIGTERM is JAX's, which makes all of them agree on the step to stop after; Ctrl-C in
    one counts as a SIGTERM to it. Ask `stops_at`.

    Attributes:
        signal: the signal's number once it came, else None.
    """

    _SIGNALS = (signal.SIGTERM, signal.SIGINT)
    _innermost: "ClassVar[Interrupt | None]" = None

    def __init__(self) -> None:
        self.signal: int | None = None
        self._together = distributed.joined()
        self._outer: Interrupt | None = None
        self._before: dict[int, Any] = {}  # handlers

    def __enter__(self) -> "Interrupt":
        # Python lets only the main thread set handlers; elsewhere signals keep their meaning.
        if threading.current_thread() is not threading.main_thread():
            return self
        self._outer, Interrupt._innermost = Interrupt._innermost, self
        if self._outer is not None:
            self.signal = self._outer.signal
        caught = (signal.SIGINT,) if self._together else self._SIGNALS
        # Known before they are replaced: a signal may come between any two lines.
        self._before = {number: signal.getsignal(number) for number in caught}
        for number in caught:
            if self.signal is None:
                signal.signal(number, self._catch)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._outer is None or self._outer.signal is None:  # else the next one is to end the process
            for number, handler in self._before.items():
                signal.signal(number, handler)
        if Interrupt._innermost is self:
            Interrupt._innermost = self._outer

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
        told: Interrupt | None = Interrupt._innermost or self
        while told is not None:
            told.signal, told = number, told._outer
        if self._together:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.signal(number, signal.SIG_DFL)
            return
        for caught in self._SIGNALS:
            signal.signal(caught, signal.SIG_DFL)
