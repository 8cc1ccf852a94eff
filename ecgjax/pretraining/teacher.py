"""A teacher: the exponential moving average of a student, without centring.

Tarvainen and Valpola 2017, arXiv:1703.01780. As ECG-JEPA's it starts as a copy of the student and follows it after each
update of the optimiser, with a momentum that rises from 0.996 to 1 along a line; BYOL's rises along half a cosine.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from ecgjax.errors import UserError

Shape = Literal["linear", "cosine"]


def momentum(step: Any, total: int, first: float = 0.996, last: float = 1.0, shape: Shape = "linear") -> jax.Array:
    """The share of itself that the teacher keeps.

    Args:
        step: updates of the teacher made so far; may be traced.
        total: of the whole run; from then on the momentum is `last`.
        first: for the first update.
        last: what it ends with.
        shape: of the rise.

    Raises:
        UserError: a momentum outside 0 to 1, or an unknown shape.
    """
    if not (0 <= first <= 1 and 0 <= last <= 1):
        raise UserError(f"momentum from {first:g} to {last:g}; expected numbers from 0 to 1")
    progress = jnp.clip(jnp.asarray(step, jnp.float32) / max(total, 1), 0.0, 1.0)
    if shape == "cosine":
        progress = (1 - jnp.cos(jnp.pi * progress)) / 2
    elif shape != "linear":
        raise UserError(f"shape is {shape!r}; expected 'linear' or 'cosine'")
    return first + (last - first) * progress


def update(teacher: Any, student: Any, momentum: jax.Array | float) -> Any:
    """The teacher after a step of the student: momentum x teacher + (1 - momentum) x student.

    Args:
        teacher: pytree of arrays. Keep it in float32: in bfloat16 the steps of a momentum near 1 are rounded away.
        student: the same structure; no gradient reaches it. Leaves that are not floating (counters) are copied.
        momentum: from 0 to 1.
    """

    def leaf(old: jax.Array, new: jax.Array) -> jax.Array:
        new = jax.lax.stop_gradient(new)
        if not jnp.issubdtype(old.dtype, jnp.floating):
            return new
        # One difference rather than two products: a teacher that equals its student stays exactly that.
        return (old + (1 - momentum) * (new - old)).astype(old.dtype)

    return jax.tree.map(leaf, teacher, student)
