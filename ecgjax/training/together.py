"""Several runs of a sweep as one program: what `fused_heads` and `stacked` build, and the sweep's loop drives."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array
from numpy.typing import NDArray

from ecgjax.data.cutter import Cutter, Item
from ecgjax.training.cached_features import FeatureSource

Source = Cutter | FeatureSource
"""What an item is read with: signals for the encoder, or its features, computed before."""


class Together(NamedTuple):
    """The compiled functions of runs that are trained together, and what they start from.

    Attributes:
        state: initial state; `step` and `keep` donate it.
        step: (state, source, item) -> (state, losses (runs,)); the item is one batch for all, or has a first axis of
            runs. Runs that its "live" (runs,) bool leaves out stay as they are, their losses mean nothing.
        predict: (state, source, item, best) -> for each run (scores (batch, outputs), (batch,) whether its logits are
            finite), of its best or current parameters; item (batch,) is the same for all.
        keep: (state, improved (runs,) bool) -> state in which the best of those runs is the current.
        one: (state, run) -> {"params", "rest"} of a run's best epoch, on the host.
        features: (source, item) -> by kind what `predict` needs of an item that has no features yet; None: an encoder
            is trained.
    """

    state: Any
    step: Callable[[Any, Source, Item], tuple[Any, Array]]
    predict: Callable[[Any, Source, Item, bool], list[tuple[Array, Array]]]
    keep: Callable[[Any, NDArray[Any]], Any]
    one: Callable[[Any, int], dict[str, Any]]
    features: Callable[[Source, Item], dict[str, Array]] | None = None
