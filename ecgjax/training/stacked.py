"""Several runs that train encoders of one shape, as one program: stacked along a first axis, spread over the devices.

Each run keeps all that it has alone: weights, running statistics, Adam's moments, dropout key, rates, weight decay,
batches and targets. The axis is divided over the mesh axis "runs" by `shard_map`, so that no device hears of another's
runs; what is left of the devices shares each run's batches ("data"), where XLA puts the sums over the batch together.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from numpy.typing import NDArray

from ecgjax.data.batch_plans import BatchPlan
from ecgjax.data.batches import iterate
from ecgjax.data.cutter import Cutter, Item
from ecgjax.data.stacked_plan import StackedPlan
from ecgjax.data.store import Store
from ecgjax.models import heads
from ecgjax.models.model import Model
from ecgjax.training import optimiser, supervised
from ecgjax.training.mesh import DATA, RUNS, sharded
from ecgjax.training.supervised import Mode, TrainState
from ecgjax.training.together import Together

Form = Literal["vmap", "map", "unrolled"]


class Run(NamedTuple):
    """What one run has of its own.

    Attributes:
        model: its weights; the encoders of all runs are the same.
        learning_rate: see `ecgjax.training.supervised.build`.
        rate_factor: likewise.
        weight_decay: likewise.
        seed: likewise.
        targets: (records of the store, outputs) float32.
    """

    model: Model
    learning_rate: float
    rate_factor: float
    weight_decay: float
    seed: int
    targets: NDArray[np.float32]


class State(NamedTuple):
    """The runs' states, every leaf with a first axis of slots; slots beyond the runs hold copies of the last one.

    Attributes:
        current: as of one run.
        best: {"params", "rest"} of each run's best epoch so far.
    """

    current: TrainState
    best: dict[str, Any]


def slots_of(runs: int, mesh: Mesh) -> int:
    """Runs, and the copies that fill the mesh."""
    rows = mesh.shape[RUNS]
    return -(-runs // rows) * rows


def batches(store: Store, plans: Sequence[BatchPlan], cutter: Cutter, mesh: Mesh) -> grain.DatasetIterator:
    """The runs' batches, stacked and on their devices."""
    plan = StackedPlan(plans, slots_of(len(plans), mesh))
    return iterate(store, plan, cutter, None if mesh.size == 1 else sharded(mesh, RUNS, DATA))


def evaluation_sharding(mesh: Mesh) -> NamedSharding | None:
    """Of the batches that `Together.predict` takes, for `evaluation_iterator`; None where there is one device."""
    return None if mesh.size == 1 else sharded(mesh, DATA)


def build(
    runs: Sequence[Run],
    mode: Mode,
    *,
    n_classification: int,
    n_regression: int,
    mesh: Mesh,
    paper_groups: bool = False,
    form: Form | None = None,
) -> Together:
    """Stacks runs and compiles their functions.

    Args:
        runs: of one encoder.
        mode: one that trains the encoder.
        n_classification: see `ecgjax.training.supervised.build`.
        n_regression: likewise.
        mesh: from `ecgjax.training.mesh.make_mesh` for as many runs.
        paper_groups: as there.
        form: of several runs on one device; None: what suits its platform, see `form_of`.
    """
    encoder = runs[0].model.encoder
    head = heads.create(mode.head, encoder.spec.channels, n_classification + n_regression)
    slots = slots_of(len(runs), mesh)
    form = form or form_of(mesh.devices.flat[0].platform)
    filled = [*runs, *[runs[-1]] * (slots - len(runs))]

    started = [supervised.initial(run.model, mode, head, run.seed) for run in filled]
    by_run = [
        supervised.rate_groups_of(encoder.spec, mode, run.learning_rate, run.rate_factor, paper_groups)
        for run in filled
    ]
    labels, _ = optimiser.rate_groups(started[0][0], *by_run[0])
    names = list(by_run[0][1])
    rates = {name: np.array([rates[name] for _, rates in by_run], np.float32) for name in names}
    # Runs on the same targets share one copy.
    different = list({id(run.targets): run.targets for run in runs}.values())
    which = [next(i for i, targets in enumerate(different) if targets is run.targets) for run in filled]
    own = {
        "rates": rates,
        "decay": np.array([run.weight_decay for run in filled], np.float32),
        "targets": np.array(which, np.int32),
    }
    own = jax.device_put(own, sharded(mesh, RUNS))
    targets = jax.device_put(np.stack(different), sharded(mesh))

    def step_one(state: TrainState, own: dict[str, Any], item: Item, cutter: Cutter, targets: Array) -> Any:
        updates = optimiser.adamw(labels, own["rates"], own["decay"])
        step = supervised.training_step(encoder, head, supervised.make_loss(n_regression), updates)
        mine = jax.lax.dynamic_index_in_dim(targets, own["targets"], keepdims=False)
        return step(state, {}, cutter, item, mine)

    def predict_one(best: dict[str, Any], item: Item, cutter: Cutter) -> Any:
        features, _ = encoder.apply({"params": best["params"]["encoder"], **best["rest"]}, cutter(item))
        return supervised.scores_of(head.apply(best["params"]["head"], features), n_classification)

    spread = partial(jax.shard_map, mesh=mesh, axis_names={RUNS}, check_vma=False)
    step_all = spread(_over(step_one, 3, form), in_specs=(P(RUNS), P(RUNS), P(RUNS), P(), P()), out_specs=P(RUNS))
    predict_all = spread(_over(predict_one, 1, form), in_specs=(P(RUNS), P(), P()), out_specs=P(RUNS))

    @partial(jax.jit, donate_argnums=0)
    def step(state: State, own: Any, item: Item, cutter: Cutter, targets: Array) -> tuple[State, Array]:
        current, losses = step_all(state.current, own, item, cutter, targets)
        return State(current, state.best), losses[: len(runs)]

    @jax.jit
    def predict(chosen: dict[str, Any], item: Item, cutter: Cutter) -> list[tuple[Array, Array]]:
        scores, finite = predict_all(chosen, item, cutter)
        return [(scores[i], finite[i]) for i in range(len(runs))]

    @partial(jax.jit, donate_argnums=0)
    def keep(state: State, improved: Array) -> State:
        def chosen(new: Array, old: Array) -> Array:
            return jnp.where(improved.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        return State(state.current, jax.tree.map(chosen, _parts(state.current), state.best))

    def keep_runs(state: State, improved: NDArray[np.bool_]) -> State:
        filled = np.concatenate([improved, np.repeat(improved[-1:], slots - len(runs))])
        return keep(state, jax.device_put(filled, sharded(mesh, RUNS)))

    def one(state: State, run: int) -> dict[str, Any]:
        return jax.tree.map(lambda leaf: np.asarray(leaf)[run].copy(), state.best)

    updates = optimiser.adamw(labels, dict.fromkeys(names, 0.0), 0.0)
    states = [
        TrainState(jnp.zeros((), jnp.int32), params, rest, updates.init(params), key) for params, rest, key in started
    ]
    place = partial(jax.device_put, device=sharded(mesh, RUNS))
    return Together(
        State(place(_stack(states)), place(_stack([_parts(state) for state in states]))),
        lambda state, cutter, item: step(state, own, item, cutter, targets),
        lambda state, cutter, item, best: predict(state.best if best else _parts(state.current), item, cutter),
        keep_runs,
        one,
    )


def _parts(state: TrainState) -> dict[str, Any]:
    """What predictions take."""
    return {"params": state.params, "rest": state.rest}


def form_of(platform: str) -> Form:
    """How several runs are computed on one device.

    On a CPU one after the other in a loop: there `jax.vmap` makes grouped convolutions of a stack's, which are slow.
    Processor time of a step of 4 runs of batch 16, by `jax.vmap`, loop, written out, and as 4 programs: S4 of width 128
    with 2 layers 423, 263, 397 and 363 ms; ECG-CPC of width 32 with 1 layer 106, 90, 97 and 58 ms. Written out compiles
    as often as there are runs. On accelerators `jax.vmap` fills the device, which is what stacking is for; no figure
    was taken there.
    """
    return "map" if platform == "cpu" else "vmap"


def _over(function: Callable[..., Any], stacked: int, form: Form) -> Callable[..., Any]:
    """A function of one run as one of a device's runs: its first `stacked` arguments and its results have their axis.

    A single run is not mapped: under `jax.vmap` its convolutions would become grouped ones.
    """

    def over(*arguments: Any) -> Any:
        own, shared = arguments[:stacked], arguments[stacked:]
        size = jax.tree.leaves(own[0])[0].shape[0]
        alone = lambda own: function(*own, *shared)  # noqa: E731
        if size > 1 and form == "vmap":
            return jax.vmap(alone)(own)
        if size > 1 and form == "map":
            return jax.lax.map(alone, own)
        results = [alone(jax.tree.map(lambda leaf, i=i: leaf[i], own)) for i in range(size)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

    return over


def _stack(trees: Sequence[Any]) -> Any:
    """On the host, key arrays aside."""

    def stack(*leaves: Array) -> Any:
        is_key = jax.dtypes.issubdtype(leaves[0].dtype, jax.dtypes.prng_key)
        return jnp.stack(leaves) if is_key else np.stack([np.asarray(leaf) for leaf in leaves])

    return jax.tree.map(stack, *trees)
