"""Torch names of ECG-CPC: the released checkpoint's `state_dict`, 77 tensors of which one is the self-supervised head.

Checkpoints that were fine-tuned by the benchmark have "model." before every name, and a head.
"""

from typing import Any

import numpy as np

from convert_weights.names.heads import HEADS, UNUSED
from convert_weights.names.s4 import stack_arguments, stack_derived, stack_rules
from convert_weights.rules import Derived, Rule, Tensors

MODEL = "ecg_cpc"
PREFIXES = ("module.", "model.")

_CONV = "ts_encoder.encoder.layers.{i}."
_STACK = "ts_encoder.predictor.predictor."

RULES = (
    Rule(_CONV + "0.weight", "params/encoder/conv_{i}/kernel", "conv"),
    Rule(_CONV + "1.weight", "params/encoder/norm_{i}/scale"),
    Rule(_CONV + "1.bias", "params/encoder/norm_{i}/bias"),
    Rule(_CONV + "1.running_mean", "batch_stats/encoder/norm_{i}/mean"),
    Rule(_CONV + "1.running_var", "batch_stats/encoder/norm_{i}/var"),
    *stack_rules(_STACK, "predictor"),
    Rule("ts_encoder.head_ssl.proj.0.weight", "heads/ssl/kernel", "dense"),
    *HEADS,
)
DERIVED = (
    *stack_derived(_STACK),
    # A counter that nothing reads: any value is accepted, 0 is written.
    Derived(_CONV + "1.num_batches_tracked", _CONV + "1.weight", lambda encoder, scale: np.zeros((), np.int64)),
)
IGNORE = UNUSED


def arguments(tensors: Tensors) -> dict[str, Any]:
    """Keyword arguments of `ecgjax.models.create`, read off the shapes."""
    return stack_arguments(tensors, _STACK)
