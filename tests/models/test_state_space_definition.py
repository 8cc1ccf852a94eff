"""S4 and ECG-CPC whole, at lengths and sizes of no golden case, by their definition: states stepped in complex128."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from ecgjax.models import registry
from ecgjax.models.encoder import Encoder
from ecgjax.models.model import Model
from tests.models.golden import relative

SIZES = [
    # width, layers, state, l_max, samples: shorter than, as long as and beyond l_max; odd and even
    (6, 2, 8, 100, 100),
    (6, 2, 8, 100, 61),
    (10, 1, 4, 33, 150),
    (4, 3, 6, 64, 7),
]


def drawn(encoder: Encoder, seed: int) -> dict[str, Any]:
    """Every parameter and running statistic away from its start, so that none can be left out unnoticed."""
    rng = np.random.default_rng(seed)

    def move(path: Any, leaf: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name.startswith("buffers/"):
            return leaf
        value = leaf + rng.normal(0, 0.3, leaf.shape)
        return jnp.asarray(np.abs(value) + 0.2 if name.endswith("var") else value, jnp.float32)

    return jax.tree_util.tree_map_with_path(move, encoder.init(jax.random.key(seed)))


def s4_layer(u: np.ndarray, params: dict, buffers: dict, l_max: int) -> np.ndarray:
    """One layer of (time, width) by stepping every channel's full state forwards, and another backwards."""
    Lambda, P, B = (_both(buffers[name]) for name in ("Lambda", "P", "B"))
    dt, eye = np.exp(buffers["log_dt"])[:, None, None], np.eye(B.shape[-1])
    half = dt / 2 * (Lambda[..., None] * eye - P[..., None] * P.conj()[:, None])
    A = np.linalg.solve(eye - half, eye + half)
    B = np.linalg.solve(eye - half, dt * B[..., None])[..., 0]
    C = (_both(params["C"])[..., None, :] @ np.linalg.inv(eye - np.linalg.matrix_power(A, l_max)))[..., 0, :]
    out = u * params["D"]
    state = np.zeros_like(B)
    for t in range(len(u)):
        state = (A @ state[..., None])[..., 0] + B * u[t, :, None]
        out[t] += np.sum(C[0] * state, -1).real
    if len(C) == 2:
        state = np.zeros_like(B)
        for t in reversed(range(len(u) - 1)):  # the strict future
            state = (A @ state[..., None])[..., 0] + B * u[t + 1, :, None]
            out[t] += np.sum(C[1] * state, -1).real
    out = out * (1 + erf(out / np.sqrt(2))) / 2
    a, b = np.split(out @ params["output"]["kernel"] + params["output"]["bias"], 2, axis=-1)
    return a / (1 + np.exp(-b))


def _both(pairs: np.ndarray) -> np.ndarray:
    half = pairs[..., 0] + 1j * pairs[..., 1]
    return np.concatenate([half, half.conj()], -1)


def stack(x: np.ndarray, params: dict, buffers: dict, l_max: int) -> np.ndarray:
    for i in range(len(buffers)):
        x = x + s4_layer(x, params[f"layer_{i}"], buffers[f"layer_{i}"], l_max)
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        x = x * params[f"norm_{i}"]["scale"] + params[f"norm_{i}"]["bias"]
    return x


def conv_encoder(x: np.ndarray, params: dict, statistics: dict) -> np.ndarray:
    for i, (taps, stride) in enumerate([(3, 2), (1, 1), (1, 1), (1, 1)]):
        padded = np.pad(x, ((taps // 2, taps // 2), (0, 0)))
        starts = range(0, len(padded) - taps + 1, stride)
        x = np.stack([np.einsum("ki,kio->o", padded[t : t + taps], params[f"conv_{i}"]["kernel"]) for t in starts])
        norm, found = params[f"norm_{i}"], statistics[f"norm_{i}"]
        x = (x - found["mean"]) / np.sqrt(found["var"] + 1e-5) * norm["scale"] + norm["bias"]
        x = np.maximum(x, 0)
    return x


def defined(name: str, variables: dict, x: np.ndarray, l_max: int) -> np.ndarray:
    """Sequence features of (time, 12)."""
    v = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables)
    params = v["params"]
    if name == "s4":
        x = x @ params["projection"]["kernel"][0] + params["projection"]["bias"]
        return stack(x, params["stack"], v["buffers"]["stack"], l_max)
    x = conv_encoder(x, params["encoder"], v["batch_stats"]["encoder"])
    return stack(x, params["predictor"], v["buffers"]["predictor"], l_max)


@pytest.mark.parametrize("name", ["s4", "ecg_cpc"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_features_and_input_gradient(name: str, size: tuple[int, ...]) -> None:
    width, layers, state_size, l_max, samples = size
    seed = sum(size)
    encoder = registry.create(name, width=width, layers=layers, state_size=state_size, l_max=l_max)
    variables = drawn(encoder, seed)
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, samples, 12))
    expected = np.stack([defined(name, variables, record, l_max) for record in x])
    found = Model(encoder, variables).features(x.astype(np.float32))
    assert relative(found.sequence, expected) < 2e-5
    assert relative(found.pooled, expected.mean(1)) < 2e-5

    # The gradient along a direction is the difference quotient of the definition.
    weights, direction = rng.normal(size=expected[0].shape), rng.normal(size=x[0].shape)

    def target(record: jax.Array) -> jax.Array:
        return jnp.sum(encoder.apply(variables, record[None])[0].sequence[0] * jnp.asarray(weights, jnp.float32))

    gradient = np.asarray(jax.jit(jax.grad(target))(jnp.asarray(x[0], jnp.float32)), np.float64)
    step = 1e-6
    ahead, behind = (np.sum(defined(name, variables, x[0] + s * direction, l_max) * weights) for s in (step, -step))
    size_of_terms = np.linalg.norm(gradient) * np.linalg.norm(direction)
    assert abs(np.sum(gradient * direction) - (ahead - behind) / (2 * step)) < 1e-4 * size_of_terms
