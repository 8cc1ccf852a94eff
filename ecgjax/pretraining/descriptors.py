"""Sixteen figures in time and frequency of a stretch of signal: what the first cluster targets are made of.

HuBERT-ECG's first iteration clusters 16 time and frequency statistics of each token's 64 samples (Coppola et al. 2024,
medRxiv 2024.11.14.24317328). Which ones is not stated with the weights; these are eight of each kind, chosen here.
"""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.errors import UserError

BANDS = 8
LEAST_SAMPLES = 2 * BANDS + 1


def describe(x: jax.Array) -> jax.Array:
    """Figures of stretches of signal.

    Args:
        x: (..., samples) mV, at least `LEAST_SAMPLES`.

    Returns:
        (..., 16) float32: mean, standard deviation, least, greatest, first and last value, mean absolute step, share of
        steps over the mean; then the logarithm of the mean power (mV^2, plus 1e-6) in eight bands of about equally many
        Fourier frequencies from the first above 0 up to half the sampling rate.

    Raises:
        UserError: too few samples for the bands.
    """
    samples = x.shape[-1]
    if samples < LEAST_SAMPLES:
        raise UserError(f"patches of {samples} samples; expected at least {LEAST_SAMPLES} to describe them")
    x = x.astype(jnp.float32)
    mean = jnp.mean(x, -1, keepdims=True)
    centred = x - mean
    above = centred > 0
    time = [
        mean[..., 0],
        jnp.sqrt(jnp.mean(centred * centred, -1)),
        jnp.min(x, -1),
        jnp.max(x, -1),
        x[..., 0],
        x[..., -1],
        jnp.mean(jnp.abs(x[..., 1:] - x[..., :-1]), -1),
        jnp.mean((above[..., 1:] != above[..., :-1]).astype(jnp.float32), -1),
    ]
    # As a product with constants: a few dozen samples, and the same on every chip.
    angle = 2 * np.pi * np.outer(np.arange(samples), np.arange(1, samples // 2 + 1)) / samples
    cosine, sine = (jnp.asarray(f(angle), jnp.float32) for f in (np.cos, np.sin))
    power = (jnp.square(centred @ cosine) + jnp.square(centred @ sine)) / samples**2
    edges = np.linspace(0, power.shape[-1], BANDS + 1).round().astype(int)
    bands = [jnp.mean(power[..., a:b], -1) for a, b in pairwise(edges)]
    return jnp.stack([*time, *(jnp.log(band + 1e-6) for band in bands)], -1)
