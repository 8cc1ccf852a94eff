"""Torch names of ST-MEM: the state dict under `model` in st_mem_vit_base_full.pth, and the authors' encoder-only file.

The full file has "encoder." before the encoder's names, holds the patch embedding a second time without it (one module
under two names, the same values), and the decoder, which is left out. The names here are those of the encoder-only
file.
"""

from typing import Any

from convert_weights.names.heads import HEADS, UNUSED
from convert_weights.names.transformer import dense_rules, layer_norm_rules, vit_block_rules
from convert_weights.rules import Derived, Rule, Tensors

MODEL = "st_mem"
PREFIXES = ("module.", "model.", "encoder.")
RULES = (
    Rule("pos_embedding", "buffers/position", "row"),
    Rule("sep_embedding", "params/separator"),
    Rule("lead_embeddings.{i}", "params/lead_{i}"),
    *layer_norm_rules("to_patch_embedding.1.", "patch_norm"),
    *dense_rules("to_patch_embedding.2.", "patches"),
    *layer_norm_rules("to_patch_embedding.3.", "embedding_norm"),
    *vit_block_rules("block{i}.", "block_{i}"),
    *layer_norm_rules("norm.", "norm"),
    *HEADS,
)
DERIVED: tuple[Derived, ...] = ()
IGNORE = (
    r"decoder_(blocks|norm|head)\..*",
    r"decoder_pos_embed",
    r"mask_embedding",
    r"to_decoder_embedding\..*",
    *UNUSED,
)


def arguments(tensors: Tensors) -> dict[str, Any]:
    """No arguments: there is one size."""
    return {}
