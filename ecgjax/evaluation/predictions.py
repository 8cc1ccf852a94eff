"""Test predictions of a run, read and checked: one that cannot be is refused, and never averaged in."""

import io
import threading
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecgjax.errors import UserError

NPZ_READING = threading.Lock()
"""To be held while arrays are read from .npz files: numpy parses their headers with `ast.literal_eval`, which fails in
several threads at once before Python 3.11.8 ("AST constructor recursion depth mismatch")."""


@dataclass(frozen=True)
class Predictions:
    """Test predictions of one run, checked.

    Attributes:
        record_id: (records,) distinct.
        targets: (records, labels), NaN where unknown.
        scores: (records, labels): probabilities, or standardised values.
        labels: names, distinct.
        kinds: "classification" or "regression" of each.
        patient_id: (records,), None in runs that did not write it.
    """

    record_id: NDArray[np.str_]
    targets: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: tuple[str, ...]
    kinds: tuple[str, ...]
    patient_id: NDArray[np.str_] | None


def read_predictions(content: bytes, path: Path) -> Predictions:
    """Predictions of a file, checked.

    Args:
        content: of the file.
        path: for messages.

    Raises:
        UserError: the file is damaged, or holds what predictions cannot be.
    """
    try:
        with NPZ_READING, np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if not name.startswith("crop_")}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise UserError(f"{path.name} is damaged ({' '.join(str(error).split())})") from error
    missing = [name for name in ("record_id", "targets", "scores", "labels", "kinds") if name not in arrays]
    if missing:
        raise UserError(f"{path.name} has no {missing[0]}")
    ids, labels, kinds = (arrays[name] for name in ("record_id", "labels", "kinds"))
    targets, scores = arrays["targets"], arrays["scores"]
    shape = (len(np.atleast_1d(ids)), len(np.atleast_1d(labels)))
    if not (targets.shape == scores.shape == shape and kinds.shape == labels.shape and 0 not in shape):
        raise UserError(
            f"{path.name}: targets {targets.shape}, scores {scores.shape}, {ids.shape} record ids, {labels.shape} "
            f"labels, {kinds.shape} kinds; expected one row for each record and one column for each label"
        )
    if not (targets.dtype.kind == scores.dtype.kind == "f"):
        raise UserError(f"{path.name}: {targets.dtype} targets, {scores.dtype} scores; expected floating point")
    for name, values in (("record id", ids), ("label", labels)):
        repeated = _repeated(values)
        if repeated is not None:
            raise UserError(f"{path.name}: {name} {repeated!r} is there twice; expected each once")
    found = Predictions(
        ids.astype(str),
        targets,
        scores,
        tuple(map(str, labels)),
        tuple(map(str, kinds)),
        arrays["patient_id"].astype(str) if "patient_id" in arrays else None,
    )
    _check_values(found, path.name)
    return found


def _check_values(found: Predictions, name: str) -> None:
    kinds = np.array(found.kinds)
    unknown = sorted(set(found.kinds) - {"classification", "regression"})
    if unknown:
        raise UserError(f"{name}: kind {unknown[0]!r}; expected classification or regression")
    if found.patient_id is not None and found.patient_id.shape != found.record_id.shape:
        raise UserError(f"{name}: {found.patient_id.shape} patient ids; expected one for each record")
    classes = kinds == "classification"
    targets, scores = found.targets, found.scores
    for wrong, what, expected in (
        (np.isnan(scores), "score is NaN", "a number"),
        (np.isinf(scores), "score is infinite", "a number"),
        (classes & ((scores < 0) | (scores > 1)), "score is not a probability", "0 to 1"),
        (np.isinf(targets), "target is infinite", "a number, or NaN where unknown"),
        (classes & (targets != 0) & (targets != 1) & ~np.isnan(targets), "target is not a class", "0, 1 or NaN"),
    ):
        if wrong.any():
            i, j = np.argwhere(wrong)[0]
            value = (targets if "target" in what else scores)[i, j]
            more = f", and {np.count_nonzero(wrong) - 1:,} more" if np.count_nonzero(wrong) > 1 else ""
            where = f"record {str(found.record_id[i])!r}, label {found.labels[j]!r}"
            raise UserError(f"{name}: {what} ({value:g} at {where}{more}); expected {expected}")


def _repeated(values: NDArray) -> str | None:
    distinct, counts = np.unique(values, return_counts=True)
    return str(distinct[counts > 1][0]) if len(distinct) < len(values) else None
