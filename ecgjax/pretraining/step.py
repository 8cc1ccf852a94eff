"""The pretraining state and the two jitted programs over it: one update, and one validation batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ecgjax.data.cutter import Cutter, Item
from ecgjax.models.encoder import Encoder
from ecgjax.pretraining import cpc

State = dict[str, Any]
"""Everything a checkpoint must hold, as one pytree:

    params      {"encoder": ..., "head": ...}, what is trained
    rest        the encoder's other variables: running statistics, constants
    optimiser   the optimiser's state
    step        updates made, int32
    key         PRNG key; update k draws from fold_in(key, k)
    sums        of loss, accuracy and updates since the last log line, and "nonfinite", the first step whose loss was
                not finite (-1: none); on the device: no step waits for the host, and a resumed line is the same line
"""


def init(optimiser: optax.GradientTransformation, params: Any, rest: Any, key: jax.Array) -> State:
    """A state at step 0."""
    return {
        "params": params,
        "rest": rest,
        "optimiser": optimiser.init(params),
        "step": jnp.zeros((), jnp.int32),
        "key": key,
        "sums": zero_sums(),
    }


def init_params(encoder: Encoder, key: jax.Array) -> tuple[Any, Any]:
    """Fresh parameters {"encoder", "head"} and the encoder's other variables."""
    encoder_key, head_key = jax.random.split(key)
    rest = encoder.init(encoder_key)
    return {"encoder": rest.pop("params"), "head": cpc.init_head(head_key, encoder.spec.channels)}, rest


def zero_sums() -> dict[str, jax.Array]:
    """Nothing logged yet."""
    return {**{name: jnp.zeros(()) for name in ("loss", "accuracy", "updates")}, "nonfinite": jnp.int32(-1)}


def make_update(
    encoder: Encoder, optimiser: optax.GradientTransformation, clip: float | None
) -> Callable[[State, Cutter, Item], State]:
    """The jitted training step: cut, resample, forward, loss, gradient, update. Its state is donated.

    Args:
        encoder: with taps "encoder" and "predictor".
        optimiser: over `params`.
        clip: millivolts that signals are clipped to; None: not clipped.
    """

    def update(state: State, cutter: Cutter, item: Item) -> State:
        dropout_key, negatives_key = jax.random.split(jax.random.fold_in(state["key"], state["step"]))
        x = _clip(cutter(item), clip)

        def objective(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
            variables = {"params": params["encoder"], **state["rest"]}
            features, rest = encoder.apply(variables, x, train=True, key=dropout_key)
            encoded = features.taps["encoder"]
            negatives = cpc.draw_negatives(negatives_key, *encoded.shape[:2])
            value, accuracy = cpc.loss(encoded, cpc.apply_head(params["head"], features.taps["predictor"]), negatives)
            return value, (accuracy, rest)

        (value, (accuracy, rest)), gradient = jax.value_and_grad(objective, has_aux=True)(state["params"])
        updates, optimiser_state = optimiser.update(gradient, state["optimiser"], state["params"])
        step, sums = state["step"] + 1, state["sums"]
        first = jnp.where((sums["nonfinite"] < 0) & ~jnp.isfinite(value), step, sums["nonfinite"])
        return {
            "params": optax.apply_updates(state["params"], updates),
            "rest": rest,
            "optimiser": optimiser_state,
            "step": step,
            "key": state["key"],
            "sums": {
                "loss": sums["loss"] + value,
                "accuracy": sums["accuracy"] + accuracy,
                "updates": sums["updates"] + 1,
                "nonfinite": first,
            },
        }

    return jax.jit(update, donate_argnums=0)


def make_validate(
    encoder: Encoder, clip: float | None
) -> Callable[[State, Cutter, Item, jax.Array, jax.Array], jax.Array]:
    """The jitted validation step in evaluation mode.

    Returns:
        `validate(state, cutter, item, key, totals)`: (3,) `totals` plus this batch's sums over its valid windows of
        loss, accuracy and one. The same key draws the same negatives.
    """

    def validate(state: State, cutter: Cutter, item: Item, key: jax.Array, totals: jax.Array) -> jax.Array:
        variables = {"params": state["params"]["encoder"], **state["rest"]}
        features, _ = encoder.apply(variables, _clip(cutter(item), clip))
        encoded = features.taps["encoder"]
        predicted = cpc.apply_head(state["params"]["head"], features.taps["predictor"])
        losses, accuracies = cpc.record_losses(encoded, predicted, cpc.draw_negatives(key, *encoded.shape[:2]))
        valid = jnp.asarray(item["valid"])
        values = jnp.stack([losses, accuracies, jnp.ones_like(losses)], -1)
        return totals + jnp.sum(jnp.where(valid[:, None], values, 0.0), 0)

    return jax.jit(validate)


def _clip(x: jax.Array, millivolt: float | None) -> jax.Array:
    return x if millivolt is None else jnp.clip(x, -millivolt, millivolt)
