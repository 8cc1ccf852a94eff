"""Compilation of programs without a backward pass through an encoder: features, scores, steps of a head.

XLA has two libraries for matrix products on a CPU. Its default, YNNPACK, is the faster one for a backward pass (in
place of it Eigen takes up to 1.5 times the time of a model's gradient). Forward, Eigen takes 0.78 to 1.0 of the time
of YNNPACK for every model but MERL's ViT (1.04), on one core at batch 4: `python -m benchmarks.forward`.
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
