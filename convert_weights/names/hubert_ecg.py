"""Torch names of HuBERT-ECG: model.safetensors of the hub's repositories holds the tensors themselves.

The older .pt files hold them under `model_state_dict`; fine-tuned ones have "hubert_ecg." before every name, and a
classifier. The vector that stands for masked tokens and the codebooks serve pretraining only and are left out.
"""

from typing import Any

from convert_weights.names.heads import HEADS, UNUSED
from convert_weights.names.transformer import dense_rules, layer_norm_rules, positional_conv_rules
from convert_weights.rules import Derived, Rule, Tensors
from ecgjax.models.hubert_ecg import SIZES

MODEL = "hubert_ecg"
PREFIXES = ("module.", "model.", "hubert_ecg.")

_CONV = "feature_extractor.conv_layers."
_LAYER = "encoder.layers.{i}."
_PATH = "context/layer_{i}/"
_ATTENTION = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "output"}

RULES = (
    Rule(_CONV + "{i}.conv.weight", "params/extractor/conv_{i}/kernel", "conv"),
    *layer_norm_rules(_CONV + "0.layer_norm.", "extractor/norm"),
    *layer_norm_rules("feature_projection.layer_norm.", "extractor_norm"),
    *dense_rules("feature_projection.projection.", "projection"),
    *positional_conv_rules("encoder.pos_conv_embed.conv.", "context/position"),
    *layer_norm_rules("encoder.layer_norm.", "context/norm"),
    *(
        rule
        for torch, ours in _ATTENTION.items()
        for rule in dense_rules(f"{_LAYER}attention.{torch}.", f"{_PATH}attention/{ours}")
    ),
    *layer_norm_rules(_LAYER + "layer_norm.", _PATH + "attention_norm"),
    *dense_rules(_LAYER + "feed_forward.intermediate_dense.", _PATH + "mlp_hidden"),
    *dense_rules(_LAYER + "feed_forward.output_dense.", _PATH + "mlp_output"),
    *layer_norm_rules(_LAYER + "final_layer_norm.", _PATH + "mlp_norm"),
    *HEADS,
)
DERIVED: tuple[Derived, ...] = ()
IGNORE = (
    r"masked_spec_embed",
    r"final_proj\..*",
    r"label_embedding\..*",
    r"classifier\..*",
    *UNUSED,
)


def arguments(tensors: Tensors) -> dict[str, Any]:
    """The size, read off the width."""
    width = tensors["encoder.layer_norm.weight"].shape[0]
    sizes = {SIZES[size][0]: size for size in SIZES}
    if width not in sizes:
        raise ValueError(f"encoder.layer_norm.weight has {width} channels, expected {' or '.join(map(str, sizes))}")
    return {"size": sizes[width]}
