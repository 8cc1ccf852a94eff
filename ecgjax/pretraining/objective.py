"""What a pretraining objective is, and one or several of them as one loss over shared passes of the encoder.

Shapes: B records, S samples of a crop.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.errors import UserError
from ecgjax.models.encoder import Encoder, Features, Variables
from ecgjax.models.tokens import Edit

Array = jax.Array
Tree = Any
"""A pytree of arrays."""


class Setup(NamedTuple):
    """What an objective is built for.

    Attributes:
        encoder: to train.
        samples: of one segment, at the encoder's rate.
        steps: updates of the whole run, for schedules.
        targets: (records, classes) float32 0, 1 or NaN of the run's data; None: it has no labels.
    """

    encoder: Encoder
    samples: int
    steps: int
    targets: np.ndarray | None = None


class View(NamedTuple):
    """What an objective has the encoder read.

    Attributes:
        x: (B', S, 12) mV; B' is B, or more where records are cut in segments.
        edit: of the tokens.
        about: what the loss must know of it, such as the mask.
    """

    x: Array
    edit: Edit = Edit()
    about: Any = None


class Batch(NamedTuple):
    """What a loss may use beside the encoder's features.

    Attributes:
        x: (B, S * segments, 12) mV.
        facts: of the records, by name, each (B, ...): "targets", "patient".
        valid: (B,) bool, records that count; all of them in training.
        rest: the encoder's variables beside `params` before the step.
        key: PRNG key of this objective and step.
        train: whether this is an update.
    """

    x: Array
    facts: Mapping[str, Array]
    valid: Array
    rest: Variables
    key: Array
    train: bool


class Objective(NamedTuple):
    """Pure functions over pytrees.

    Attributes:
        name: in the registry.
        metrics: names of what `loss` returns beside the loss.
        init: (PRNG key, the encoder's parameters) -> (trained parameters of the head, memory). Memory is kept with the
            state but not trained: a teacher, a codebook.
        loss: (head, memory, features, view, batch) -> (losses (B,), metrics by name, each (B,)). Losses that belong to
            a batch rather than to a record are repeated for each of its records.
        view: (head, memory, x, key) -> `View`; None: the crop as it is, whose pass other objectives can share.
        after_update: (memory, the encoder's parameters, updates made) -> memory; None: it stays.
        fit: (memory, batches of crops (B, S * segments, 12)) -> memory, before the first step; None: nothing to fit.
        facts: that `loss` needs of the records.
        segments: consecutive windows of S samples that it needs of each record.
        chance: its loss for a head that knows nothing, if there is such a figure.
    """

    name: str
    metrics: tuple[str, ...]
    init: Callable[[Array, Tree], tuple[Tree, Tree]]
    loss: Callable[[Tree, Tree, Features, View, Batch], tuple[Array, dict[str, Array]]]
    view: Callable[[Tree, Tree, Array, Array], View] | None = None
    after_update: Callable[[Tree, Tree, Array], Tree] | None = None
    fit: Callable[[Tree, Callable[[], Any]], Tree] | None = None
    facts: tuple[str, ...] = ()
    segments: int = 1
    chance: float | None = None


class Part(NamedTuple):
    """An objective and its weight in the sum."""

    objective: Objective
    weight: float = 1.0


class Mixture(NamedTuple):
    """Weighted objectives of one encoder, as one.

    Attributes:
        encoder: to train.
        samples: of one segment.
        parts: the objectives; a single one's head and memory stand alone, those of several under their names.
    """

    encoder: Encoder
    samples: int
    parts: tuple[Part, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what `losses` returns beside the loss, in its order."""
        if len(self.parts) == 1:
            return self.parts[0].objective.metrics
        return tuple(f"{p.objective.name}_{name}" for p in self.parts for name in ("loss", *p.objective.metrics))

    @property
    def segments(self) -> int:
        """Windows of each record that are cut."""
        return max(part.objective.segments for part in self.parts)

    @property
    def facts(self) -> tuple[str, ...]:
        """Facts of records that some part needs."""
        return tuple(sorted({name for part in self.parts for name in part.objective.facts}))

    def init(self, key: Array, params: Tree) -> tuple[Tree, Tree]:
        """Heads and memory; memory is {} where no objective has any."""
        if len(self.parts) == 1:
            return self.parts[0].objective.init(key, params)
        made = {
            p.objective.name: p.objective.init(jax.random.fold_in(key, i), params) for i, p in enumerate(self.parts)
        }
        return {name: head for name, (head, _) in made.items()}, {name: m for name, (_, m) in made.items() if m}

    def losses(
        self, params: Tree, memory: Tree, batch: Batch, dropout: Array | None
    ) -> tuple[Array, dict[str, Array], Variables]:
        """The weighted sum of the losses.

        Args:
            params: {"encoder": ..., "head": ...}.
            memory: from `init`.
            batch: crops of S * `segments` samples, and what belongs to them.
            dropout: PRNG key, in training.

        Returns:
            (B,) losses, metrics by name, each (B,), and the encoder's variables beside `params` afterwards.
        """
        rest, shared = batch.rest, None
        values: list[Array] = []
        metrics: dict[str, Array] = {}
        for number, (objective, weight) in enumerate(self.parts):
            head, remembered = self._own(params["head"], objective), self._own(memory, objective)
            own = batch._replace(
                x=batch.x[:, : self.samples * objective.segments],
                key=batch.key if number == 0 else jax.random.fold_in(batch.key, number),
            )
            view = View(own.x) if objective.view is None else objective.view(head, remembered, own.x, own.key)
            if objective.view is None and shared is not None:
                features = shared
            else:
                features, rest = self._pass(params["encoder"], rest, view, batch.train, dropout, number)
                shared = features if objective.view is None else shared
            loss, found = objective.loss(head, remembered, features, view, own)
            if len(self.parts) > 1:
                found = {f"{objective.name}_{name}": value for name, value in {"loss": loss, **found}.items()}
            values.append(loss if weight == 1.0 else weight * loss)
            metrics |= found
        return sum(values[1:], values[0]), metrics, rest

    def after_update(self, memory: Tree, params: Tree, step: Array) -> Tree:
        """Memory after an update.

        Args:
            memory: before it.
            params: {"encoder": ..., "head": ...} after it.
            step: updates made, this one included.
        """
        for part in self.parts:
            objective = part.objective
            if objective.after_update is not None:
                new = objective.after_update(self._own(memory, objective), params["encoder"], step)
                memory = new if len(self.parts) == 1 else {**memory, objective.name: new}
        return memory

    def fit(self, memory: Tree, crops: Callable[[], Any]) -> Tree:
        """Memory that is fitted to data before the first step; `crops` starts to yield batches of crops anew."""
        for part in self.parts:
            objective = part.objective
            if objective.fit is not None:
                new = objective.fit(self._own(memory, objective), crops)
                memory = new if len(self.parts) == 1 else {**memory, objective.name: new}
        return memory

    def _own(self, tree: Tree, objective: Objective) -> Tree:
        return tree if len(self.parts) == 1 else tree.get(objective.name, {})

    def _pass(
        self, params: Tree, rest: Variables, view: View, train: bool, dropout: Array | None, number: int
    ) -> tuple[Features, Variables]:
        key = dropout if dropout is None or number == 0 else jax.random.fold_in(dropout, number)
        edit = view.edit if self.encoder.tokens is not None else None
        return self.encoder.apply({"params": params, **rest}, view.x, train, key, edit)


def context(features: Features) -> Array:
    """(B, tokens, C) float32: what the context network says of each token, normalised where the encoder does that."""
    return features.taps.get("context", features.sequence).astype(jnp.float32)


def require(
    name: str, encoder: Encoder, *, tokens: bool = False, causal: bool = False, drops: Sequence[str] = ()
) -> None:
    """Refuses an encoder that an objective cannot train.

    Args:
        name: of the objective.
        encoder: in question.
        tokens: it must let its tokens be edited.
        causal: its context must not see what comes.
        drops: ways of leaving tokens out, one of which it must know.

    Raises:
        UserError: with the reason.
    """
    model, has = encoder.spec.name, encoder.tokens
    if (tokens or causal or drops) and has is None:
        raise UserError(
            f"objective {name} cannot train {model}: it has no tokens between an embedding and a context network"
        )
    if has is not None and causal and not has.causal:
        remedy = ": expected config.model_arguments.causal=True" if "causal" in encoder.arguments else ""
        raise UserError(f"objective {name} cannot train {model} whose tokens see what comes after them{remedy}")
    if has is not None and causal and has.layout != "time":
        raise UserError(f"objective {name} cannot train {model}: its tokens are not one sequence in time")
    if has is not None and drops and has.drops not in drops:
        raise UserError(f"objective {name} cannot train {model}: no tokens can be left out of its context network")
