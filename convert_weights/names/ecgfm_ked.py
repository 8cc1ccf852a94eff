"""Torch names of ECGFM-KED: the state dict under `ecg_model` in best_valid_all_increase_with_augment_epoch_3.pt.

Flattened files have "ecg_model." before every name. Each block's convolutions are there twice, as `convs` and, with
the same values, as `convpath`: both are read and compared, both are written.
"""

from typing import Any

from convert_weights.names.batch_norm import batch_counter, norm_rules
from convert_weights.names.heads import HEADS, UNUSED
from convert_weights.rules import Derived, Rule, Tensors

MODEL = "ecgfm_ked"
PREFIXES = ("module.", "model.", "ecg_model.")

# Stage -> torch name of the identity path's convolution and norm; index 0 is the pool where there is one.
_IDENTITY = {0: "4.{b}.idpath.0.", 1: "5.{b}.idpath.1.", 3: "7.{b}.idpath.1."}


def _conv_norm(torch: str, path: str) -> tuple[Rule, ...]:
    return (Rule(torch + "0.weight", f"params/{path}/conv/kernel", "conv"), *norm_rules(torch + "1.", f"{path}/norm"))


def _alias(stage: int, name: str) -> Derived:
    torch = f"{stage + 4}.{{b}}."
    return Derived(torch + "convpath.0.{c}." + name, torch + "convs.{c}." + name, lambda encoder, tensor: tensor, 0.0)


_ALIASED = ("0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var")
_STAGES = range(4)

RULES = (
    *_conv_norm("{i}.", "stem_{i}"),
    *(rule for s in _STAGES for rule in _conv_norm(f"{s + 4}.{{b}}.convs.{{c}}.", f"stage_{s}_block_{{b}}/conv_{{c}}")),
    *(rule for s, torch in _IDENTITY.items() for rule in _conv_norm(torch, f"stage_{s}_block_{{b}}/identity")),
    *HEADS,
)
DERIVED = (
    batch_counter("{i}.1."),
    *(batch_counter(f"{s + 4}.{{b}}.convs.{{c}}.1.") for s in _STAGES),
    *(batch_counter(torch + "1.") for torch in _IDENTITY.values()),
    *(_alias(s, name) for s in _STAGES for name in _ALIASED),
    *(
        batch_counter(f"{s + 4}.{{b}}.convs.{{c}}.1.")._replace(
            source=f"{s + 4}.{{b}}.convpath.0.{{c}}.1.num_batches_tracked"
        )
        for s in _STAGES
    ),
)
IGNORE = UNUSED


def arguments(tensors: Tensors) -> dict[str, Any]:
    """No arguments: there is one size."""
    return {}
