"""Signals as lead x time patches, and the reconstruction loss of masked autoencoders.

He et al. 2022, arXiv:2111.06377; for ECGs ST-MEM, Na et al. 2024, arXiv:2402.09450, with patches of 75 samples at
250 Hz (0.3 s) of every lead.

Shapes: B records, L leads, N patches of a lead, P samples of a patch.
"""

import jax
import jax.numpy as jnp

from ecgjax.errors import UserError


def patchify(x: jax.Array, samples: int) -> jax.Array:
    """Signals (batch, N samples, leads) cut into (batch, leads, N, samples).

    Args:
        x: signals.
        samples: of a patch.

    Raises:
        UserError: the signals are not a whole number of patches long.
    """
    batch, length, leads = x.shape
    if samples < 1 or length % samples:
        raise UserError(f"signals of {length} samples in patches of {samples}; expected a whole number of patches")
    return x.reshape(batch, length // samples, samples, leads).transpose(0, 3, 1, 2)


def unpatchify(patches_BLNP: jax.Array) -> jax.Array:
    """The signals (batch, N P, leads) that `patchify` cut."""
    batch, leads, count, samples = patches_BLNP.shape
    return patches_BLNP.transpose(0, 2, 3, 1).reshape(batch, count * samples, leads)


def normalise(patches_BLNP: jax.Array, epsilon: float = 1e-6) -> jax.Array:
    """Each patch with mean 0 and variance 1: the targets of MAE's and ST-MEM's released configurations.

    Args:
        patches_BLNP: at least two samples each; any leading shape.
        epsilon: added to the unbiased variance, so that a flat patch becomes 0.
    """
    x = patches_BLNP.astype(jnp.promote_types(patches_BLNP.dtype, jnp.float32))
    x = x - jnp.mean(x, -1, keepdims=True)
    variance = jnp.sum(x * x, -1, keepdims=True) / (x.shape[-1] - 1)
    return x * jax.lax.rsqrt(variance + epsilon)


def record_losses(predicted_BLNP: jax.Array, target_BLNP: jax.Array, mask_BLN: jax.Array) -> jax.Array:
    """Mean squared error of the masked patches of each record.

    Args:
        predicted_BLNP: the decoder's output.
        target_BLNP: what it should be; no gradient reaches it.
        mask_BLN: True = masked.

    Returns:
        (batch,): mean over the samples of its masked patches; 0 for a record without any. ST-MEM's loss is their mean,
        as it masks equally many patches of every record.
    """
    dtype = jnp.promote_types(predicted_BLNP.dtype, jnp.float32)
    error = predicted_BLNP.astype(dtype) - jax.lax.stop_gradient(target_BLNP).astype(dtype)
    # Before the square and not a product: what a visible patch holds, NaN included, matters to no gradient either.
    error = jnp.where(mask_BLN[..., None], error, 0.0)
    masked = jnp.sum(mask_BLN, (1, 2)) * predicted_BLNP.shape[-1]
    return jnp.sum(error * error, (1, 2, 3)) / jnp.maximum(masked, 1)
