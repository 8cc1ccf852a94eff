"""The pretraining state and the jitted programs over it: one update, one validation batch, one batch of monitors."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ecgjax.data.cutter import Cutter, Item
from ecgjax.pretraining import monitors
from ecgjax.pretraining.objective import Batch, Mixture

State = dict[str, Any]
"""Everything a checkpoint must hold, as one pytree:

    params      {"encoder": ..., "head": ...}, what is trained
    rest        the encoder's other variables: running statistics, constants
    optimiser   the optimiser's state
    step        updates made, int32
    key         PRNG key; update k draws from fold_in(key, k)
    sums        of loss, metrics and updates since the last log line, and "nonfinite", the first step whose loss was
                not finite (-1: none); on the device: no step waits for the host, and a resumed line is the same line
    memory      of the objective: a teacher, a codebook; absent where it has none
"""

Facts = Mapping[str, jax.Array]
"""Facts of all records by name, (records, ...), such as "targets"; an argument, so that they are no constants."""


def init(
    mixture: Mixture,
    optimiser: optax.GradientTransformation,
    params: Any,
    rest: Any,
    key: jax.Array,
    memory: Any = None,
) -> State:
    """A state at step 0."""
    state = {
        "params": params,
        "rest": rest,
        "optimiser": optimiser.init(params),
        "step": jnp.zeros((), jnp.int32),
        "key": key,
        "sums": zero_sums(mixture),
    }
    return {**state, "memory": memory} if memory else state


def init_params(mixture: Mixture, key: jax.Array) -> tuple[Any, Any, Any]:
    """Fresh parameters {"encoder", "head"}, the encoder's other variables, and the objective's memory."""
    encoder_key, head_key = jax.random.split(key)
    rest = mixture.encoder.init(encoder_key)
    params = rest.pop("params")
    head, memory = mixture.init(head_key, params)
    return {"encoder": params, "head": head}, rest, memory


def zero_sums(mixture: Mixture) -> dict[str, jax.Array]:
    """Nothing logged yet."""
    names = ("loss", *mixture.metrics, "updates")
    return {**{name: jnp.zeros(()) for name in names}, "nonfinite": jnp.int32(-1)}


def make_update(mixture: Mixture, optimiser: optax.GradientTransformation, clip: float | None) -> Callable[..., State]:
    """The jitted training step: cut, resample, forward, loss, gradient, update. Its state is donated.

    Args:
        mixture: the objectives.
        optimiser: over `params`.
        clip: millivolts that signals are clipped to; None: not clipped.

    Returns:
        `update(state, cutter, item, facts={})`: the state after it.
    """

    def update(state: State, cutter: Cutter, item: Item, facts: Facts | None = None) -> State:
        dropout_key, key = jax.random.split(jax.random.fold_in(state["key"], state["step"]))
        x = _clip(cutter(item), clip)
        valid = jnp.ones(len(x), bool)
        batch = Batch(x, _facts(facts, item), valid, state["rest"], key, train=True)
        memory = state.get("memory", {})

        def objective(params: Any) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
            losses, metrics, rest = mixture.losses(params, memory, batch, dropout_key)
            return jnp.mean(losses), ({name: jnp.mean(metrics[name]) for name in mixture.metrics}, rest)

        (value, (metrics, rest)), gradient = jax.value_and_grad(objective, has_aux=True)(state["params"])
        updates, optimiser_state = optimiser.update(gradient, state["optimiser"], state["params"])
        params, step, sums = optax.apply_updates(state["params"], updates), state["step"] + 1, state["sums"]
        first = jnp.where((sums["nonfinite"] < 0) & ~jnp.isfinite(value), step, sums["nonfinite"])
        new = {
            "params": params,
            "rest": rest,
            "optimiser": optimiser_state,
            "step": step,
            "key": state["key"],
            "sums": {
                **{name: sums[name] + found for name, found in {"loss": value, **metrics}.items()},
                "updates": sums["updates"] + 1,
                "nonfinite": first,
            },
        }
        return {**new, "memory": mixture.after_update(memory, params, step)} if memory else new

    return jax.jit(update, donate_argnums=0)


def make_validate(mixture: Mixture, clip: float | None) -> Callable[..., jax.Array]:
    """The jitted validation step in evaluation mode.

    Returns:
        `validate(state, cutter, item, key, totals, facts={})`: (2 + metrics,) `totals` plus this batch's sums over its
        valid windows of loss, metrics and one. The same key draws the same masks and negatives.
    """

    def validate(
        state: State, cutter: Cutter, item: Item, key: jax.Array, totals: jax.Array, facts: Facts | None = None
    ) -> jax.Array:
        valid = jnp.asarray(item["valid"])
        batch = Batch(_clip(cutter(item), clip), _facts(facts, item), valid, state["rest"], key, train=False)
        losses, metrics, _ = mixture.losses(state["params"], state.get("memory", {}), batch, None)
        found = [losses, *(metrics[name] for name in mixture.metrics), jnp.ones_like(losses)]
        return totals + jnp.sum(jnp.where(valid[:, None], jnp.stack(found, -1), 0.0), 0)

    return jax.jit(validate)


def make_monitor(
    mixture: Mixture, clip: float | None
) -> Callable[[State, Cutter, Item, monitors.Moments], monitors.Moments]:
    """The jitted `monitor(state, cutter, item, moments)`: moments with the pooled features of a batch's valid windows.

    The encoder reads crops as evaluations give them, nothing masked.
    """

    def monitor(state: State, cutter: Cutter, item: Item, moments: monitors.Moments) -> monitors.Moments:
        x = _clip(cutter(item), clip)[:, : mixture.samples]
        variables = {"params": state["params"]["encoder"], **state["rest"]}
        return monitors.add(moments, mixture.encoder.apply(variables, x)[0].pooled, jnp.asarray(item["valid"]))

    return jax.jit(monitor)


def _facts(facts: Facts | None, item: Item) -> dict[str, jax.Array]:
    return {name: values[jnp.asarray(item["record"])] for name, values in (facts or {}).items()}


def _clip(x: jax.Array, millivolt: float | None) -> jax.Array:
    return x if millivolt is None else jnp.clip(x, -millivolt, millivolt)
