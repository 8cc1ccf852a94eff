"""The Python surface: load a model, compute features of a batch, embed a recording."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from ecgjax.errors import UserError
from ecgjax.models import registry
from ecgjax.models import weights as weights_io
from ecgjax.models.encoder import CANONICAL_LEADS, Encoder, Features, ModelSpec, Variables
from ecgjax.models.forward import Forward

# Arguments that say how a model is used, not what its weights mean.
RUN_ARGUMENTS = (
    "activation_dropout",
    "attention_dropout",
    "contract",
    "dropout",
    "dtype",
    "layerdrop",
    "leads",
    "seconds",
    "train_extractor",
)


class Model:
    """An encoder with its variables.

    Attributes:
        encoder: the pure functions.
        variables: the weights.
    """

    def __init__(self, encoder: Encoder, variables: Variables) -> None:
        self.encoder = encoder
        self.variables = variables
        self._features = Forward(lambda variables, x: encoder.apply(variables, x)[0])

    @property
    def spec(self) -> ModelSpec:
        """Sampling rate (Hz), seconds, leads, channels ..."""
        return self.encoder.spec

    def features(self, x: Any) -> Features:
        """Features in evaluation mode; compiled once per shape.

        Args:
            x: (batch, samples, 12) in mV, canonical leads, at `spec.sampling_rate`; NaN counts as 0. The model's own
                lead choice and scaling happen inside.

        Raises:
            UserError: another shape.
        """
        if np.ndim(x) != 3 or np.shape(x)[-1] != len(CANONICAL_LEADS) or 0 in np.shape(x):
            raise UserError(
                f"model {self.spec.name}: signals have shape {np.shape(x)}; expected (batch, samples, 12) with the "
                f"leads {', '.join(CANONICAL_LEADS)} in the last axis"
            )
        return self._features(self.variables, jnp.asarray(x, jnp.float32))

    def rounded(self, dtype: str) -> "Model":
        """The same weights; features in evaluation are rounded to "bfloat16", or as they are ("float32").

        Raises:
            UserError: another dtype.
        """
        if dtype not in ("float32", "bfloat16"):
            raise UserError(f"features of dtype {dtype!r}; expected float32 or bfloat16")
        return Model(replace(self.encoder, features=dtype), self.variables)

    def rematerialised(self, active: bool = True) -> "Model":
        """The same weights; training computes the insides of blocks again (`ecgjax.models.rematerialisation`)."""
        return Model(replace(self.encoder, remat=active), self.variables)


def load_model(name: str, weights: str | Path | None = None, seed: int = 0, **arguments: Any) -> Model:
    """Builds a model and fills its weights.

    Args:
        name: one of `ecgjax.models.names()`.
        weights: folder of ecgjax weights or a run's work directory; None: random initialisation.
        seed: of the random initialisation.
        **arguments: of the model (width, layers ...); with `weights` they come from there.

    Raises:
        UserError: unknown name or argument, weights of another model, or weights that do not fit.
    """
    if weights is None:
        encoder = registry.create(name, **arguments)
        return Model(encoder, encoder.init(jax.random.key(seed)))
    if name not in registry.names():
        registry.create(name)
    directory = Path(weights)
    card = weights_io.load_card(directory)
    if card["model"] != name:
        raise UserError(f"{directory}: weights of {card['model']!r}; expected weights of {name!r}")
    _, stored, variables = weights_io.load_weights(directory, partial(jax.device_put, may_alias=True))
    for key, value in arguments.items():
        if key not in RUN_ARGUMENTS and key in stored and stored[key] != value:
            raise UserError(f"{directory}: weights have {key}={stored[key]!r}, not {value!r}; leave {key} out")
    encoder = registry.create(name, **{**stored, **arguments})
    _check_shapes(directory, encoder, variables)
    return Model(encoder, variables)


def _check_shapes(directory: Path, encoder: Encoder, variables: Variables) -> None:
    expected = {key: value.shape for key, value in flatten_dict(encoder.shapes(), sep="/").items()}
    found = {key: value.shape for key, value in flatten_dict(variables, sep="/").items()}
    for key in sorted(expected.keys() | found.keys()):
        if expected.get(key) != found.get(key):
            raise UserError(
                f"{directory}: weights do not fit {encoder.spec.name}: {key} is {found.get(key, 'missing')}; "
                f"expected {expected.get(key, 'nothing of that name')}"
            )


class Embedding(NamedTuple):
    """What `embed` returns.

    Attributes:
        pooled: (channels,) mean over the crops.
        crops: (crops, channels) pooled features of each crop.
        starts: (crops,) first sample of each crop at the recording's own rate.
    """

    pooled: np.ndarray
    crops: np.ndarray
    starts: np.ndarray


def embed(
    signal: Any, sampling_rate: float, lead_names: Sequence[str], model: Model, batch_size: int = 32
) -> Embedding:
    """Embeds one recording of any rate, lead order and length.

    As in the benchmark, windows of `model.spec.seconds` are cut one after the other at the recording's own rate, each
    is resampled to the model's rate, and their features are averaged.

    Args:
        signal: (samples, leads) in mV.
        sampling_rate: of the signal, Hz.
        lead_names: names of the leads; missing limb leads are derived where two others determine them.
        model: from `load_model`.
        batch_size: crops per forward pass.

    Raises:
        UserError: leads, rate or shape are wrong, or the recording is shorter than one window.
    """
    from ecgjax.data import crops, leads, resampling

    spec = model.spec
    signal = np.asarray(signal, np.float32)
    if signal.ndim != 2 or signal.shape[1] != len(lead_names):
        raise UserError(f"signal: shape {signal.shape} with {len(lead_names)} lead names; expected (samples, leads)")
    if not (np.isfinite(sampling_rate) and sampling_rate > 0):
        raise UserError(f"signal: sampling rate is {sampling_rate!r}; expected a positive number in Hz")
    signal, _, missing = leads.to_canonical(signal, lead_names, source="signal")
    absent = [lead for lead in missing if lead in spec.leads]
    if absent:
        raise UserError(f"signal: no lead {', '.join(absent)}; model {spec.name} needs {', '.join(spec.leads)}")
    window = crops.window_samples(spec.seconds, sampling_rate)
    _, starts = crops.evaluation_windows(np.array([len(signal)]), window)
    if len(starts) == 0:
        raise UserError(
            f"signal: {len(signal) / sampling_rate:g} s; expected at least the {spec.seconds:g} s window of {spec.name}"
        )
    cut = np.stack([signal[start : start + window] for start in starts])
    resample = jax.jit(partial(resampling.resample, rate_in=sampling_rate, rate_out=spec.sampling_rate))
    size = min(batch_size, len(cut))
    pooled = []
    for first in range(0, len(cut), size):
        batch = cut[first : first + size]
        # The last batch is filled up, so that there is one compiled shape.
        full = np.concatenate([batch, np.zeros((size - len(batch), *batch.shape[1:]), np.float32)])
        pooled.append(np.asarray(model.features(resample(full)).pooled)[: len(batch)])
    features = np.concatenate(pooled)
    return Embedding(features.mean(0), features, np.asarray(starts))
