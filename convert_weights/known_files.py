"""Released files that are recognised by their SHA-256."""

from typing import NamedTuple


class KnownFile(NamedTuple):
    """A released file: the model it is of, and where it was published."""

    model: str
    description: str


KNOWN = {
    "bc253edc6ac279ce2caec86d3c3a21b740e43735ca03be1dc7c50e630b0ad4cf": KnownFile(
        "ecg_cpc", "ECG-CPC as released: last_11597276.ckpt of figshare 30192604"
    ),
}
"""SHA-256 of a file -> what it is."""
