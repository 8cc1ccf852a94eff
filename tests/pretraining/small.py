"""Encoders and objectives so small that a test compiles them in seconds."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.models import registry as models
from ecgjax.pretraining import registry
from ecgjax.pretraining.objective import Batch, Mixture, Setup
from ecgjax.pretraining.step import init_params

MODELS: dict[str, dict[str, Any]] = {
    "s4": {"width": 8, "layers": 1, "seconds": 1.2, "dropout": 0.0},
    "ecg_cpc": {"width": 8, "layers": 1, "l_max": 240, "seconds": 2.0, "dropout": 0.0},
    "merl_vit": {"width": 16, "layers": 1, "heads": 2, "seconds": 2.0},
    "st_mem": {"width": 16, "layers": 1, "heads": 2, "seconds": 1.2, "leads": ("I", "V1")},
    "ecg_jepa": {"width": 16, "layers": 1, "heads": 2, "seconds": 2.0, "leads": ("I", "V1")},
    "ecg_fm": {"width": 16, "layers": 2, "heads": 2, "seconds": 2.0, "activation_dropout": 0.0},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "masked_autoencoder": {"width": 8, "layers": 1, "heads": 2},
    "jepa": {"width": 8, "layers": 1, "heads": 2},
    "masked_clusters": {"clusters": 5, "dimensions": 8},
    "wav2vec": {"codes": 4, "dimensions": 8, "projection": 8, "negatives": 5},
}


def make(objective: str, model: str, steps: int = 10, classes: int = 2, **arguments: Any) -> Mixture:
    """An objective for a small model."""
    encoder = models.create(model, **{**MODELS[model], **arguments})
    targets = np.zeros((4, classes), np.float32)
    return registry.create(objective, Setup(encoder, encoder.samples, steps, targets), OPTIONS)


def start(mixture: Mixture, records: int = 3, train: bool = True, fit: bool = True) -> tuple[Any, Any, Batch]:
    """Parameters, memory (fitted or as it was made) and a batch of noise, whose last record has one unknown label."""
    params, rest, memory = init_params(mixture, jax.random.key(0))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((records, mixture.samples * mixture.segments, 12)).astype(np.float32)
    targets = np.array([[1, 0], [0, 0], [1, np.nan]], np.float32)[:records]
    facts = {"targets": jnp.asarray(targets), "patient": jnp.arange(records)}
    batch = Batch(jnp.asarray(x), facts, jnp.ones(records, bool), rest, jax.random.key(1), train)
    return params, mixture.fit(memory, lambda: iter([batch.x])) if fit else memory, batch


def loss_of(mixture: Mixture, memory: Any, batch: Batch) -> Any:
    """params -> mean loss, jitted with its gradient."""
    key = jax.random.key(2) if batch.train else None
    return jax.jit(jax.value_and_grad(lambda params: jnp.mean(mixture.losses(params, memory, batch, key)[0])))


def losses_of(mixture: Mixture, memory: Any, batch: Batch) -> Any:
    """params -> losses of the records and metrics, jitted."""
    return jax.jit(lambda params: mixture.losses(params, memory, batch, None)[:2])


def close(found: Any, expected: Any, relative: float = 1e-4) -> None:
    """Trees agree, each leaf within `relative` of its largest value (1e-6 at least)."""

    def leaf(path: Any, a: Any, b: Any) -> None:
        a, b = np.asarray(a), np.asarray(b)
        assert np.abs(a - b).max() <= relative * np.abs(b).max() + 1e-6, jax.tree_util.keystr(path)

    jax.tree_util.tree_map_with_path(leaf, found, expected)
