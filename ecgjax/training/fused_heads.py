"""Many heads on one frozen encoder: a batch passes through the encoder once, whatever the number of heads.

Heads of one kind and one number of outputs are a bucket: their parameters are stacked and trained under `jax.vmap`,
each with its own start, targets, rate, decay and moments. Nothing is summed over heads, so that one which diverges
leaves the others as they are. What no head reads, such as the token sequence where all are linear, is not computed.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import NamedSharding
from numpy.typing import NDArray

from ecgjax.data.cutter import Item
from ecgjax.models import heads
from ecgjax.models.encoder import Encoder, Features, Variables
from ecgjax.models.forward import Forward
from ecgjax.models.model import Model
from ecgjax.training import optimiser, supervised
from ecgjax.training.cached_features import FeatureSource
from ecgjax.training.mesh import sharded
from ecgjax.training.supervised import Mode
from ecgjax.training.together import Source, Together


class Head(NamedTuple):
    """What one run has of its own.

    Attributes:
        mode: one that leaves the encoder frozen.
        n_classification: see `ecgjax.training.supervised.build`.
        n_regression: likewise.
        learning_rate: likewise.
        weight_decay: likewise.
        seed: likewise.
        targets: (records of the store, outputs) float32.
    """

    mode: Mode
    n_classification: int
    n_regression: int
    learning_rate: float
    weight_decay: float
    seed: int
    targets: NDArray[np.float32]


class BucketState(NamedTuple):
    """Heads of one bucket; every leaf has a first axis of heads.

    Attributes:
        params: {"head": ...} as of one run.
        optimiser: optax states.
        best: params of each head's best epoch so far.
    """

    params: dict[str, Any]
    optimiser: Any
    best: dict[str, Any]


class _Bucket(NamedTuple):
    """Attributes: head and numbers of outputs of all, and which runs they are."""

    head: heads.Head
    n_classification: int
    n_regression: int
    labels: Any
    runs: NDArray[np.int32]


def build(model: Model, runs: Sequence[Head], sharding: NamedSharding | None = None) -> Together:
    """Stacks heads and compiles their functions.

    The state is a list of a `BucketState` per bucket. On several devices each passes its share of a batch through the
    encoder, then all have the features of the whole batch, and each trains its share of the heads; heads that the
    devices do not divide are trained by all.

    Args:
        model: the encoder with its weights, in evaluation mode.
        runs: the heads.
        sharding: of a batch's records over devices, from `ecgjax.training.mesh.batch_sharding`; None: there is one.
    """
    encoder, variables = model.encoder, model.variables
    buckets, state, own = _buckets(model, runs)
    whole = None if sharding is None else sharded(sharding.mesh)  # type: ignore[arg-type]
    lying = [whole if sharding is None or len(bucket.runs) % sharding.num_devices else sharding for bucket in buckets]
    if sharding is not None:
        state = [jax.device_put(heads, place) for heads, place in zip(state, lying, strict=True)]
        own = [
            {"run": jax.device_put(mine["run"], place), "targets": jax.device_put(mine["targets"], whole)}
            for mine, place in zip(own, lying, strict=True)
        ]
        variables = jax.device_put(variables, whole)
    order = np.argsort(np.concatenate([bucket.runs for bucket in buckets]))
    kinds = sorted({heads.READS[bucket.head.kind] for bucket in buckets})

    @partial(Forward, donate_argnums=0)
    def step(
        state: list[BucketState], variables: Variables, own: Any, source: Source, item: Item
    ) -> tuple[list[BucketState], Array]:
        shared = None if np.ndim(item["record"]) > 1 else _features(encoder, variables, source, item, whole)
        new, losses = [], []
        for bucket, before, mine, place in zip(buckets, state, own, lying, strict=True):
            its = None
            if shared is not None:
                axis, read = None, (shared, item["record"])
            else:  # every run has a batch of its own
                its = jax.tree.map(lambda leaf, bucket=bucket: leaf[bucket.runs], item)
                axis, read = 0, (_features(encoder, variables, source, its), its["record"])
            params, moments, values = jax.vmap(partial(_step_one, bucket, mine["targets"]), (0, 0, 0, axis, axis))(
                before.params, before.optimiser, mine["run"], *read
            )
            if its is not None and "live" in its:  # the others wait for the next epoch
                new_ones, old_ones = (params, moments), (before.params, before.optimiser)
                params, moments = jax.tree.map(partial(_chosen, its["live"]), new_ones, old_ones)
            after = BucketState(params, moments, before.best)
            new.append(after if place is None else jax.lax.with_sharding_constraint(after, place))
            losses.append(values)
        return new, jnp.concatenate(losses)[order]

    @partial(Forward, static_argnums=4)
    def predict(
        state: list[BucketState], variables: Variables, source: Source, item: Item, best: bool
    ) -> list[tuple[Array, Array]]:
        features = _features(encoder, variables, source, item, whole)
        found = []
        for bucket, now in zip(buckets, state, strict=True):

            def one(params: dict[str, Any], bucket: _Bucket = bucket) -> tuple[Array, Array]:
                return supervised.scores_of(bucket.head.apply(params["head"], features), bucket.n_classification)

            scores, finite = jax.vmap(one)(now.best if best else now.params)
            found += [(scores[i], finite[i]) for i in range(len(bucket.runs))]
        return [found[i] for i in order]

    @partial(jax.jit, donate_argnums=0)
    def keep(state: list[BucketState], improved: Array) -> list[BucketState]:
        new = []
        for bucket, now in zip(buckets, state, strict=True):
            better = improved[bucket.runs]
            best = jax.tree.map(partial(_chosen, better), now.params, now.best)
            new.append(BucketState(now.params, now.optimiser, best))
        return new

    @Forward
    def features(variables: Variables, source: Source, item: Item) -> dict[str, Array]:
        found = _features(encoder, variables, source, item)
        return {kind: getattr(found, kind) for kind in kinds}

    def one(state: list[BucketState], run: int) -> dict[str, Any]:
        for bucket, now in zip(buckets, state, strict=True):
            for place in np.flatnonzero(bucket.runs == run):
                best = jax.tree.map(lambda leaf, place=place: leaf[place], now.best)
                return {"params": jax.device_get(best), "rest": {}}
        raise IndexError(run)

    return Together(
        state,
        lambda state, source, item: step(state, variables, own, source, item),
        lambda state, source, item, best: predict(state, variables, source, item, best),
        lambda state, improved: keep(state, jnp.asarray(improved)),
        one,
        lambda source, item: features(variables, source, item),
    )


def _features(
    encoder: Encoder, variables: Variables, source: Source, item: Item, whole: NamedSharding | None = None
) -> Features:
    """Of an item; on several devices, whole on each."""
    found = source(item) if isinstance(source, FeatureSource) else encoder.apply(variables, source(item))[0]
    if whole is None:
        return found
    sequence, pooled = jax.lax.with_sharding_constraint((found.sequence, found.pooled), whole)
    return Features(sequence, pooled, taps={})


def _buckets(model: Model, runs: Sequence[Head]) -> tuple[list[_Bucket], list[BucketState], list[dict[str, Any]]]:
    """Buckets with their initial states and what their heads have of their own."""
    members: dict[tuple[str, int, int], list[int]] = {}
    for i, run in enumerate(runs):
        members.setdefault((run.mode.head, run.n_classification, run.n_regression), []).append(i)
    buckets, states, own = [], [], []
    for (kind, n_classification, n_regression), places in members.items():
        chosen = [runs[i] for i in places]
        head = heads.create(kind, model.spec.channels, n_classification + n_regression)
        params = _stack([supervised.initial(model, run.mode, head, run.seed)[0] for run in chosen])
        groups, rates = supervised.rate_groups_of(model.spec, chosen[0].mode, 1.0, 1.0)
        labels, _ = optimiser.rate_groups(jax.tree.map(lambda leaf: leaf[0], params), groups, rates)
        moments = jax.vmap(optimiser.adamw(labels, rates, 0.0).init)(params)
        states.append(BucketState(params, moments, jax.tree.map(jnp.copy, params)))
        buckets.append(_Bucket(head, n_classification, n_regression, labels, np.array(places, np.int32)))
        different = list({id(run.targets): run.targets for run in chosen}.values())
        which = [next(i for i, targets in enumerate(different) if targets is run.targets) for run in chosen]
        each = {
            "rate": np.array([run.learning_rate for run in chosen], np.float32),
            "decay": np.array([run.weight_decay for run in chosen], np.float32),
            "task": np.array(which, np.int32),
        }
        own.append({"run": jax.device_put(each), "targets": jnp.stack([jnp.asarray(t) for t in different])})
    return buckets, states, own


def _step_one(
    bucket: _Bucket,
    targets: Array,
    params: dict[str, Any],
    moments: optax.OptState,
    run: dict[str, Array],
    features: Features,
    record: Array,
) -> tuple[dict[str, Any], optax.OptState, Array]:
    """One head's step, as `ecgjax.training.supervised` does it."""
    updates = optimiser.adamw(bucket.labels, {"head": run["rate"]}, run["decay"])
    loss_of: Callable[[Array, Array], Array] = supervised.make_loss(bucket.n_regression)

    def loss(params: dict[str, Any]) -> Array:
        return loss_of(bucket.head.apply(params["head"], features), targets[run["task"], record])

    value, gradients = jax.value_and_grad(loss)(params)
    change, moments = updates.update(gradients, moments, params)
    return optax.apply_updates(params, change), moments, value


def _chosen(better: Array, new: Array, old: Array) -> Array:
    return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
