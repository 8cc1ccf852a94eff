"""Torch names of MERL's ResNet18: res18_best_encoder.pth is the state dict itself.

In the files of the whole ECG-text model "ecg_encoder." stands before every name. `linear` is a classification layer
that no forward pass uses. Checkpoints that the benchmark wrote hold a second, unused head.
"""

from typing import Any

from convert_weights.mapping import Rule, Tensors
from convert_weights.names.batch_norm import batch_counter, norm_rules

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
    Rule("head.weight", "heads/linear/kernel", "dense"),
    Rule("head.bias", "heads/linear/bias"),
)
DERIVED = tuple(batch_counter(torch) for torch in ("bn1.", _BLOCK + "bn{n}.", _BLOCK + "shortcut.1."))
IGNORE = (r"linear\.(weight|bias)", r"nonlinear_head\..*")


def arguments(tensors: Tensors) -> dict[str, Any]:
    """No arguments: there is one size."""
    return {}
