"""Torch names of MERL's ResNet18: res18_best_encoder.pth is the state dict itself.

In the files of the whole ECG-text model "ecg_encoder." stands before every name. `linear` is a classification layer
that no forward pass uses.
"""

from typing import Any

from convert_weights.names.batch_norm import batch_counter, norm_rules
from convert_weights.names.heads import HEADS, UNUSED
from convert_weights.rules import Rule, Tensors

MODEL = "merl_resnet"
PREFIXES = ("module.", "model.", "ecg_encoder.")

_BLOCK = "layer{l}.{b}."
_PATH = "layer_{l}_block_{b}/"

RULES = (
    Rule("conv1.weight", "params/stem_conv/kernel", "conv"),
    *norm_rules("bn1.", "stem_norm"),
    Rule(_BLOCK + "conv{n}.weight", "params/" + _PATH + "conv_{n}/kernel", "conv"),
    *norm_rules(_BLOCK + "bn{n}.", _PATH + "norm_{n}"),
    Rule(_BLOCK + "shortcut.0.weight", "params/" + _PATH + "shortcut_conv/kernel", "conv"),
    *norm_rules(_BLOCK + "shortcut.1.", _PATH + "shortcut_norm"),
    *HEADS,
)
DERIVED = tuple(batch_counter(torch) for torch in ("bn1.", _BLOCK + "bn{n}.", _BLOCK + "shortcut.1."))
IGNORE = (r"linear\.(weight|bias)", *UNUSED)


def arguments(tensors: Tensors) -> dict[str, Any]:
    """No arguments: there is one size."""
    return {}
