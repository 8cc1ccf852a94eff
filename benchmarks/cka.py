"""CKA of all pairs of layers of two models: products of features against Gram matrices of records x records.

    python -m benchmarks.cka [--records=5000 --layers=12 --channels=768]

Both give the unbiased estimate in float32; the Gram form is what definitions say (K and L without their diagonals), in
NumPy on the same cores, for one pair, and scaled to all. In turns, medians. Memory of the Gram form grows with
records squared.
"""

import argparse
import resource
from pathlib import Path

import numpy as np

from benchmarks.timing import Times, asked, in_turns, ratio, save, summary
from ecgjax import host_memory
from ecgjax.evaluation import cka


def gram(x: np.ndarray, y: np.ndarray) -> float:
    """HSIC_1 times n (n - 3), from Gram matrices."""
    k, m = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    n, rows_k, rows_m = len(x), k.sum(1), m.sum(1)
    return float(np.vdot(k, m) + rows_k.sum() * rows_m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * rows_k @ rows_m)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--channels", type=int, default=768)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (options.records, options.channels)
    xs, ys = ([rng.standard_normal(shape, np.float32) for _ in range(options.layers)] for _ in range(2))
    for x, y in zip(xs, ys, strict=True):
        y[:, :100] += x[:, :100]
    host_memory.keep_freed()
    terms = options.layers**2 + 2 * options.layers
    found = cka.matrix(xs, ys)
    expected = gram(xs[0], ys[0]) / np.sqrt(gram(xs[0], xs[0]) * gram(ys[0], ys[0]))
    assert abs(expected - found[0, 0]) < 1e-3, (expected, found[0, 0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    calls = {"products": lambda: cka.matrix(xs, ys), "gram": lambda: gram(xs[0], ys[0])}
    times = in_turns(calls, options.repeats, warm=0)
    times["gram"] = [Times(*(terms * seconds for seconds in one)) for one in times["gram"]]
    seconds, against = {name: summary(taken) for name, taken in times.items()}, ratio(times["gram"], times["products"])
    size = f"{options.layers} x {options.layers} layers, {options.records} x {options.channels} features"
    print(f"{size}, CPU seconds; process peak {peak:.2f} GiB, features and a pair's Gram matrices included")
    print(f"products of features {seconds['products']['cpu']['median']:8.1f}")
    print(f"Gram matrices        {seconds['gram']['cpu']['median']:8.1f} ({against['cpu']['median']:.1f} times)")
    ratios = {f"CKA of {size}: Gram matrices / products of features": against}
    save(options.output, "cka", {"options": asked(options), "seconds": seconds, "ratios": ratios})


if __name__ == "__main__":
    main()
