"""Compilation of programs without a backward pass through an encoder: features, scores, steps of a head.

XLA has two libraries for matrix products on a CPU, and gives them to YNNPACK. Forward, Eigen takes 0.81 to 0.94 of its
time for nine models and 1.01 and 1.02 for MERL's two; for gradients it takes up to 1.5 times it (one core, batch 4, by
`python -m benchmarks.forward`).
"""

from collections.abc import Callable, Mapping
from functools import cache, cached_property, partial
from typing import Any

import jax
from jax.extend.core import get_opaque_trace_state

EIGEN = {"xla_cpu_experimental_ynn_fusion_type": ""}
"""Option of XLA's compiler for CPUs: no operation is given to YNNPACK."""


with jax.ensure_compile_time_eval():
    _OUTSIDE = get_opaque_trace_state()  # of every transformation of JAX


class Forward:
    """`jax.jit` of such a program. On CPUs its products are Eigen's, except inside another transformation of JAX."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        """Compiles nothing yet.

        Args:
            function: of trees of arrays.
            options: of `jax.jit`.
        """
        self._jit = partial(jax.jit, function, **options)
        self._inside = self._jit()

    @cached_property
    def _whole(self) -> Any:
        # Made when it is called first: asking for devices begins JAX's session.
        return self._jit(compiler_options=compiler_options() or None)

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns."""
        # Options of the compiler are of whole programs: inside another one they are an error.
        return (self._whole if get_opaque_trace_state() == _OUTSIDE else self._inside)(*arguments)

    def lower(self, *arguments: Any) -> Any:
        """As that of `jax.jit`."""
        return self._whole.lower(*arguments)


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
