"""Torch names of ECGFounder: those of Net1D, under `state_dict` in 12_lead_ECGFounder.pth and 1_lead_ECGFounder.pth.

`dense` is the layer of 150 diagnoses. Checkpoints that the benchmark wrote hold its heads instead.
"""

from typing import Any

from convert_weights.names import net1d
from convert_weights.names.heads import LINEAR
from convert_weights.rules import Tensors

MODEL = "ecg_founder"
PREFIXES = net1d.PREFIXES
RULES = (*net1d.RULES, *LINEAR)
DERIVED = net1d.DERIVED
IGNORE = net1d.IGNORE


def arguments(tensors: Tensors) -> dict[str, Any]:
    """The leads, read off the shape of the stem."""
    return {"leads": str(tensors["first_conv.conv.weight"].shape[1])}
