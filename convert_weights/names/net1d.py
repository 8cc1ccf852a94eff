"""Torch names of Net1D, as the benchmark writes it: a Lightning checkpoint with "model." before every name.

The batch norms are in the file although the network runs without them.
"""

from typing import Any

from convert_weights.names.batch_norm import unused_norm
from convert_weights.names.heads import ATTENTION, UNUSED, linear_rules
from convert_weights.rules import Derived, Rule, Tensors

MODEL = "net1d"
PREFIXES = ("module.", "model.")

_BLOCK = "stage_list.{s}.block_list.{b}."
_PATH = "params/stage_{s}_block_{b}/"

RULES = (
    Rule("first_conv.conv.weight", "params/stem/kernel", "conv"),
    Rule("first_conv.conv.bias", "params/stem/bias"),
    Rule(_BLOCK + "conv{n}.conv.weight", _PATH + "conv_{n}/kernel", "conv"),
    Rule(_BLOCK + "conv{n}.conv.bias", _PATH + "conv_{n}/bias"),
    Rule(_BLOCK + "se_fc1.weight", _PATH + "squeeze/kernel", "dense"),
    Rule(_BLOCK + "se_fc1.bias", _PATH + "squeeze/bias"),
    Rule(_BLOCK + "se_fc2.weight", _PATH + "excite/kernel", "dense"),
    Rule(_BLOCK + "se_fc2.bias", _PATH + "excite/bias"),
    *linear_rules("dense."),
    *ATTENTION,
)
DERIVED: tuple[Derived, ...] = (
    *unused_norm("first_bn.", "first_conv.conv.weight", 0),
    *unused_norm(_BLOCK + "bn1.", _BLOCK + "conv1.conv.weight", 1),
    *unused_norm(_BLOCK + "bn2.", _BLOCK + "conv1.conv.weight", 0),
    *unused_norm(_BLOCK + "bn3.", _BLOCK + "conv2.conv.weight", 0),
)
IGNORE = UNUSED


def arguments(tensors: Tensors) -> dict[str, Any]:
    """Widths and blocks of the stages, read off the names and shapes."""
    stages: dict[int, int] = {}
    for name in tensors:
        if name.startswith("stage_list.") and name.endswith(".conv1.conv.weight"):
            stage = int(name.split(".")[1])
            stages[stage] = stages.get(stage, 0) + 1
    order = sorted(stages)
    return {
        "widths": tuple(int(tensors[f"stage_list.{s}.block_list.0.conv1.conv.weight"].shape[0]) for s in order),
        "blocks": tuple(stages[s] for s in order),
    }
