"""Torch names of the supervised S4, and of the S4 stack inside other models.

A checkpoint that the benchmark wrote puts "model." before every name. `decoder` is the classification layer.
"""

from typing import Any

import numpy as np

from convert_weights.names.heads import ATTENTION, UNUSED, linear_rules
from convert_weights.rules import Derived, Rule, Tensors
from ecgjax.models.encoder import Encoder

MODEL = "s4"
PREFIXES = ("module.", "model.")


def stack_rules(torch: str, path: str) -> tuple[Rule, ...]:
    """Rules of an S4 stack at a torch prefix and a variable path."""
    layer, kernel = torch + "s4_layers.{i}.", torch + "s4_layers.{i}.kernel.kernel."
    params, buffers = f"params/{path}/layer_{{i}}/", f"buffers/{path}/layer_{{i}}/"
    return (
        Rule(layer + "D", params + "D", "row"),
        Rule(kernel + "C", params + "C"),
        Rule(kernel + "log_dt", buffers + "log_dt"),
        Rule(kernel + "w", buffers + "Lambda"),
        Rule(kernel + "P", buffers + "P", "row"),
        Rule(kernel + "B", buffers + "B", "row"),
        Rule(layer + "output_linear.0.weight", params + "output/kernel", "dense"),
        Rule(layer + "output_linear.0.bias", params + "output/bias", "column"),
        Rule(torch + "norms.{i}.weight", f"params/{path}/norm_{{i}}/scale"),
        Rule(torch + "norms.{i}.bias", f"params/{path}/norm_{{i}}/bias"),
    )


def stack_derived(torch: str) -> tuple[Derived, ...]:
    """Buffers of an S4 stack that follow from others."""
    kernel = torch + "s4_layers.{i}.kernel.kernel."
    return (
        Derived(kernel + "Q", kernel + "P", lambda encoder, P: P * np.array([1, -1], P.dtype), 1e-6),
        Derived(kernel + "omega", kernel + "C", lambda encoder, C: fourier_nodes(encoder)[0], 1e-4),
        # Near the Nyquist frequency the reference's z is a rounding error's inverse: nothing to compare.
        Derived(kernel + "z", kernel + "C", lambda encoder, C: fourier_nodes(encoder)[1]),
    )


def fourier_nodes(encoder: Encoder) -> tuple[np.ndarray, np.ndarray]:
    """The reference's buffers omega and z, (l_max // 2 + 1, 2).

    The reference divides by 1 + omega, so the Nyquist node, exactly -1, is moved by the 2^-20 that its own rounding
    errors amount to.
    """
    l_max = encoder.arguments["l_max"]
    omega = np.exp(-2j * np.pi * np.arange(l_max // 2 + 1) / l_max).astype(np.complex64)
    if l_max % 2 == 0:
        omega[-1] = -1 + 2.0**-20
    z = 2 * (1 - omega) / (1 + omega)
    return tuple(np.stack([x.real, x.imag], -1).astype(np.float32) for x in (omega, z))  # type: ignore[return-value]


def stack_arguments(tensors: Tensors, torch: str) -> dict[str, Any]:
    """Width, layers, state size and l_max, read off the shapes of a stack."""
    C = tensors[torch + "s4_layers.0.kernel.kernel.C"]
    layers = {name.removeprefix(torch).split(".")[1] for name in tensors if name.startswith(torch + "s4_layers.")}
    return {
        "width": C.shape[1],
        "layers": len(layers),
        "state_size": 2 * C.shape[2],
        # omega holds l_max // 2 + 1 nodes, and the reference works for even l_max only.
        "l_max": 2 * (tensors[torch + "s4_layers.0.kernel.kernel.omega"].shape[0] - 1),
    }


RULES = (
    Rule("encoder.weight", "params/projection/kernel", "conv"),
    Rule("encoder.bias", "params/projection/bias"),
    *stack_rules("", "stack"),
    *linear_rules("decoder."),
    *ATTENTION,
)
DERIVED = stack_derived("")
IGNORE = UNUSED


def arguments(tensors: Tensors) -> dict[str, Any]:
    """Keyword arguments of `ecgjax.models.create`, read off the shapes."""
    return stack_arguments(tensors, "")
