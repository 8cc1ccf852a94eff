"""Compilation of programs without a backward pass through an encoder: features, scores, steps of a head.

XLA has two libraries for matrix products on a CPU, and gives them to YNNPACK. Forward, Eigen takes 0.81 to 0.94 of its
time for nine models and 1.01 and 1.02 for MERL's two; for gradients it takes up to 1.5 times it (one core, batch 4, by
`python -m benchmarks.forward`).
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jax

EIGEN = {"xla_cpu_experimental_ynn_fusion_type": ""}
"""Option of XLA's compiler for CPUs: no operation is given to YNNPACK."""


class Forward:
    """`jax.jit` of such a program. On CPUs its products are Eigen's, except inside another transformation of JAX."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        """Compiles nothing yet.

        Args:
            function: of trees of arrays.
            options: of `jax.jit`.
        """
        self._function = function
        self._options = options
        self._plain = jax.jit(function, **options)
        self._chosen: Any = None

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns."""
        # Options of the compiler are of whole programs: within another one they are an error.
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments)):
            return self._plain(*arguments)
        return self._compiled()(*arguments)

    def lower(self, *arguments: Any) -> Any:
        """As that of `jax.jit`."""
        return self._compiled().lower(*arguments)

    def _compiled(self) -> Any:
        if self._chosen is None:  # only now: asking for devices begins JAX's session
            chosen = compiler_options()
            options = {**self._options, "compiler_options": chosen} if chosen else self._options
            self._chosen = jax.jit(self._function, **options)
        return self._chosen


@cache
def compiler_options() -> Mapping[str, str]:
    """For such programs on this process's default devices, in the form that `jax.jit` takes."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda: 0, compiler_options=EIGEN).lower().compile()
    except jax.errors.JaxRuntimeError:  # a release of JAX that has no such option
        return {}
    return EIGEN
