"""All pairs of models on one task, in one run: what the pairs add, and what sharing the resamples saves.

    python -m benchmarks.comparing [--records=2200 --classes=71 --models=10 --replicates=1000 --repeats=5]

"one model" is `bootstrap.intervals`. "together" is `joint`: the same intervals for all models on resamples that are
drawn once, and every paired difference. Of it, "resamples" is the drawing, which all models share, and "pairs" the
paired differences, their intervals and p-values; the rest is each model's own sorting and summing, which grows with the
models because every model orders the records in its own way. "pair by pair" is `bootstrap.differences` of one pair,
times the number of pairs. Medians of a few repeats, in processor seconds, taken in turns.
"""

import argparse
from pathlib import Path

from benchmarks.bootstrap import synthetic
from benchmarks.timing import Times, asked, in_turns, ratio, save, spread, summary
from ecgjax import bootstrap, host_memory
from ecgjax.evaluation.delong import delong
from ecgjax.evaluation.joint import joint
from ecgjax.evaluation.replicated import Replicated, differences
from ecgjax.evaluation.resamples import draw_counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = ("records", 2200), ("classes", 71), ("models", 10), ("replicates", 1000), ("repeats", 5)
    for name, default in sizes:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output", type=Path, help="JSON")
    options = parser.parse_args()
    host_memory.keep_freed()
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
    times = in_turns(calls, options.repeats)
    cost = {name: spread([one.cpu for one in taken]).median for name, taken in times.items()}
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
    print(f"{size} (processor seconds, medians of {options.repeats})")
    print("\n".join(f"{name:28s}{seconds:8.3f}   {note}".rstrip() for name, seconds, note in rows))
    print(
        f"all pairs, once the {options.models} models have their intervals: "
        f"{cost['pairs'] / one:.3f} of one model's cost"
    )
    print(f"all pairs with the {options.models} models' own intervals:        {together / one:.1f} of one model's cost")
    pairs = [Times(*(number * seconds for seconds in one)) for one in times["pair"]]
    apart = [Times(*(options.models * seconds for seconds in one)) for one in times["one"]]
    ratios = {
        f"{number} pairs of {options.models} models, one by one / all together": ratio(pairs, times["together"]),
        f"intervals of {options.models} models, one by one / together with all pairs": ratio(apart, times["together"]),
    }
    seconds = {name: summary(taken) for name, taken in times.items()}
    save(options.output, "comparing", {"options": asked(options), "seconds": seconds, "ratios": ratios})


if __name__ == "__main__":
    main()
