"""Bootstrap of per-class AUROC: time and memory against scikit-learn, in one run.

    python -m benchmarks.bootstrap [--records=2200 --classes=71 --replicates=1000]

The baseline calls scikit-learn's `roc_auc_score` per class and replicate on resampled rows, over two processes.
It is run on `--measured` replicates only, in parts, and scaled to all of them. Ours is the whole of
`ecgjax.bootstrap.intervals`, counts, sorting and percentiles included: compiled by a first call, whose time is shown,
then `--repeats` times. With `--repeats=0` the first call counts (50,000 x 1,092 takes minutes, of which compilation is
little). Medians; the processor time of the two processes is that of both.
"""

import argparse
import resource
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.timing import Times, asked, save, summary, timed

_TABLE: tuple[np.ndarray, np.ndarray]


def synthetic(records: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels of log-uniform frequency (10 positives to half the records) and scores that know a little about them."""
    rng = np.random.default_rng(seed)
    frequency = np.exp(rng.uniform(np.log(min(0.5, 10 / records)), np.log(0.5), classes))
    targets = (rng.random((records, classes)) < frequency).astype(np.float32)
    return targets, (rng.standard_normal((records, classes)) + targets).astype(np.float32)


def _start(targets: np.ndarray, scores: np.ndarray) -> None:
    global _TABLE
    _TABLE = targets, scores


def _one_replicate(rows: np.ndarray) -> tuple[np.ndarray, float]:
    """Values of all classes, and processor seconds."""
    from sklearn.metrics import roc_auc_score

    began = time.process_time()
    targets, scores = _TABLE[0][rows], _TABLE[1][rows]
    columns = zip(targets.T, scores.T, strict=True)
    values = np.array([roc_auc_score(t, s) if 0 < t.sum() < len(t) else np.nan for t, s in columns])
    return values, time.process_time() - began


def baseline(targets: np.ndarray, scores: np.ndarray, draws: np.ndarray, parts: int) -> tuple[list[Times], np.ndarray]:
    """Seconds per replicate of every part of the draws, and the values of all."""
    times, values = [], []
    with get_context("fork").Pool(2, _start, (targets, scores)) as pool:
        pool.map(_one_replicate, draws[:2], chunksize=1)
        for part in np.array_split(draws, parts):
            began = time.perf_counter()
            found = pool.map(_one_replicate, part, chunksize=1)
            wall = time.perf_counter() - began
            values += [value for value, _ in found]
            times.append(Times(wall / len(part), sum(used for _, used in found) / len(part)))
    return times, np.array(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2200)
    parser.add_argument("--classes", type=int, default=71)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--measured", type=int, default=20, help="replicates the baseline is measured on; 0 skips it")
    parser.add_argument("--repeats", type=int, default=5, help="calls after the first")
    parser.add_argument("--output", type=Path, help="JSON")
    options = parser.parse_args()
    targets, scores = synthetic(options.records, options.classes)
    draws = np.random.default_rng(1).integers(0, options.records, (options.measured, options.records))
    theirs: list[Times] = []
    if options.measured:
        # Before JAX is loaded: a forked JAX may hang, and a spawned pool would be charged for its start.
        each, expected = baseline(targets, scores, draws, min(5, options.measured))
        theirs = [Times(one.wall * options.replicates, one.cpu * options.replicates) for one in each]

    from ecgjax import bootstrap, host_memory
    from ecgjax.evaluation.resamples import draw_counts
    from ecgjax.evaluation.weighted_auroc import lay_out, replicate_aurocs

    host_memory.keep_freed()

    def ours() -> None:
        bootstrap.intervals(targets, scores, replicates=options.replicates)

    first = timed(ours)
    calls = [timed(ours) for _ in range(options.repeats)] or [first]
    gibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    size = f"{options.records:,} records x {options.classes:,} classes x {options.replicates:,} replicates"
    seconds = summary(calls)
    print(f"{size}: {seconds['wall']['median']:.2f} s ({first.wall:.2f} s with compilation)")
    print(f"peak resident memory {gibibytes:.2f} GiB")
    found = {"seconds": seconds, "first": first._asdict(), "peak_gibibytes": gibibytes}
    if options.measured:
        values = replicate_aurocs(targets, scores, lay_out(draw_counts(options.records, indices=draws)))
        scaled = summary(theirs)
        against = {clock: scaled[clock]["median"] / seconds[clock]["median"] for clock in scaled}
        print(
            f"scikit-learn, two processes: {scaled['wall']['median']:.1f} s, scaled from {options.measured} replicates"
        )
        difference = float(np.nanmax(np.abs(values - expected)))
        print(f"ratio {against['wall']:.0f}, processor time {against['cpu']:.0f}; largest difference {difference:.1e}")
        found |= {"scikit_learn_seconds": scaled, "largest_difference": difference}
        # Not in turns (see above): every part of the baseline against the median.
        found["ratios"] = {
            f"bootstrap of {size}: scikit-learn's time / ecgjax's": {
                clock: {key: value / seconds[clock]["median"] for key, value in spread.items()}
                for clock, spread in scaled.items()
            }
        }
    save(options.output, "bootstrap", {"options": asked(options), **found})


if __name__ == "__main__":
    main()
