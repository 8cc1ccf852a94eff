"""Masked cluster prediction: the cluster of what is masked must be told from what is not, as HuBERT-ECG.

Coppola et al. 2024, medRxiv 2024.11.14.24317328; Hsu et al. 2021, arXiv:2106.07447. Before the first step, k-means runs
on descriptions of a sample of the training patches. First iteration: 16 statistics of each lead (`descriptors`). Later
ones: what an earlier run's encoder says of the patch (`teacher`, `layer`), with more clusters, e.g. 500.

Differences from the authors' code: descriptions are standardised before they are brought to length 1, and both are done
when labels are assigned, too (theirs does the latter for the fit only); k-means is not of mini-batches; the number of
masked patches is drawn per row; patches last about `seconds` whatever the encoder, see `patch_grid`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from ecgjax.errors import UserError
from ecgjax.models.encoder import Encoder, Features
from ecgjax.models.model import Model, load_model
from ecgjax.models.tokens import Edit
from ecgjax.models.weights import load_card
from ecgjax.pretraining import cosine, descriptors, k_means, masked_prediction, masks, patch_grid
from ecgjax.pretraining.objective import Batch, Objective, Setup, View, context, require
from ecgjax.pretraining.patch_grid import PatchGrid

Array = jax.Array

OPTIONS: dict[str, Any] = {
    "clusters": 100,  # of k-means
    "seconds": 0.3,  # that a patch lasts about; HuBERT-ECG's tokens last 0.64
    "share": 0.33,  # of the patches that are masked; the published one
    "alpha": 1.0,  # weight of the masked patches' loss; the others' is 1 - alpha
    "dimensions": 256,  # of the projection and the codebook
    "fit_patches": 20_000,  # patches that k-means is fitted to, at most
    "teacher": "",  # work directory of an earlier run, or weights of the same model: a later iteration
    "layer": "",  # tap of the teacher whose values are clustered; "": the context network's output
}

LEAST_SAMPLES = 16
"""That a patch must have for its statistics to say something."""

Describe = Callable[[Any, Array], Array]


def check(encoder: Encoder) -> None:
    """Refuses encoders whose tokens cannot be masked.

    Raises:
        UserError: with the reason.
    """
    require("masked_clusters", encoder, tokens=True)


def create(setup: Setup, options: Mapping[str, Any]) -> Objective:
    """The objective.

    Raises:
        UserError: an option has a value it cannot have, or the teacher does not fit.
    """
    encoder, clusters, share = setup.encoder, options["clusters"], options["share"]
    if clusters < 2 or not 0 < share < 1 or not 0 <= options["alpha"] <= 1 or options["dimensions"] < 1:
        raise UserError(
            "objective masked_clusters: expected 2 or more clusters, dimensions, a share between 0 and 1 and alpha up "
            f"to 1; found {clusters}, {options['dimensions']}, {share:g} and {options['alpha']:g}"
        )
    grid = patch_grid.create(encoder, setup.samples, options["seconds"], least=4)
    describe, size, teacher = _described(grid, setup, options)

    def init(key: Array, params: Any) -> tuple[Any, Any]:
        head = init_head(key, encoder.spec.channels, options["dimensions"], clusters)
        memory = {"mean": jnp.zeros(size), "scale": jnp.ones(size), "centres": jnp.zeros((clusters, size))}
        return head, {**memory, "teacher": teacher} if teacher else memory

    def view(head: Any, memory: Any, x: Array, key: Array) -> View:
        mask = masks.span_mask(key, (len(x), grid.rows, grid.patches), share, 1)
        return View(x, Edit(grid.spread(mask), head["mask_vector"]), mask)

    def losses(head: Any, memory: Any, features: Features, view: View, batch: Batch) -> tuple[Array, dict[str, Array]]:
        labels = assign(memory, jax.lax.stop_gradient(describe(memory, batch.x)))
        said = jnp.mean(grid.by_patch(context(features)), 3)  # (B, R, P, C)
        projected = said.reshape(len(said), -1, said.shape[-1]) @ head["kernel"] + head["bias"][None, None]
        logits = masked_prediction.logits(projected, head["codebook"])
        mask = view.about.reshape(len(said), -1)
        values, accuracy = masked_prediction.record_losses(logits, labels, mask, options["alpha"])
        return values, {"accuracy": accuracy}

    def fit(memory: Any, crops: Callable[[], Any]) -> Any:
        return memory | fit_clusters(jax.jit(lambda x: describe(memory, x)), crops(), clusters, options["fit_patches"])

    return Objective("masked_clusters", ("accuracy",), init, losses, view, fit=fit)


def init_head(key: Array, channels: int, dimensions: int, clusters: int) -> dict[str, Array]:
    """Mask vector uniform on [0, 1) and projection of standard deviation 0.02, as the authors'; codebook normal."""
    vector, kernel, codebook = jax.random.split(key, 3)
    return {
        "mask_vector": jax.random.uniform(vector, (channels,)),
        "kernel": 0.02 * jax.random.normal(kernel, (channels, dimensions)),
        "bias": jnp.zeros(dimensions),
        "codebook": masked_prediction.init_codebook(codebook, clusters, dimensions),
    }


def fit_clusters(describe: Callable[[Array], Array], crops: Any, clusters: int, most: int) -> dict[str, Array]:
    """k-means of descriptions.

    Args:
        describe: crops (B, S, 12) -> (B, patches, D).
        crops: batches of them; as many are read as `most` needs.
        clusters: K.
        most: descriptions, at most; never fewer than one batch's.

    Returns:
        "mean" and "scale" (D,) of the descriptions and "centres" (K, D) of the standardised ones of length 1.

    Raises:
        UserError: fewer patches than clusters.
    """
    rows: list[np.ndarray] = []
    for x in crops:
        found = np.asarray(multihost_utils.process_allgather(describe(x), tiled=True))
        rows.append(found.reshape(-1, found.shape[-1]))
        if sum(map(len, rows)) >= most:
            break
    described = np.concatenate(rows)[: max(most, clusters)]
    scale = described.std(0)
    memory = {"mean": jnp.asarray(described.mean(0)), "scale": jnp.asarray(np.where(scale > 1e-6, scale, 1.0))}
    if len(described) < clusters:
        raise UserError(
            f"objective masked_clusters: {clusters} clusters of {len(described)} patches; expected fewer clusters"
        )
    centres = k_means.fit(jax.random.key(0), standardised(memory, jnp.asarray(described)), clusters).centres
    return {**memory, "centres": centres}


def standardised(memory: Mapping[str, Array], described: Array) -> Array:
    """Descriptions (..., D) with mean 0 and variance 1 over those that were fitted, then each with length 1."""
    row = (1,) * (described.ndim - 1) + (-1,)
    return cosine.unit((described - memory["mean"].reshape(row)) / memory["scale"].reshape(row))


def assign(memory: Mapping[str, Array], described: Array) -> Array:
    """The cluster of each description: (B, patches, D) -> (B, patches) int32."""
    rows = standardised(memory, described).reshape(-1, described.shape[-1])
    # All distances at once: a batch has a few thousand patches, and its records lie on several devices.
    distances = jnp.sum(jnp.square(memory["centres"]), -1)[None] - 2 * rows @ memory["centres"].T
    return jnp.argmin(distances, -1).astype(jnp.int32).reshape(described.shape[:-1])


def _described(grid: PatchGrid, setup: Setup, options: Mapping[str, Any]) -> tuple[Describe, int, Any]:
    """(memory, x) -> (B, R * P, D), D, and the teacher's variables if there is one."""
    if not options["teacher"]:
        if options["layer"]:
            raise UserError("objective masked_clusters: layer without teacher; expected the run whose layer it is")
        if grid.samples < LEAST_SAMPLES:
            raise UserError(
                f"objective masked_clusters: patches of {grid.samples} samples; expected at least "
                f"{LEAST_SAMPLES}: a longer config.options.masked_clusters.seconds"
            )

        def from_signal(memory: Any, x: Array) -> Array:
            found = descriptors.statistics(grid.signals(x))  # (B, R, P, leads, 16)
            return found.reshape(len(found), grid.rows * grid.patches, -1)

        return from_signal, grid.values * len(descriptors.STATISTICS), None
    teacher = _load(options["teacher"], setup.encoder)

    def read(variables: Any, x: Array) -> Array:
        features, _ = teacher.encoder.apply(variables, x, edit=Edit())
        return features.taps[options["layer"]] if options["layer"] else context(features)

    def from_teacher(memory: Any, x: Array) -> Array:
        found = jnp.mean(grid.by_patch(read(memory["teacher"], x)), 3)
        return found.reshape(len(found), grid.rows * grid.patches, -1)

    x = jax.ShapeDtypeStruct((1, setup.samples, 12), jnp.float32)
    taps = jax.eval_shape(lambda v, x: teacher.encoder.apply(v, x, edit=Edit())[0].taps, teacher.variables, x)
    fitting = [name for name, tap in taps.items() if tap.ndim == 3 and tap.shape[1] == grid.rows * grid.columns]
    if options["layer"] and options["layer"] not in fitting:
        raise UserError(
            f"objective masked_clusters: layer is {options['layer']!r}; expected one of {', '.join(fitting)}"
        )
    size = taps[options["layer"]].shape[-1] if options["layer"] else teacher.spec.channels
    return from_teacher, size, dict(teacher.variables)


def _load(directory: str, encoder: Encoder) -> Model:
    """The teacher, which must have the encoder's tokens."""
    name = load_card(Path(directory))["model"]
    teacher = load_model(name, directory)
    same = name == encoder.spec.name and teacher.encoder.spec.leads == encoder.spec.leads
    if not same or teacher.spec.sampling_rate != encoder.spec.sampling_rate:
        raise UserError(f"objective masked_clusters: {directory} holds a {name}; expected a {encoder.spec.name} alike")
    return teacher
