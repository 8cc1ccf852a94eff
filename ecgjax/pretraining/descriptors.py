"""Hand-made descriptors of short pieces of signal, what HuBERT-ECG clusters before it has features of its own.

Coppola et al. 2024, medRxiv 2024.11.14.24317328: 16 statistics in time and frequency, 39 MFCC values, or the 16 and 13
MFCC. As a piece is one frame, both kinds of differences over time among the 39 are 0 throughout and are not made here.
MFCC are Kaldi's (Povey window, 23 mel bands from 20 Hz, 13 coefficients, lifter 22) with the piece as frame; at 100 Hz
narrow bands hold no frequency of a 64-point transform and are constant.

Shapes: any leading axes, S samples of a piece.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft

from ecgjax.errors import UserError

STATISTICS = (
    "min", "max", "mean", "rms", "variance", "std", "power", "peak", "peak_to_peak", "crest", "skewness", "kurtosis",
    "spectrum_max", "spectrum_sum", "spectrum_mean", "spectrum_variance",
)  # fmt: skip
COEFFICIENTS = 13
_BANDS, _LOWEST, _LIFTER, _PREEMPHASIS = 23, 20.0, 22, 0.97


def pieces(x: jax.Array, samples: int = 64, trim: int = 2) -> jax.Array:
    """HuBERT-ECG's piece of each token: leads end to end, cut up.

    Args:
        x: (batch, time, leads) at the model's rate, scaled as the model's input.
        samples: of a piece, the stride of the encoder: 64 at 100 Hz.
        trim: samples left out at either end of each lead, so that as many pieces as tokens come out: 12 leads of
            500 - 4 are 93 pieces. Pieces so drift from their tokens, by 46 samples in the last lead.

    Returns:
        (batch, pieces, samples).

    Raises:
        UserError: not a whole number of pieces.
    """
    batch, time, leads = x.shape
    kept = time - 2 * trim
    if kept < 1 or kept * leads % samples:
        raise UserError(
            f"{leads} leads of {time} - {2 * trim} samples in pieces of {samples}; expected a whole number of pieces"
        )
    return x[:, trim : time - trim].swapaxes(1, 2).reshape(batch, -1, samples)


def statistics(x: jax.Array) -> jax.Array:
    """The 16 statistics of `STATISTICS`.

    Standard deviation and variance have divisor S, kurtosis is that in excess of a normal distribution's, the spectrum
    is |Fourier transform|^2 / S at all S frequencies, 0 included; so its mean is the power and its sum S times that.

    Args:
        x: (..., S).

    Returns:
        (..., 16), float32 at least. Skewness and kurtosis of a flat piece are 0, and the crest factor of one of zeros
        (in the authors' code not numbers).
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    least, most, mean, power = jnp.min(x, -1), jnp.max(x, -1), jnp.mean(x, -1), jnp.mean(x * x, -1)
    peak, rms = jnp.maximum(jnp.abs(least), jnp.abs(most)), jnp.sqrt(power)
    centred = x - mean[..., None]
    variance = jnp.mean(centred**2, -1)
    varies = variance > jnp.square(x.shape[-1] ** 0.5 * jnp.finfo(x.dtype).eps * peak)
    safe = jnp.where(varies, variance, 1.0)
    skewness = jnp.where(varies, jnp.mean(centred**3, -1) / safe**1.5, 0.0)
    kurtosis = jnp.where(varies, jnp.mean(centred**4, -1) / safe**2 - 3, 0.0)
    crest = peak / jnp.where(rms > 0, rms, 1.0)
    # Both halves of the spectrum are the same: the one-sided transform, with weights.
    spectrum = jnp.square(jnp.abs(jnp.fft.rfft(x))) / x.shape[-1]
    twice = np.full(spectrum.shape[-1], 2.0, np.float32)
    twice[0] = 1
    if x.shape[-1] % 2 == 0:
        twice[-1] = 1
    deviation = jnp.square(spectrum - power[..., None])
    spectrum_variance = jnp.einsum("...f,f->...", deviation, twice, precision="highest") / x.shape[-1]
    moments = (mean, rms, variance, jnp.sqrt(variance), power)
    shape = (peak, most - least, crest, skewness, kurtosis)
    # Parseval: the spectrum's mean is the power.
    spectral = (jnp.max(spectrum, -1), x.shape[-1] * power, power, spectrum_variance)
    return jnp.stack([least, most, *moments, *shape, *spectral], -1)


def mfcc(x: jax.Array, sampling_rate: float) -> jax.Array:
    """Mel-frequency cepstral coefficients 0 ... 12 of the pieces.

    Args:
        x: (..., S), each a frame of its own.
        sampling_rate: Hz, above 40.

    Returns:
        (..., 13), float32 at least.

    Raises:
        UserError: a sampling rate without a band above 20 Hz.
    """
    if sampling_rate <= 2 * _LOWEST:
        raise UserError(f"MFCC at {sampling_rate:g} Hz; expected more than {2 * _LOWEST:g}")
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    samples = x.shape[-1]
    x = x - jnp.mean(x, -1, keepdims=True)
    x = x - _PREEMPHASIS * jnp.concatenate([x[..., :1], x[..., :-1]], -1)
    window = (np.hanning(samples) ** 0.85).astype(x.dtype).reshape((1,) * (x.ndim - 1) + (samples,))
    length = 2 ** math.ceil(math.log2(samples))
    spectrum = jnp.square(jnp.abs(jnp.fft.rfft(x * window, length)))
    bands = jnp.einsum("...f,fb->...b", spectrum, _bands(length, sampling_rate).astype(x.dtype), precision="highest")
    logarithm = jnp.log(jnp.maximum(bands, np.finfo(np.float32).eps))
    index = np.arange(COEFFICIENTS)
    lifter = 1 + _LIFTER / 2 * np.sin(np.pi * index / _LIFTER)
    cosines = scipy.fft.dct(np.eye(_BANDS), norm="ortho")[:, :COEFFICIENTS] * lifter
    return jnp.einsum("...b,bc->...c", logarithm, cosines.astype(x.dtype), precision="highest")


def _bands(length: int, sampling_rate: float) -> np.ndarray:
    """(frequencies, bands): triangles of equal width on the mel scale, none at half the sampling rate."""

    def mel(frequency: np.ndarray | float) -> np.ndarray:
        return 1127 * np.log1p(np.asarray(frequency) / 700)

    edges = np.linspace(mel(_LOWEST), mel(sampling_rate / 2), _BANDS + 2)
    at = mel(np.arange(length // 2 + 1) * sampling_rate / length)[:, None]
    rising, falling = ((at - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - at) / np.diff(edges)[1:])
    weights = np.maximum(np.minimum(rising, falling), 0)
    weights[-1] = 0
    return weights
