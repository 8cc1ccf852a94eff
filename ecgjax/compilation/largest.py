"""The largest batch whose program fits a chip, by compiling: memory grows with the batch, almost along a line."""

from collections.abc import Callable
from typing import NamedTuple

from ecgjax.compilation.measure import Compiled

MOST = 65_536


class Largest(NamedTuple):
    """Attributes: the largest batch that fits and its program (0 and the smallest one's: none does); compilations."""

    batch_size: int
    compiled: Compiled
    compilations: int


def largest_batch(compile_batch: Callable[[int], Compiled], memory: float, start: int = 64, grain: int = 8) -> Largest:
    """Finds the largest multiple of `grain` that fits, to one part in sixteen.

    Each next batch is where the line through the last two compiled ones meets the chip's memory, or half-way between
    one that fits and one that does not.

    Args:
        compile_batch: batch size -> its program.
        memory: bytes of the chip.
        start: first batch tried.
        grain: batches are multiples of it.
    """
    known: dict[int, Compiled] = {}

    def fits(batch: int) -> bool:
        if batch not in known:
            known[batch] = compile_batch(batch)
        return known[batch].fits

    low, high, batch = 0, MOST + grain, max(start // grain, 1) * grain
    while batch > low and batch < high:
        low, high = (batch, high) if fits(batch) else (low, batch)
        if high - low <= max(grain, low // 16):
            break
        guess = _meeting(known, memory) if high > MOST else (low + high) // 2
        ceiling = high - grain if high <= MOST else MOST
        batch = min(max(guess // grain * grain, low + grain), ceiling)
    best = known[low] if low else known[min(known)]
    return Largest(low, best, len(known))


def _meeting(known: dict[int, Compiled], memory: float) -> int:
    """Where memory is used up, by the line through the two largest batches that fit; twice the only one's size."""
    points = sorted((batch, found.memory) for batch, found in known.items() if found.fits and found.memory is not None)
    if len(points) < 2:
        return 2 * max(known)
    (b0, m0), (b1, m1) = points[-2:]
    if m1 <= m0:
        return 2 * b1
    return int(b1 + (memory - m1) * (b1 - b0) / (m1 - m0))
