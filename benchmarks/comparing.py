"""All pairs of models on one task, in one run: what the pairs add, and what sharing the resamples saves.

    python -m benchmarks.comparing [--records=2200 --classes=71 --models=10 --replicates=1000 --repeats=5]

"one model" is `bootstrap.intervals`. "together" is `joint`: the same intervals for all models on resamples that are
drawn once, and every paired difference. Of it, "resamples" is the drawing, which all models share, and "pairs" the
paired differences, their intervals and p-values; the rest is each model's own sorting and summing, which grows with the
models because every model orders the records in its own way. "pair by pair" is `bootstrap.differences` of one pair,
times the number of pairs. The smallest of a few repeats, in processor seconds, taken in turns.
"""

import argparse
import time
from collections.abc import Callable

from benchmarks.bootstrap import synthetic
from ecgjax import bootstrap
from ecgjax.evaluation.delong import delong
from ecgjax.evaluation.joint import joint
from ecgjax.evaluation.replicated import Replicated, differences
from ecgjax.evaluation.resamples import draw_counts


def smallest(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Processor seconds of each call."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.process_time()
            call()
            seconds[name].append(time.process_time() - start)
    return {name: min(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = ("records", 2200), ("classes", 71), ("models", 10), ("replicates", 1000), ("repeats", 5)
    for name, default in sizes:
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    targets, _ = synthetic(options.records, options.classes)
    scores = {str(i): synthetic(options.records, options.classes, i)[1] for i in range(options.models)}
    how = {"replicates": options.replicates}
    found = joint(targets, scores, **how)
    models = [Replicated(value, samples) for value, samples in zip(found.value, found.samples.T, strict=True)]
    calls = {
        "one": lambda: bootstrap.intervals(targets, scores["0"], **how),
        "together": lambda: joint(targets, scores, **how),
        "resamples": lambda: draw_counts(options.records, options.replicates),
        "pairs": lambda: differences(models, 0.95, "percentile"),
        "pair": lambda: bootstrap.differences(targets, scores["0"], scores["1"], **how),
        "closed": lambda: delong(targets, scores),
    }
    cost = smallest(calls, options.repeats)
    one, together, number = cost["one"], cost["together"], options.models * (options.models - 1) // 2
    rows = [
        ("one model: its intervals", one, ""),
        (f"{options.models} models together", together, f"{together / one / options.models:.2f} of them one by one"),
        ("  of it resamples (shared)", cost["resamples"], ""),
        (f"  of it {number} pairs", cost["pairs"], ""),
        ("pair by pair", cost["pair"] * number, f"{cost['pair'] * number / together:.0f} times together"),
        ("DeLong's covariance", cost["closed"], "no resampling"),
    ]
    size = f"{options.records:,} records x {options.classes} classes, {options.replicates:,} replicates"
    print(f"{size} (processor seconds, smallest of {options.repeats})")
    print("\n".join(f"{name:28s}{seconds:8.3f}   {note}".rstrip() for name, seconds, note in rows))
    print(
        f"all pairs, once the {options.models} models have their intervals: "
        f"{cost['pairs'] / one:.3f} of one model's cost"
    )
    print(f"all pairs with the {options.models} models' own intervals:        {together / one:.1f} of one model's cost")


if __name__ == "__main__":
    main()
