"""CKA of all pairs of layers of two models: products of features against Gram matrices of records x records.

    python -m benchmarks.cka [--records=5000 --layers=12 --channels=768]

Both give the unbiased estimate in float32; the Gram form is what definitions say (K and L without their diagonals), in
NumPy on the same cores, for a few pairs, and scaled to all. Memory of the Gram form grows with records squared.
"""

import argparse
import resource
import time

import numpy as np

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
    parser.add_argument("--measured", type=int, default=2, help="pairs that the Gram form is measured on")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (options.records, options.channels)
    xs, ys = ([rng.standard_normal(shape, np.float32) for _ in range(options.layers)] for _ in range(2))
    for x, y in zip(xs, ys, strict=True):
        y[:, :100] += x[:, :100]
    cka.matrix(xs[:1], ys[:1])  # compiles
    start, wall = time.process_time(), time.perf_counter()
    found = cka.matrix(xs, ys)
    ours, elapsed = time.process_time() - start, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start = time.process_time()
    for i in range(options.measured):
        expected = gram(xs[i], ys[i]) / np.sqrt(gram(xs[i], xs[i]) * gram(ys[i], ys[i]))
        assert abs(expected - found[i, i]) < 1e-3, (expected, found[i, i])
    terms = options.layers**2 + 2 * options.layers
    theirs = (time.process_time() - start) / (3 * options.measured) * terms
    print(f"{options.layers} x {options.layers} layers, {options.records} x {options.channels} features, CPU seconds")
    print(f"products of features {ours:8.1f} ({elapsed:.1f} s wall, process peak {peak:.2f} GiB, features included)")
    print(f"Gram matrices        {theirs:8.1f} ({theirs / ours:.1f} times)")


if __name__ == "__main__":
    main()
