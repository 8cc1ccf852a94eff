"""Torch names of MERL's ViT-tiny: vit_tiny_best_encoder.pth is the state dict itself.

In the files of the whole ECG-text model "ecg_encoder." stands before every name. Checkpoints that the benchmark wrote
hold a second, unused head.
"""

from typing import Any

from convert_weights.mapping import Derived, Rule, Tensors
from convert_weights.names.transformer import HEAD, layer_norm_rules, vit_block_rules

MODEL = "merl_vit"
PREFIXES = ("module.", "model.", "ecg_encoder.")
RULES = (
    Rule("pos_embedding", "params/position", "row"),
    Rule("to_patch_embedding.weight", "params/patches/kernel", "conv"),
    *vit_block_rules("block{i}.", "block_{i}"),
    *layer_norm_rules("norm.", "norm"),
    *HEAD,
)
DERIVED: tuple[Derived, ...] = ()
IGNORE = (r"nonlinear_head\..*",)


def arguments(tensors: Tensors) -> dict[str, Any]:
    """No arguments: there is one size."""
    return {}
