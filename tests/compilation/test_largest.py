"""The search for the largest batch, against memory that is known in closed form."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ecgjax.compilation.largest import MOST, largest_batch
from ecgjax.compilation.measure import Compiled

GIB = 2**30


def chip(memory: float, used: Callable[[int], float], reported: bool = True) -> Callable[[int], Compiled]:
    """A compiler; `reported`: whether it says how much a program that does not fit would need (GPUs: yes, TPUs: no)."""

    def compile_batch(batch: int) -> Compiled:
        assert 0 < batch <= MOST
        assert batch % 8 == 0
        bytes_used, fits = int(used(batch)), used(batch) <= memory
        if fits or reported:
            return Compiled("model step", batch, arguments=bytes_used, temporaries=0, outputs=0, fits=fits)
        return Compiled("model step", batch, error="out of memory: more than there is")

    return compile_batch


def true_largest(memory: float, used: Callable[[int], float]) -> int:
    return max((batch for batch in range(8, MOST + 1, 8) if used(batch) <= memory), default=0)


@given(
    fixed=st.floats(0, 20 * GIB),
    per_record=st.floats(1e3, 2 * GIB),
    square=st.floats(0, 1e4),
    start=st.integers(1, 5000),
    reported=st.booleans(),
)
@example(fixed=0.0, per_record=1e3, square=0.0, start=64, reported=False)
@example(fixed=3.5 * GIB, per_record=1.6 * GIB, square=0.0, start=64, reported=False)
def test_fits_and_is_within_a_sixteenth(
    fixed: float, per_record: float, square: float, start: int, reported: bool
) -> None:
    def used(batch: int) -> float:
        return fixed + per_record * batch + square * batch * batch

    found = largest_batch(chip(16 * GIB, used, reported), 16 * GIB, start)
    best = true_largest(16 * GIB, used)
    assert found.batch_size <= best
    assert best - found.batch_size <= max(8, best / 16)
    assert found.compiled.fits == bool(best)
    assert found.compilations <= 20
    if found.batch_size:
        assert found.compiled.records == found.batch_size


@given(st.lists(st.integers(0, 2**20), min_size=MOST // 512, max_size=MOST // 512), st.integers(1, 2**26))
def test_memory_that_grows_by_steps(steps: list[int], memory: int) -> None:
    """Compilers pad and change their minds: still what is found fits, and the next size tried does not."""
    totals = [sum(steps[: i + 1]) for i in range(len(steps))]

    def used(batch: int) -> float:
        return totals[(batch - 1) // 512]

    found = largest_batch(chip(memory, used), memory)
    best = true_largest(memory, used)
    assert found.batch_size <= best
    assert best - found.batch_size <= max(8, best / 16)


def test_a_line_takes_few_compilations() -> None:
    found = largest_batch(chip(16 * GIB, lambda batch: 3.5 * GIB + 20e6 * batch), 16 * GIB)
    assert found.compilations <= 5
    assert 628 <= found.batch_size <= 671


def test_nothing_fits() -> None:
    found = largest_batch(chip(GIB, lambda batch: 2 * GIB), GIB, start=64)
    assert found.batch_size == 0
    assert not found.compiled.fits


@pytest.mark.parametrize("start", [1, 64, MOST])
def test_everything_fits(start: int) -> None:
    found = largest_batch(chip(GIB, lambda batch: 8.0), GIB, start)
    assert MOST * 15 / 16 <= found.batch_size <= MOST
