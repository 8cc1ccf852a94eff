"""Torch names of ECG-FM: the state dict under `model` in mimic_iv_ecg_physionet_pretrained.pt.

Fine-tuned files have "encoder." before every name (which some names begin with anyhow: the reader tells the two apart
by what most names need) and `proj`, their classification layer. What serves pretraining only is left out.
"""

from typing import Any

from convert_weights.names.heads import HEADS, UNUSED, linear_rules
from convert_weights.names.transformer import dense_rules, layer_norm_rules, positional_conv_rules
from convert_weights.rules import Derived, Rule, Tensors

MODEL = "ecg_fm"
PREFIXES = ("module.", "model.")

_CONV = "feature_extractor.conv_layers."
_LAYER = "encoder.layers.{i}."
_PATH = "context/layer_{i}/"
_ATTENTION = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "output"}

RULES = (
    Rule(_CONV + "{i}.0.weight", "params/extractor/conv_{i}/kernel", "conv"),
    *layer_norm_rules(_CONV + "0.2.", "extractor/norm"),
    *layer_norm_rules("layer_norm.", "extractor_norm"),
    *dense_rules("post_extract_proj.", "projection"),
    *positional_conv_rules("conv_pos.pos_conv.0.", "context/position"),
    *layer_norm_rules("encoder.layer_norm.", "context/norm"),
    *(
        rule
        for torch, ours in _ATTENTION.items()
        for rule in dense_rules(f"{_LAYER}self_attn.{torch}.", f"{_PATH}attention/{ours}")
    ),
    *layer_norm_rules(_LAYER + "self_attn_layer_norm.", _PATH + "attention_norm"),
    *dense_rules(_LAYER + "fc1.", _PATH + "mlp_hidden"),
    *dense_rules(_LAYER + "fc2.", _PATH + "mlp_output"),
    *layer_norm_rules(_LAYER + "final_layer_norm.", _PATH + "mlp_norm"),
    *HEADS,
    *linear_rules("proj."),
)
DERIVED: tuple[Derived, ...] = ()
IGNORE = (
    r"mask_emb",
    r"quantizer\..*",
    r"project_q\..*",
    r"final_proj\..*",
    r"target_glu\..*",
    *UNUSED,
)


def arguments(tensors: Tensors) -> dict[str, Any]:
    """No arguments: there is one size."""
    return {}
