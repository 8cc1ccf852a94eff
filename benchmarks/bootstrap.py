"""Bootstrap of per-class AUROC: time and memory against scikit-learn, in one run.

    python -m benchmarks.bootstrap [--records=2200 --classes=71 --replicates=1000]

The baseline calls scikit-learn's `roc_auc_score` per class and replicate on resampled rows, over two processes.
It is run on `--measured` replicates only and scaled to all of them. Ours is the whole of `ecgjax.bootstrap.intervals`,
counts, sorting and percentiles included: compiled by a first call, whose time is shown too. With `--once` there is no
second call (50,000 x 1,092 takes minutes, of which compilation is little).
"""

import argparse
import resource
import time
from multiprocessing import get_context

import numpy as np

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


def _one_replicate(rows: np.ndarray) -> np.ndarray:
    from sklearn.metrics import roc_auc_score

    targets, scores = _TABLE[0][rows], _TABLE[1][rows]
    columns = zip(targets.T, scores.T, strict=True)
    return np.array([roc_auc_score(t, s) if 0 < t.sum() < len(t) else np.nan for t, s in columns])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2200)
    parser.add_argument("--classes", type=int, default=71)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--measured", type=int, default=20, help="replicates the baseline is measured on; 0 skips it")
    parser.add_argument("--once", action="store_true", help="do not repeat the call to leave compilation out")
    options = parser.parse_args()
    targets, scores = synthetic(options.records, options.classes)
    draws = np.random.default_rng(1).integers(0, options.records, (options.measured, options.records))
    baseline = np.nan
    if options.measured:
        # Before JAX is loaded: a forked JAX may hang, and a spawned pool would be charged for its start.
        with get_context("fork").Pool(2, _start, (targets, scores)) as pool:
            pool.map(_one_replicate, draws[:2], chunksize=1)
            start = time.perf_counter()
            expected = np.array(pool.map(_one_replicate, draws, chunksize=1))
            baseline = (time.perf_counter() - start) / options.measured * options.replicates

    from ecgjax import bootstrap
    from ecgjax.evaluation.resamples import draw_counts
    from ecgjax.evaluation.weighted_auroc import lay_out, replicate_aurocs

    seconds = []
    for _ in range(1 if options.once else 2):
        start = time.perf_counter()
        bootstrap.intervals(targets, scores, replicates=options.replicates)
        seconds.append(time.perf_counter() - start)
    size = f"{options.records:,} records x {options.classes:,} classes x {options.replicates:,} replicates"
    print(f"{size}: {seconds[-1]:.2f} s ({seconds[0]:.2f} s with compilation)")
    print(f"peak resident memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
    if options.measured:
        ours = replicate_aurocs(targets, scores, lay_out(draw_counts(options.records, indices=draws)))
        print(f"scikit-learn, two processes: {baseline:.1f} s, scaled from {options.measured} replicates")
        print(f"ratio {baseline / seconds[-1]:.0f}; largest difference {np.nanmax(np.abs(ours - expected)):.1e}")


if __name__ == "__main__":
    main()
