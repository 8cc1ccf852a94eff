"""Torch names of MERL's ViT-tiny: vit_tiny_best_encoder.pth is the state dict itself.

In the files of the whole ECG-text model "ecg_encoder." stands before every name.
"""

from typing import Any

from convert_weights.names.heads import HEADS, UNUSED
from convert_weights.names.transformer import layer_norm_rules, vit_block_rules
from convert_weights.rules import Derived, Rule, Tensors

MODEL = "merl_vit"
PREFIXES = ("module.", "model.", "ecg_encoder.")
RULES = (
    Rule("pos_embedding", "params/position", "row"),
    Rule("to_patch_embedding.weight", "params/patches/kernel", "conv"),
    *vit_block_rules("block{i}.", "block_{i}"),
    *layer_norm_rules("norm.", "norm"),
    *HEADS,
)
DERIVED: tuple[Derived, ...] = ()
IGNORE = UNUSED


def arguments(tensors: Tensors) -> dict[str, Any]:
    """No arguments: there is one size."""
    return {}
