"""The S4 convolution in chunks: a short convolution inside each, and the state handed from one to the next.

Linear in the length and without a Fourier transform or a complex number in the loop; the matrices of each channel are
what it moves. Dao and Gu 2024, arXiv:2405.21060, section 6, for the scheme.

Shape suffixes: B batch, H channels, S = 2N real states, T samples of a chunk, M chunks.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.models.s4_kernel import System, input_vector, transition

Array = jax.Array

_dot = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def convolve(u: Array, C: Array, system: System, l_max: int, chunk: int) -> Array:
    """y_t = sum_{s <= t} k_{t-s} u_s with the kernel k of a state space, which is never made longer than a chunk.

    Args:
        u: (batch, L, channels), any L.
        C: (channels, N, 2) Ct for `l_max`, see `s4_kernel`.
        system: the rest of the state space.
        l_max: the length Ct belongs to.
        chunk: samples.

    Returns:
        (batch, L, channels).
    """
    powers_HTSS, B_HS, C_HS = _real_system(C, system, l_max, chunk)
    into_HTS = _dot("htij,hj->hti", powers_HTSS[:, chunk - 1 :: -1], B_HS)  # of sample t on the state at the end
    out_HTS = _dot("hi,htij->htj", C_HS, powers_HTSS[:, 1:])
    taps_HT = _dot("hi,htij,hj->ht", C_HS, powers_HTSS[:, :chunk], B_HS)
    lag = np.arange(chunk)[:, None] - np.arange(chunk)[None]
    inside_HTT = jnp.where((lag >= 0)[None], taps_HT[:, np.maximum(lag, 0)], 0.0)

    batch, length, channels = u.shape
    chunks = -(-length // chunk)
    u = jnp.pad(u, ((0, 0), (0, chunks * chunk - length), (0, 0))).reshape(batch, chunks, chunk, channels)
    arriving = _dot("hts,bmth->mbhs", into_HTS, u)

    def hand_on(state: Array, new: Array) -> tuple[Array, Array]:
        return _dot("hij,bhj->bhi", powers_HTSS[:, chunk], state) + new, state

    _, before = jax.lax.scan(hand_on, jnp.zeros_like(arriving[0]), arriving)
    y = _dot("hij,bmjh->bmih", inside_HTT, u) + _dot("hts,mbhs->bmth", out_HTS, before)
    return y.reshape(batch, chunks * chunk, channels)[:, :length]


def _real_system(C: Array, system: System, l_max: int, chunk: int) -> tuple[Array, Array, Array]:
    """Powers 0 to `chunk` of Abar, Bbar, and C on the real state [Re x, Im x]."""
    step = _real(transition(system, 1))
    eye = jnp.eye(step.shape[-1])[None]
    powers = (eye + step)[:, None]  # doubled until there are enough: Abar^(j + m) = Abar^j Abar^m
    while powers.shape[1] < chunk:
        powers = jnp.concatenate([powers, _dot("htij,hjk->htik", powers, powers[:, -1])], 1)
    powers = jnp.concatenate([jnp.broadcast_to(eye[:, None], (len(step), 1, *step.shape[1:])), powers[:, :chunk]], 1)
    B = input_vector(system)
    row = jnp.concatenate([2 * C[..., 0], -2 * C[..., 1]], -1)
    # C = Ct (I - Abar^l)^-1.
    plain = jnp.linalg.solve(-_real(transition(system, l_max)).swapaxes(1, 2), row[..., None])[..., 0]
    return powers, jnp.concatenate([B.real, B.imag], -1), plain


def _real(matrix: Array) -> Array:
    """A matrix on [x, conj x] as one on [Re x, Im x]."""
    n = matrix.shape[-1] // 2
    a, b = matrix[..., :n, :n], matrix[..., :n, n:]
    top = jnp.concatenate([(a + b).real, (b - a).imag], -1)
    return jnp.concatenate([top, jnp.concatenate([(a + b).imag, (a - b).real], -1)], -2)
