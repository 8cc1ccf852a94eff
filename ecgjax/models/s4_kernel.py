"""Mathematics of the S4 layer: HiPPO-LegS, its convolution kernel by a Cauchy sum, and the convolution. No Flax here.

Gu, Goel, Re: Efficiently Modeling Long Sequences with Structured State Spaces (2022), arXiv:2111.00396.

Per channel: state x' = A x + B u, y = C x with A = diag(Lambda) - P Q^T, Q = conj(P), on a conjugate-symmetric state:
each vector is [v, conj v] and only its first half, N numbers, is kept. The bilinear rule with step dt gives

    Abar = (I - dt/2 A)^-1 (I + dt/2 A),   Bbar = (I - dt/2 A)^-1 dt B,   k_j = C Abar^j Bbar.

What is trained and stored is Ct = C (I - Abar^l) for one length l ("l_max"): the truncated generating function of k at
the l-th roots of unity is then a Cauchy sum. Complex numbers are stored as (real, imaginary) in the last axis,
because that is what AdamW of the reference acts on, element by element.

Differences from the authors' code: the Fourier nodes are exact and the Nyquist bin is its limit (theirs divides by a
rounding error); odd l works; a kernel longer than l is a pure function of Ct (theirs changes the parameter in place).

Shape suffixes: H channels, N stored modes, M kernels, F frequencies, L taps.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.models import fourier_products

Array = jax.Array

_EXACT = jax.lax.Precision.HIGHEST


class System(NamedTuple):
    """The part of the state space that is never trained.

    Attributes:
        log_dt: (H,) logarithm of the step.
        Lambda: (H, N, 2) diagonal.
        P: (H, N, 2) rank-one correction.
        B: (H, N, 2) input.
    """

    log_dt: Array
    Lambda: Array
    P: Array
    B: Array


def hippo_legs(state_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """HiPPO-LegS as diagonal plus rank one.

    Args:
        state_size: 2N, even.

    Returns:
        Lambda, P, B: (N,) complex128, the modes with positive imaginary part, fastest first.
    """
    n = np.arange(state_size)
    p, b = np.sqrt(n + 0.5), np.sqrt(2 * n + 1.0)
    a = -np.tril(np.outer(b, b), -1) - np.diag(n + 1.0)
    # A + P P^T = S - I/2 with S skew-symmetric, so i S is Hermitian and its eigenproblem perfectly conditioned.
    values, vectors = np.linalg.eigh(1j * (a + np.outer(p, p) + 0.5 * np.eye(state_size)))
    keep = np.arange(state_size // 2)  # ascending; i S v = m v makes the eigenvalue -i m
    vectors = vectors[:, keep].conj().T
    return -0.5 - 1j * values[keep], vectors @ p, vectors @ b


def to_pairs(x: np.ndarray) -> np.ndarray:
    """Complex numbers as float32 (real, imaginary) in a new last axis."""
    return np.stack([x.real, x.imag], -1).astype(np.float32)


def _complex(x: Array) -> Array:
    return jax.lax.complex(x[..., 0], x[..., 1])


@partial(jax.jit, static_argnums=(2, 3))
def kernel(C: Array, system: System, l_max: int, length: int) -> Array:
    """The convolution kernel.

    Args:
        C: (M, H, N, 2) Ct for `l_max`.
        system: the rest of the state space.
        l_max: the length Ct belongs to.
        length: L, taps wanted; any number. Up to l_max the kernel is cut, beyond it Ct is doubled first.

    Returns:
        (M, H, L) float32.
    """
    if length > l_max:
        C, l_max = lengthen(C, system, l_max, length)
    return jax.lax.platform_dependent(
        spectrum(C, system, l_max),
        tpu=lambda K: fourier_products.inverse(K, l_max, length),  # an FFT takes a TPU's compiler a minute
        default=lambda K: jnp.fft.irfft(K, n=l_max)[..., :length],
    )


def spectrum(C: Array, system: System, l_max: int) -> Array:
    """Discrete Fourier transform of the first `l_max` kernel values.

    With node z = 2i tan(theta) at frequency j, theta = pi j / l, every Cauchy term and its conjugate partner is

        v / (z - w) + conj(v) / (z - conj w) = (2 Re(v) z - 2 Re(v conj w)) / (z^2 - 2 Re(w) z + |w|^2).

    Numerator and denominator are multiplied by cos^2(theta): finite everywhere, so that the Nyquist bin, where z is
    infinite, needs no special case.

    Args:
        C: (M, H, N, 2) Ct for `l_max`.
        system: the rest of the state space.
        l_max: l.

    Returns:
        (M, H, l // 2 + 1) complex64.
    """
    theta = np.pi * np.arange(l_max // 2 + 1) / l_max
    cos, sin = np.cos(theta), np.sin(theta)
    if l_max % 2 == 0:
        cos[-1] = 0.0
    c_F, s_F = jnp.asarray(cos, jnp.float32), jnp.asarray(sin, jnp.float32)
    dt = jnp.exp(system.log_dt)
    w = dt[:, None] * _complex(system.Lambda)
    P, B, C_MHN = _complex(system.P), _complex(system.B), _complex(C)

    # Resolvent 1 / (|w|^2 cos^2 - 4 sin^2 - 4i Re(w) sin cos); the real part as a product loses no digits.
    c, s = c_F[None, None], s_F[None, None]
    r = jnp.abs(w)[..., None]
    real = (r * c - 2 * s) * (r * c + 2 * s)
    imag = -4 * w.real[..., None] * (s * c)
    size = real * real + imag * imag
    real, imag = real / size, -imag / size

    def cauchy(v_HN: Array) -> Array:
        """Sum over modes, divided by cos(theta)."""
        v_HN = dt.reshape((1,) * (v_HN.ndim - 2) + (-1, 1)) * v_HN
        a, b = 2 * v_HN.real, 2 * (v_HN.real * w.real + v_HN.imag * w.imag)
        total: Array | None = None
        for n in range(w.shape[-1]):
            x, y = 2 * a[:, n, None] * s_F[None], b[:, n, None] * c_F[None]
            term = jax.lax.complex(-x * imag[:, n] - y * real[:, n], x * real[:, n] - y * imag[:, n])
            total = term if total is None else total + term
        assert total is not None
        return total

    c = c_F[None]
    correction = c * cauchy(B * P.conj()) / (1 + c * cauchy(P * P.conj()))
    rotation = jnp.asarray(np.exp(1j * theta), jnp.complex64)[None]
    return jnp.stack([rotation * (cauchy(B * C_HN) - correction * cauchy(P * C_HN)) for C_HN in C_MHN])


def transition(system: System, power: int) -> Array:
    """Abar^power - I on the full state [x, conj x].

    Powers are multiplied as (I + E)(I + D) = I + (E + D + E D): for slow channels, where Abar is close to I, this keeps
    the relative accuracy of the difference from I, which float32 powers of Abar lose.

    Args:
        system: the state space.
        power: at least 1.

    Returns:
        (H, 2N, 2N) complex64.
    """
    Lambda, P = _doubled(system.Lambda), _doubled(system.P)
    A = Lambda[..., None] * jnp.eye(Lambda.shape[-1])[None] - P[..., :, None] * P.conj()[..., None, :]
    step = _implicit(system, jnp.exp(system.log_dt)[:, None, None] * A)

    result, square = None, step
    while True:
        if power & 1:
            result = square if result is None else result + square + _matmul(result, square)
        power >>= 1
        if not power:
            break
        square = 2 * square + _matmul(square, square)
    assert result is not None
    return result


def input_vector(system: System) -> Array:
    """Bbar, (H, N) complex64: the half of the conjugate-symmetric vector that is kept."""
    B = jnp.exp(system.log_dt)[:, None] * _doubled(system.B)
    return _implicit(system, B[..., None])[:, : system.B.shape[1], 0]


def _doubled(x: Array) -> Array:
    return jnp.concatenate([_complex(x), _complex(x).conj()], -1)


def _implicit(system: System, x: Array) -> Array:
    """(I - dt/2 A)^-1 x by the Woodbury identity: diagonal minus rank one. x: (H, 2N, columns)."""
    Lambda, P = _doubled(system.Lambda), _doubled(system.P)
    dt = jnp.exp(system.log_dt)[:, None]
    D = 1 / (1 - dt / 2 * Lambda)
    left, right = D * P, P.conj() * D
    scale = (dt / 2) / (1 + dt / 2 * jnp.sum(P.conj() * left, -1, keepdims=True))
    return D[..., None] * x - (scale * left)[..., None] * _matmul(right[..., None, :], x)


def _matmul(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=_EXACT)


def _apply(C: Array, matrix: Array) -> Array:
    """Row vectors [C, conj C] times a matrix on the full state; the first half as pairs."""
    n = C.shape[-2]
    row = _complex(C)
    out = jnp.einsum("mhi,hij->mhj", jnp.concatenate([row, row.conj()], -1), matrix[..., :n], precision=_EXACT)
    return jnp.stack([out.real, out.imag], -1)


@partial(jax.jit, static_argnums=2)
def truncate(C: Array, system: System, l_max: int) -> Array:
    """Ct = C (I - Abar^l): what is stored, from the plain output vector.

    Args:
        C: (M, H, N, 2).
        system: the state space.
        l_max: l.
    """
    return -_apply(C, transition(system, l_max))


def lengthen(C: Array, system: System, l_max: int, length: int) -> tuple[Array, int]:
    """Doubles l until it reaches `length`: Ct(2l) = Ct(l) (I + Abar^l). Differentiable; nothing is changed in place.

    Args:
        C: (M, H, N, 2) Ct for `l_max`.
        system: the state space.
        l_max: the length C belongs to.
        length: taps wanted.

    Returns:
        Ct for the new length, and that length.
    """
    power = None
    while l_max < length:
        power = transition(system, l_max) if power is None else 2 * power + _matmul(power, power)
        C = 2 * C + _apply(C, power)
        l_max *= 2
    return C, l_max


def retarget(C: np.ndarray, system: System, l_max: int, new_l_max: int) -> np.ndarray:
    """Ct for another length: the same plain C = Ct (I - Abar^l)^-1. A one-off conversion in float64 on the host.

    Args:
        C: (M, H, N, 2) Ct for `l_max`.
        system: the state space.
        l_max: the length C belongs to.
        new_l_max: the length wanted.

    Returns:
        (M, H, N, 2) float32.
    """
    A, _, _ = _dense(system)
    eye = np.eye(A.shape[-1])
    old, new = (eye - np.linalg.matrix_power(A, power) for power in (l_max, new_l_max))
    row = C[..., 0].astype(np.float64) + 1j * C[..., 1]
    row = np.concatenate([row, row.conj()], -1)
    out = np.einsum("mhi,hij->mhj", row, np.linalg.solve(old, new))
    return to_pairs(out[..., : C.shape[-2]])


def recurrence(C: np.ndarray, system: System, l_max: int, length: int) -> np.ndarray:
    """The kernel by its definition, k_j = C Abar^j Bbar, step by step in complex128: slow, for tests.

    Args:
        C: (M, H, N, 2) Ct for `l_max`.
        system: the state space.
        l_max: the length C belongs to.
        length: L.

    Returns:
        (M, H, L) float64.
    """
    A, B, _ = _dense(system)
    row = C[..., 0].astype(np.float64) + 1j * C[..., 1]
    row = np.concatenate([row, row.conj()], -1)
    eye = np.eye(A.shape[-1])
    row = np.einsum("mhi,hij->mhj", row, np.linalg.inv(eye - np.linalg.matrix_power(A, l_max)))
    out = np.empty((*row.shape[:2], length))
    for j in range(length):
        out[..., j] = np.einsum("mhi,hi->mh", row, B).real
        B = np.einsum("hij,hj->hi", A, B)
    return out


def _dense(system: System) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Abar, Bbar and dt in double precision on the full state."""
    pairs = (np.asarray(x, np.float64) for x in (system.Lambda, system.P, system.B))
    Lambda, P, B = (np.concatenate([z, z.conj()], -1) for z in (x[..., 0] + 1j * x[..., 1] for x in pairs))
    dt = np.exp(np.asarray(system.log_dt, np.float64))[:, None, None]
    A = Lambda[..., None] * np.eye(Lambda.shape[-1]) - P[..., :, None] * P.conj()[..., None, :]
    eye = np.eye(A.shape[-1])
    inverse = np.linalg.inv(eye - dt / 2 * A)
    return inverse @ (eye + dt / 2 * A), np.einsum("hij,hj->hi", inverse, dt[..., 0] * B), dt
