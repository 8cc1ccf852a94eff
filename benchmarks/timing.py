"""What the benchmarks share: timing in turns, medians with their quartiles, and the JSON file of `--output`."""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ecgjax.atomic import write_json

K = TypeVar("K", bound=Hashable)


class Times(NamedTuple):
    """Seconds by the clock, and of this process on processors: other work on a machine disturbs the latter less."""

    wall: float
    cpu: float


class Spread(NamedTuple):
    """Median and quartiles."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles; of one value it is all three."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def timed(call: Callable[[], object]) -> Times:
    """The time of one call; a call that runs in another process returns its `Times`, which count."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = call()
    own = Times(time.perf_counter() - wall, time.process_time() - cpu)
    return found if isinstance(found, Times) else own


def in_turns(calls: Mapping[K, Callable[[], object]], repeats: int, warm: int = 1) -> dict[K, list[Times]]:
    """Times of every call, which take turns: what drifts in the machine touches all alike.

    Args:
        calls: what is timed.
        repeats: of each.
        warm: turns before them that are not counted; the first compiles.
    """
    times: dict[K, list[Times]] = {name: [] for name in calls}
    for turn in range(warm + repeats):
        # Each is first as often as last.
        for name in sorted(calls, key=list(calls).index, reverse=turn % 2 == 1):
            taken = timed(calls[name])
            if turn >= warm:
                times[name].append(taken)
    return times


def summary(times: Sequence[Times], scale: float = 1.0) -> dict[str, dict[str, float]]:
    """Spread of both clocks, as in the JSON: {"wall": {"median", "low", "high"}, "cpu": ...}."""
    return {clock: spread([scale * getattr(one, clock) for one in times])._asdict() for clock in Times._fields}


def ratio(slower: Sequence[Times], faster: Sequence[Times]) -> dict[str, dict[str, float]]:
    """Spread of the turns' own ratios, by both clocks."""
    return {
        clock: spread([getattr(a, clock) / getattr(b, clock) for a, b in zip(slower, faster, strict=True)])._asdict()
        for clock in Times._fields
    }


def asked(options: argparse.Namespace) -> dict[str, Any]:
    """The command line's options for the JSON."""
    return {name: value for name, value in vars(options).items() if not isinstance(value, Path) and name != "output"}


def save(output: Path | None, benchmark: str, found: Mapping[str, Any]) -> None:
    """Writes what was found, if a file was named.

    Args:
        output: the file.
        benchmark: its name.
        found: JSON-able. "ratios" of it is shown on the page: {what: {"wall": spread, "cpu": spread, other: number}}.
    """
    if output is not None:
        jax = sys.modules.get("jax")
        device = jax.devices()[0].device_kind if jax else None
        write_json(output, {"benchmark": benchmark, "device": device, **found})
