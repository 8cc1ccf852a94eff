"""Torch names of ECGFounder: those of Net1D, under `state_dict` in 12_lead_ECGFounder.pth and 1_lead_ECGFounder.pth.

`dense` is the layer of 150 diagnoses. Checkpoints that the benchmark wrote hold a second, unused head.
"""

from typing import Any

from convert_weights.mapping import Tensors
from convert_weights.names import net1d

MODEL = "ecg_founder"
PREFIXES = net1d.PREFIXES
RULES = net1d.RULES
DERIVED = net1d.DERIVED
IGNORE = (r"nonlinear_head\..*",)


def arguments(tensors: Tensors) -> dict[str, Any]:
    """The leads, read off the shape of the stem."""
    return {"leads": str(tensors["first_conv.conv.weight"].shape[1])}
