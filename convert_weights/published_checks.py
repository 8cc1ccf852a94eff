"""Outputs that others published for released files: the one check that a conversion of the real file can be held to."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ecgjax.errors import UserError
from ecgjax.models.model import Model


class PublishedCheck(NamedTuple):
    """Logits of a released file for a stated input.

    Attributes:
        model: registry name.
        outputs: logits that the file's own classification layer has.
        input: (1, samples, 12).
        logits: the first ones.
        tolerance: absolute; what is published is rounded.
        origin: who says so.
    """

    model: str
    outputs: int
    input: Callable[[], np.ndarray]
    logits: tuple[float, ...]
    tolerance: float
    origin: str


CHECKS = {
    "12_lead_ECGFounder.pth": PublishedCheck(
        "ecg_founder",
        150,
        # 60,000 values evenly spaced from -1 to 1, lead after lead.
        lambda: np.linspace(-1, 1, 60_000, dtype=np.float32).reshape(1, 12, 5000).swapaxes(1, 2),
        (8.3751, -4.1527, -6.7857, -2.8648, 4.4136, -2.2547, -5.3009, -6.1225, -1.0395, -1.8894),
        2e-3,
        "public code of third parties who opened the released file",
    ),
}
"""Name of a released file -> its check. Nobody here has seen the file: the values are as reported."""


def compare(model: Model, heads: dict[str, Any], file: str) -> str | None:
    """Compares converted weights with the published outputs of the file they are said to come from.

    Args:
        model: the converted model.
        heads: layers converted with it, from `ecgjax.models.weights.load_heads`.
        file: name of the source file, from the card.

    Returns:
        What was compared in a line; None if nothing is published for this file.

    Raises:
        UserError: the outputs differ.
    """
    check = CHECKS.get(file)
    if check is None or check.model != model.spec.name:
        return None
    head = heads.get("linear", {})
    kernel = np.asarray(head.get("kernel", np.zeros((0, 0))), np.float64)
    if kernel.shape[1] != check.outputs:
        raise UserError(
            f"{file} is known to have {check.outputs} outputs, these weights have {kernel.shape[1]}; "
            "expected the released file, or another file name"
        )
    pooled = np.asarray(model.features(check.input()).pooled[0], np.float64)
    found = (pooled @ kernel + np.asarray(head["bias"], np.float64))[: len(check.logits)]
    difference = float(np.abs(found - np.asarray(check.logits)).max())
    if not difference <= check.tolerance:
        raise UserError(
            f"the first logits differ by {difference:.3g} from those published for {file} ({check.origin}); expected "
            f"at most {check.tolerance:g}: this is not the released file, or it was converted wrongly"
        )
    return f"the first {len(check.logits)} logits are those published for {file} (difference {difference:.1e})"
