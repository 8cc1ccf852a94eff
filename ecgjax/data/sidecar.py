"""What a bare table of numbers does not say about itself: rate, leads and unit, in a small JSON file.

`NAME.json` beside `NAME.csv`, `NAME.npy` or `NAME.mat` describes that file; the nearest `recordings.json` in the file's
folder or a folder above describes all the others:

    {"sampling_rate": 500, "unit": "mV", "leads": ["I", "II", "III", "aVR", "aVL", "aVF", "V1", ...]}

`sampling_rate` is in Hz. `unit` is "mV", "uV", "nV" or "V"; for raw numbers of a digitiser give "microvolt_per_bit"
instead. `leads` names the columns (or rows) in order; it may be left out where the file names them itself. `age`
(years) and `sex` ("male" or "female") are optional.
"""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from ecgjax.data.units import millivolts
from ecgjax.errors import UserError

FOLDER_FILE = "recordings.json"
_KEYS = ("sampling_rate", "unit", "microvolt_per_bit", "leads", "age", "sex")
_LARGEST = 2**20
_EXAMPLE = '{"sampling_rate": 500, "unit": "mV", "leads": ["I", "II", ...]}'


class Sidecar(NamedTuple):
    """How to read a table of numbers."""

    path: Path
    sampling_rate: float
    millivolts: float
    """Millivolts per unit of the numbers."""
    microvolt_per_bit: float | None
    leads: tuple[str, ...] | None
    metadata: dict[str, float | str]


def find_sidecar(path: Path) -> Path | None:
    """The JSON file that describes a recording, or None."""
    own = path.with_suffix(".json")
    if own.is_file():
        return own
    folders = path.absolute().parents
    return next((file for folder in folders if (file := folder / FOLDER_FILE).is_file()), None)


def read_sidecar(path: Path) -> Sidecar:
    """Reads the JSON file that describes the recording `path`.

    Raises:
        UserError: there is none, or it lacks something, or says something else than above.
    """
    file = find_sidecar(path)
    if file is None:
        raise UserError(
            f"{path}: no sampling rate; expected {path.stem}.json or {FOLDER_FILE} beside it with {_EXAMPLE}"
        )
    if file.stat().st_size > _LARGEST:
        raise UserError(f"{file}: {file.stat().st_size} bytes; expected {_EXAMPLE}")
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not JSON ({' '.join(str(error).split())}); expected {_EXAMPLE}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: no JSON object; expected {_EXAMPLE}")
    if unknown := sorted(set(content) - set(_KEYS)):
        raise UserError(f"{file}: unknown key {unknown[0]!r}; expected {', '.join(_KEYS)}")
    rate: Any = content.get("sampling_rate")
    if not _positive(rate):
        raise UserError(f"{file}: sampling_rate is {rate!r}; expected a positive number of Hz")
    scale, step = _scale(file, content)
    leads = content.get("leads")
    if leads is not None and not (isinstance(leads, list) and leads and all(isinstance(name, str) for name in leads)):
        raise UserError(f'{file}: leads is {leads!r}; expected a list of names such as ["I", "II"]')
    return Sidecar(file, float(rate), scale, step, None if leads is None else tuple(leads), _metadata(file, content))


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _scale(file: Path, content: dict[str, Any]) -> tuple[float, float | None]:
    """Millivolts per number, and microvolts per bit if the numbers are a digitiser's."""
    step: Any = content.get("microvolt_per_bit")
    unit = content.get("unit")
    if (step is None) == (unit is None):
        raise UserError(f'{file}: needs either "unit" ("mV", "uV", "nV" or "V") or "microvolt_per_bit"')
    if step is not None:
        if not _positive(step):
            raise UserError(f"{file}: microvolt_per_bit is {step!r}; expected a positive number")
        return float(step) / 1000, float(step)
    scale = millivolts(unit) if isinstance(unit, str) else None
    if scale is None:
        raise UserError(f'{file}: unit is {unit!r}; expected "mV", "uV", "nV" or "V"')
    return scale, None


def _metadata(file: Path, content: dict[str, Any]) -> dict[str, float | str]:
    metadata: dict[str, float | str] = {}
    age, sex = content.get("age"), content.get("sex")
    if age is not None:
        if isinstance(age, bool) or not isinstance(age, (int, float)) or not 0 <= age < 150:
            raise UserError(f"{file}: age is {age!r}; expected a number of years")
        metadata["age"] = float(age)
    if sex is not None:
        if sex not in ("male", "female"):
            raise UserError(f'{file}: sex is {sex!r}; expected "male" or "female"')
        metadata["sex"] = sex
    return metadata
