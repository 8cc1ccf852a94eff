"""Rules of one torch batch norm, for the name maps of models that have many."""

import numpy as np

from convert_weights.rules import Derived, Rule


def norm_rules(torch: str, path: str) -> tuple[Rule, ...]:
    """Rules of the batch norm at a torch prefix (with its dot) and a variable path, which share their fields."""
    return (
        Rule(torch + "weight", f"params/{path}/scale"),
        Rule(torch + "bias", f"params/{path}/bias"),
        Rule(torch + "running_mean", f"batch_stats/{path}/mean"),
        Rule(torch + "running_var", f"batch_stats/{path}/var"),
    )


def batch_counter(torch: str) -> Derived:
    """`num_batches_tracked`, which nothing reads: any value is accepted, 0 is written."""
    return Derived(torch + "num_batches_tracked", torch + "weight", lambda encoder, scale: np.zeros((), np.int64))


def unused_norm(torch: str, beside: str, axis: int) -> tuple[Derived, ...]:
    """A batch norm that the authors' network holds and does not run: any values are accepted, initial ones are written.

    Args:
        torch: its prefix, with the dot.
        beside: torch name of a weight, one axis of which has as many entries as the norm has channels.
        axis: that axis.
    """
    initial = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}

    def constant(value: float) -> Derived:
        return Derived("", beside, lambda encoder, weight: np.full(weight.shape[axis], value, np.float32))

    tensors = tuple(constant(value)._replace(source=torch + name) for name, value in initial.items())
    count = Derived(torch + "num_batches_tracked", beside, lambda encoder, weight: np.zeros((), np.int64))
    return (*tensors, count)
