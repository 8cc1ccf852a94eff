"""All pairs of models on one task, in one run: the joint bootstrap against one model's intervals.

    python benchmarks/comparing.py [--records=2200 --classes=71 --models=10]

"one" is `bootstrap.intervals` of one model times the number of models, which is what intervals alone cost; "all pairs"
is `joint`, with the same intervals and every paired difference. "pair by pair" is `bootstrap.differences` of one pair
times the number of pairs.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from ecgjax import bootstrap
from ecgjax.evaluation.delong import delong
from ecgjax.evaluation.joint import joint


def seconds(call: Callable[[], object]) -> float:
    call()
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("records", 2200), ("classes", 71), ("models", 10), ("replicates", 1000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    frequency = np.exp(rng.uniform(np.log(10 / options.records), np.log(0.5), options.classes))
    targets = (rng.random((options.records, options.classes)) < frequency).astype(np.float32)
    scores = {str(i): (rng.standard_normal(targets.shape) + targets).astype(np.float32) for i in range(options.models)}
    how = {"replicates": options.replicates}
    one = seconds(lambda: bootstrap.intervals(targets, scores["0"], **how)) * options.models
    pair = seconds(lambda: bootstrap.differences(targets, scores["0"], scores["1"], **how))
    pairs = pair * options.models * (options.models - 1) / 2
    every = seconds(lambda: joint(targets, scores, **how))
    closed = seconds(lambda: delong(targets, scores))
    print(
        f"{options.models} models, {options.records} x {options.classes}, {options.replicates} replicates (CPU seconds)"
    )
    print(f"intervals of every model alone  {one:8.2f}")
    print(f"all pairs (joint)               {every:8.2f}   {every / one:.2f} of the intervals alone")
    print(f"pair by pair                    {pairs:8.2f}   {pairs / every:.1f} times the joint one")
    print(f"DeLong's covariance             {closed:8.2f}")


if __name__ == "__main__":
    main()
