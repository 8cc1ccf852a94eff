"""Supervised training of an encoder with a head: the modes as data, and the two jitted programs of a run.

Training trees are {"encoder": ..., "head": ...}, or {"head": ...} where the encoder is frozen: it then runs in
evaluation mode, outside of what is differentiated, and never reaches the optimiser.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ecgjax.data.cutter import Cutter, Item
from ecgjax.errors import UserError
from ecgjax.models import heads
from ecgjax.models.encoder import Encoder, Features, ModelSpec, Variables
from ecgjax.models.forward import Forward
from ecgjax.models.model import Model
from ecgjax.training import losses, optimiser


@dataclass(frozen=True)
class Mode:
    """How a pretrained model is used.

    Attributes:
        head: kind of head, see `ecgjax.models.heads`.
        trains_encoder: whether the encoder is trained; a frozen one stays in evaluation mode.
        one_rate: one learning rate for everything instead of the model's groups.
        pretrained: whether weights may be given.
        exact: the head is fitted to the optimum (`ecgjax.evaluation.exact_linear`) instead of trained by steps.
    """

    head: str
    trains_encoder: bool
    one_rate: bool = False
    pretrained: bool = True
    exact: bool = False


MODES = {
    "finetune": Mode("linear", trains_encoder=True),
    "finetune_attention": Mode("attention", trains_encoder=True),
    "frozen": Mode("attention", trains_encoder=False),
    "linear": Mode("linear", trains_encoder=False),
    "linear_exact": Mode("linear", trains_encoder=False, exact=True),
    "scratch": Mode("linear", trains_encoder=True, one_rate=True, pretrained=False),
}


def get_mode(name: str) -> Mode:
    """A mode by its name.

    Raises:
        UserError: unknown name.
    """
    if name not in MODES:
        raise UserError(f"mode {name!r} is unknown; expected one of {', '.join(MODES)}")
    return MODES[name]


class TrainState(NamedTuple):
    """What training changes.

    Attributes:
        step: () int32, updates made.
        params: {"encoder": ..., "head": ...} or {"head": ...}.
        rest: the encoder's other variables (running statistics, buffers); empty if it is frozen.
        optimiser: optax state.
        key: PRNG key of the run; dropout folds the step into it.
    """

    step: Array
    params: dict[str, Any]
    rest: dict[str, Any]
    optimiser: Any
    key: Array


class Program(NamedTuple):
    """A run's compiled functions and what they start from.

    Attributes:
        state: initial state; `step` donates it.
        frozen: the encoder's variables where they are not trained, else empty.
        step: (state, frozen, cutter, item, targets) -> (state, loss); targets (records, outputs) of the whole store.
        predict: (state, frozen, cutter, item) -> (scores (batch, outputs), (batch,) whether logits were finite).
        groups: the table of learning-rate groups.
    """

    state: TrainState
    frozen: Variables
    step: Callable[[TrainState, Variables, Cutter, Item, Array], tuple[TrainState, Array]]
    predict: Callable[[TrainState, Variables, Cutter, Item], tuple[Array, Array]]
    groups: list[optimiser.GroupRow]


def build(
    model: Model,
    mode: Mode,
    *,
    n_classification: int,
    n_regression: int,
    learning_rate: float,
    rate_factor: float,
    weight_decay: float,
    seed: int,
    paper_groups: bool = False,
) -> Program:
    """Puts a head on a model and compiles the run's functions.

    Args:
        model: encoder and weights.
        mode: one of `MODES` that is trained by steps.
        n_classification: outputs trained with binary cross-entropy; they come first.
        n_regression: outputs trained with absolute error. With any, the loss is `losses.multitask`, else `losses.bce`.
        learning_rate: of the head; each of the model's later groups has `rate_factor` times the rate of the one before.
        rate_factor: see above.
        weight_decay: on every trained parameter.
        seed: of the head's initialisation and of dropout.
        paper_groups: with the rate groups that the benchmark's published numbers really had
            (`ModelSpec.paper_lr_groups`).
    """
    encoder = model.encoder
    head = heads.create(mode.head, encoder.spec.channels, n_classification + n_regression)
    params, rest, key = initial(model, mode, head, seed)
    frozen: Variables = {} if mode.trains_encoder else model.variables
    groups, rates = rate_groups_of(encoder.spec, mode, learning_rate, rate_factor, paper_groups)
    labels, rows = optimiser.rate_groups(params, groups, rates)
    updates = optimiser.adamw(labels, rates, weight_decay)

    step = (training_step if mode.trains_encoder else _head_step)(encoder, head, make_loss(n_regression), updates)

    def predict(state: TrainState, frozen: Variables, cutter: Cutter, item: Item) -> tuple[Array, Array]:
        variables = {"params": state.params["encoder"], **state.rest} if mode.trains_encoder else frozen
        features, _ = encoder.apply(variables, cutter(item))
        return scores_of(head.apply(state.params["head"], features), n_classification)

    state = TrainState(jnp.zeros((), jnp.int32), params, rest, updates.init(params), key)
    compiled = jax.jit if mode.trains_encoder else Forward
    return Program(state, frozen, compiled(step, donate_argnums=0), Forward(predict), rows)


def initial(model: Model, mode: Mode, head: heads.Head, seed: int) -> tuple[dict[str, Any], dict[str, Any], Array]:
    """What a run starts from: `TrainState`'s params, rest and key; all of it copies, since a step donates its state."""
    head_key, run_key = jax.random.split(jax.random.key(seed))
    params: dict[str, Any] = {"head": head.init(head_key)}
    if not mode.trains_encoder:
        return params, {}, run_key
    rest = jax.tree.map(jnp.copy, dict(model.variables))
    return {"encoder": rest.pop("params"), **params}, rest, run_key


def rate_groups_of(
    spec: ModelSpec, mode: Mode, learning_rate: float, rate_factor: float, paper: bool = False
) -> tuple[Sequence[tuple[str, Sequence[str]]], Mapping[str, float]]:
    """The learning-rate groups of a mode, and their rates (protocol 3.2)."""
    if not mode.trains_encoder:
        return (("head", ("head/",)),), {"head": learning_rate}
    if mode.one_rate:
        return (("all", ("encoder/", "head/")),), {"all": learning_rate}
    groups = (paper and spec.paper_lr_groups) or spec.lr_groups
    rates = {name: learning_rate * rate_factor**i for i, (name, _) in enumerate(groups)}
    return groups, {name: 0.0 if name == optimiser.FROZEN else rate for name, rate in rates.items()}


Loss = Callable[[Array, Array], Array]
"""(logits (batch, outputs), targets (batch, outputs)) -> scalar."""


def make_loss(n_regression: int) -> Loss:
    """The loss of a run whose last `n_regression` outputs are trained with absolute error."""
    return partial(losses.multitask, n_regression=n_regression) if n_regression else losses.bce


def scores_of(logits: Array, n_classification: int) -> tuple[Array, Array]:
    """What is scored: probabilities, then the regression outputs; and (batch,) whether all logits are finite."""
    scores = losses.finite(logits)
    probabilities = jax.nn.sigmoid(scores[:, :n_classification])
    return jnp.concatenate([probabilities, scores[:, n_classification:]], axis=1), jnp.isfinite(logits).all(axis=1)


def training_step(
    encoder: Encoder, head: heads.Head, loss_of: Loss, updates: optax.GradientTransformation
) -> Callable[[TrainState, Variables, Cutter, Item, Array], tuple[TrainState, Array]]:
    """The step of a run that trains its encoder, to be compiled; see `Program.step`."""

    def step(
        state: TrainState, frozen: Variables, cutter: Cutter, item: Item, targets: Array
    ) -> tuple[TrainState, Array]:
        x = cutter(item)

        def loss(params: dict[str, Any]) -> tuple[Array, Variables]:
            variables = {"params": params["encoder"], **state.rest}
            features, rest = encoder.apply(variables, x, True, jax.random.fold_in(state.key, state.step))
            return loss_of(head.apply(params["head"], features), targets[item["record"]]), rest

        (value, rest), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
        return _updated(state, rest, gradients, updates), value

    return step


def _head_step(
    encoder: Encoder, head: heads.Head, loss_of: Loss, updates: optax.GradientTransformation
) -> Callable[[TrainState, Variables, Cutter, Item, Array], tuple[TrainState, Array]]:
    def step(
        state: TrainState, frozen: Variables, cutter: Cutter, item: Item, targets: Array
    ) -> tuple[TrainState, Array]:
        features: Features = encoder.apply(frozen, cutter(item))[0]

        def loss(params: dict[str, Any]) -> Array:
            return loss_of(head.apply(params["head"], features), targets[item["record"]])

        value, gradients = jax.value_and_grad(loss)(state.params)
        return _updated(state, state.rest, gradients, updates), value

    return step


def _updated(state: TrainState, rest: Variables, gradients: Any, updates: optax.GradientTransformation) -> TrainState:
    change, optimiser_state = updates.update(gradients, state.optimiser, state.params)
    params = optax.apply_updates(state.params, change)
    return TrainState(state.step + 1, params, rest, optimiser_state, state.key)
