"""Torch names of ECG-JEPA: the state dict under `encoder` in multiblock_epoch100.pth and random_epoch100.pth."""

from typing import Any

from convert_weights.names.heads import HEADS, UNUSED
from convert_weights.names.transformer import dense_rules, layer_norm_rules
from convert_weights.rules import Derived, Rule, Tensors

MODEL = "ecg_jepa"
PREFIXES = ("module.", "model.", "encoder.")

_BLOCK = "encoder_blocks.blocks.{i}."

RULES = (
    Rule("pos_embed", "buffers/position"),
    *dense_rules("W_P.", "patches"),
    *layer_norm_rules(_BLOCK + "norm1.", "block_{i}/attention_norm"),
    Rule(_BLOCK + "attn.qkv.weight", "params/block_{i}/attention/qkv/kernel", "dense"),
    *dense_rules(_BLOCK + "attn.proj.", "block_{i}/attention/output"),
    *layer_norm_rules(_BLOCK + "norm2.", "block_{i}/mlp_norm"),
    *dense_rules(_BLOCK + "mlp.fc1.", "block_{i}/mlp_hidden"),
    *dense_rules(_BLOCK + "mlp.fc2.", "block_{i}/mlp_output"),
    *layer_norm_rules("norm.", "norm"),
    *HEADS,
)
DERIVED: tuple[Derived, ...] = ()
IGNORE = UNUSED


def arguments(tensors: Tensors) -> dict[str, Any]:
    """No arguments: there is one size."""
    return {}
