"""Joint-embedding prediction: what a teacher makes of hidden tokens is predicted from the visible ones.

Assran et al. 2023, arXiv:2301.08243 (I-JEPA); ECG-JEPA: Kim 2024, arXiv:2410.08559. The teacher sees the whole record;
its tokens are normalised over channels, and those that the student did not see are the targets.

Shapes: B records, T tokens, M hidden ones (of all leads), C channels.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from ecgjax.errors import UserError
from ecgjax.pretraining import masks

Distance = Literal["smooth_l1", "l1"]


def targets(teacher_BTC: jax.Array, masked_BM: jax.Array, epsilon: float = 1e-5) -> jax.Array:
    """The teacher's hidden tokens after a layer norm without parameters.

    Args:
        teacher_BTC: the teacher's output for the whole record.
        masked_BM: indices of hidden tokens, e.g. `masks.split(...).masked`.
        epsilon: of the norm.

    Returns:
        (batch, M, channels), float32 at least; no gradient reaches the teacher.
    """
    x = jax.lax.stop_gradient(masks.take(teacher_BTC, masked_BM))
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    x = x - jnp.mean(x, -1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + epsilon)


def record_losses(
    predicted_BMC: jax.Array, target_BMC: jax.Array, distance: Distance = "smooth_l1", beta: float = 1.0
) -> jax.Array:
    """How far predictions are from their targets in each record.

    Args:
        predicted_BMC: the predictor's output at hidden tokens.
        target_BMC: from `targets`.
        distance: "smooth_l1" (ECG-JEPA): d^2 / (2 beta) where |d| < beta and |d| - beta / 2 beyond; "l1": |d|.
        beta: where the smooth one becomes straight.

    Returns:
        (batch,): mean over tokens and channels.

    Raises:
        UserError: an unknown distance, or a beta that is not positive.
    """
    dtype = jnp.promote_types(predicted_BMC.dtype, jnp.float32)
    size = jnp.abs(predicted_BMC.astype(dtype) - target_BMC.astype(dtype))
    if distance == "smooth_l1":
        if beta <= 0:
            raise UserError(f"beta is {beta:g}; expected a positive number")
        size = jnp.where(size < beta, size * size / (2 * beta), size - beta / 2)
    elif distance != "l1":
        raise UserError(f"distance is {distance!r}; expected 'smooth_l1' or 'l1'")
    return jnp.mean(size, (1, 2))
