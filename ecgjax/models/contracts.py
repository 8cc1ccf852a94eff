"""Input contracts: from canonical leads in mV to what a model is fed, as pure functions on the device.

A contract is data on `ModelSpec`: rate, seconds, leads in the model's order, and the names of steps applied in turn.
Models that are usually fed otherwise than their authors prescribe have two, "benchmark" and "authors".

Filters are exact: a zero-phase IIR filter (scipy's `filtfilt`, odd extension and initial states included) is two causal
convolutions with the filter's impulse response, which is computed on the host in float64; run as recursions in float32,
filters with poles this near to 1 would be noise.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import signal

from ecgjax.data.leads import CANONICAL
from ecgjax.errors import UserError
from ecgjax.models import arguments as check
from ecgjax.models.long_convolution import long_convolution
from ecgjax.models.median_filter import median_filter

Array = jax.Array
Step = Callable[[Array, float], Array]

MIMIC_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
"""Lead order of MIMIC-IV-ECG, which models pretrained on it keep: aVF before aVL."""


class Contract(NamedTuple):
    """What a model is fed.

    Attributes:
        sampling_rate: Hz.
        seconds: window.
        leads: canonical names, in the model's order.
        steps: names out of `STEPS`, applied in turn to (batch, samples, leads) in mV.
    """

    sampling_rate: float
    seconds: float
    leads: tuple[str, ...] = CANONICAL
    steps: tuple[str, ...] = ()


def choose(model: str, contracts: Mapping[str, Contract], name: str, seconds: float | None = None) -> Contract:
    """A model's contract by name.

    Args:
        model: registry name, for messages.
        contracts: the model's.
        name: of the contract wanted.
        seconds: window; None: the contract's own.

    Raises:
        UserError: there is no such contract, or the window has no sample.
    """
    check.one_of(model, "contract", name, tuple(contracts))
    contract = contracts[name]
    if seconds is not None:
        contract = contract._replace(seconds=seconds)
    check.window(model, contract.seconds, contract.sampling_rate)
    return contract


def prepare(x: Array, leads: Sequence[str], steps: Sequence[str], sampling_rate: float) -> Array:
    """Carries out a contract.

    Args:
        x: (batch, samples, 12), mV, canonical leads; NaN counts as 0.
        leads: leads to take, in this order.
        steps: names out of `STEPS`.
        sampling_rate: of `x`, Hz.

    Returns:
        (batch, samples, leads).
    """
    x = jnp.where(jnp.isnan(x), jnp.zeros_like(x), x)
    if tuple(leads) != CANONICAL:
        x = jnp.stack([x[..., CANONICAL.index(lead)] for lead in leads], -1)
    for step in steps:
        x = STEPS[step](x, sampling_rate)
    return x


def standardise_record(x: Array, sampling_rate: float, epsilon: float = 1e-8) -> Array:
    """Mean 0 and standard deviation 1 over all leads of a record together."""
    x = x - jnp.mean(x, (1, 2), keepdims=True)
    return x / (jnp.sqrt(jnp.mean(jnp.square(x), (1, 2), keepdims=True)) + epsilon)


def scale_record(x: Array, sampling_rate: float, epsilon: float = 1e-8) -> Array:
    """To [0, 1] by the least and the greatest value over all leads of a record."""
    low, high = jnp.min(x, (1, 2), keepdims=True), jnp.max(x, (1, 2), keepdims=True)
    return (x - low) / (high - low + epsilon)


def remove_median(x: Array, sampling_rate: float, seconds: float = 0.4) -> Array:
    """Subtracts the running median; the window is the first odd number of samples above `seconds`."""
    width = int(seconds * sampling_rate) + 1
    return x - median_filter(x, width + 1 - width % 2)


def zero_phase(x: Array, b: np.ndarray, a: np.ndarray) -> Array:
    """Scipy's `filtfilt(b, a, x, axis=1)` with its defaults.

    Args:
        x: (batch, samples, leads), more samples than three times the number of coefficients.
        b: numerator of the filter.
        a: denominator.
    """
    pad = 3 * max(len(a), len(b))
    if x.shape[1] <= pad:
        raise UserError(f"signal: {x.shape[1]} samples; expected more than the {pad} that its filter needs")
    before = 2 * x[:, :1] - x[:, pad:0:-1]
    after = 2 * x[:, -1:] - x[:, -2 : -pad - 2 : -1]
    x = jnp.concatenate([before, x, after], 1)
    for _ in range(2):
        x = _causal(x, tuple(b), tuple(a))[:, ::-1]
    return x[:, pad:-pad]


def _causal(x: Array, b: tuple[float, ...], a: tuple[float, ...]) -> Array:
    # Started in the steady state of its first sample, a filter does what it does to the signal less that sample from
    # rest, plus the sample times the gain at frequency 0.
    first = x[:, :1]
    response, gain = _response(b, a, x.shape[1])
    taps = jnp.broadcast_to(jnp.asarray(response)[None], (x.shape[-1], x.shape[1]))
    return gain * first + long_convolution(x - first, taps)


@lru_cache(maxsize=32)
def _response(b: tuple[float, ...], a: tuple[float, ...], samples: int) -> tuple[np.ndarray, float]:
    impulse = np.zeros(samples)
    impulse[0] = 1.0
    response = signal.lfilter(b, a, impulse).astype(np.float32)
    response.flags.writeable = False
    return response, float(np.sum(b) / np.sum(a))


def band_pass(x: Array, sampling_rate: float, low: float, high: float, order: int) -> Array:
    """Zero-phase Butterworth band-pass; `low` and `high` in Hz."""
    return zero_phase(x, *signal.butter(order, (low, high), "bandpass", fs=sampling_rate))


def notch(x: Array, sampling_rate: float, frequency: float, quality: float) -> Array:
    """Zero-phase notch at `frequency`, Hz."""
    return zero_phase(x, *signal.iirnotch(frequency, quality, fs=sampling_rate))


def halve_rate(x: Array, sampling_rate: float) -> Array:
    """Half as many samples, by leaving out the upper half of the Fourier transform (scipy's `resample`)."""
    n = x.shape[1]
    if n % 2:
        raise UserError(f"signal: {n} samples; expected an even number to halve the rate")
    half = n // 2
    spectrum = jnp.fft.rfft(x, axis=1)[:, : half // 2 + 1] / 2
    if half % 2 == 0:
        # The new Nyquist frequency holds what was at plus and at minus that frequency.
        spectrum = spectrum.at[:, -1].multiply(2.0)
    return jnp.fft.irfft(spectrum, half, axis=1)


def standardise_leads(x: Array, sampling_rate: float) -> Array:
    """Mean 0 and standard deviation 1 of each lead; constant leads become 0."""
    x = x - x[:, :1]  # makes constant leads exactly 0
    x = x - jnp.mean(x, 1, keepdims=True)
    std = jnp.sqrt(jnp.mean(jnp.square(x), 1, keepdims=True))
    return x / jnp.where(std > 0, std, jnp.ones_like(std))


def scale_leads(x: Array, sampling_rate: float, epsilon: float = 1e-8) -> Array:
    """To [-1, 1] by the least and the greatest value of each lead; constant leads become -1."""
    low, high = jnp.min(x, 1, keepdims=True), jnp.max(x, 1, keepdims=True)
    return 2 * (x - low) / (high - low + epsilon) - 1


def butterworth(x: Array, sampling_rate: float, frequency: float, kind: str, order: int) -> Array:
    """Zero-phase Butterworth filter, `kind` "highpass" or "lowpass"; `frequency` in Hz."""
    return zero_phase(x, *signal.butter(order, frequency, kind, fs=sampling_rate))


def fir_band_pass(x: Array, sampling_rate: float, low: float, high: float, seconds: float = 0.3) -> Array:
    """Zero-phase band-pass of a Hamming window's length, the first odd number of samples from `seconds` on.

    With so few taps nothing is resolved below 1 / `seconds`: at `low` Hz it hardly attenuates.
    """
    taps = int(seconds * sampling_rate)
    taps += 1 - taps % 2
    return zero_phase(x, signal.firwin(taps, (low, high), pass_zero=False, fs=sampling_rate), np.ones(1))


def decimate_joined(x: Array, sampling_rate: float, factor: int = 5) -> Array:
    """Scipy's `decimate` of the leads laid end to end, which rings from one lead into the next."""
    batch, samples, leads = x.shape
    joined = x.swapaxes(1, 2).reshape(batch, -1, 1)
    joined = zero_phase(joined, *signal.cheby1(8, 0.05, 0.8 / factor))[:, ::factor]
    return joined.reshape(batch, leads, samples // factor).swapaxes(1, 2)


STEPS: dict[str, Step] = {
    "notch 50 Hz, Q 30": partial(notch, frequency=50.0, quality=30.0),
    "band-pass 0.67-40 Hz, order 4": partial(band_pass, low=0.67, high=40.0, order=4),
    "less running median of 0.4 s": remove_median,
    "high-pass 0.67 Hz, order 5": partial(butterworth, frequency=0.67, kind="highpass", order=5),
    "low-pass 40 Hz, order 5": partial(butterworth, frequency=40.0, kind="lowpass", order=5),
    "FIR band-pass 0.05-47 Hz of 0.3 s": partial(fir_band_pass, low=0.05, high=47.0),
    "halve the rate by Fourier transform": halve_rate,
    "decimate the joined leads by 5": decimate_joined,
    "standardise each lead": standardise_leads,
    "scale each lead to [-1, 1]": scale_leads,
    "standardise over the record": standardise_record,
    "scale to [0, 1] over the record": scale_record,
}
"""Name -> (signals, sampling rate) -> signals."""
