"""The tables of MIMIC-IV-ECG with one row per study: MDS-ED's acute-care targets, and the machine's measurements."""

import io
from typing import Any

import numpy as np
import pandas as pd

from ecgjax.data.sources import mimic_zip
from ecgjax.data.sources.mimic_files import Files
from ecgjax.data.sources.mimic_measurements import MEASURED
from ecgjax.errors import UserError

ACUTE = tuple(
    f"deterioration_{name}"
    for name in (
        *("severe_hypoxemia", "ecmo", "vasopressors", "inotropes", "mechanical_ventilation", "cardiac_arrest"),
        *("icu_24h", "icu_stay", "mortality_1d", "mortality_7d", "mortality_28d", "mortality_90d", "mortality_180d"),
        *("mortality_365d", "mortality_stay"),
    )
)
"""Acute-care targets, in the order of mds_ed.csv."""

_UNKNOWN = -999


def acute(files: Files, study: np.ndarray) -> np.ndarray:
    """(studies, 15) acute-care targets, NaN where unknown."""
    path = files.tables["mds_ed.csv"]
    table = _table(path, path, ("general_study_id", *ACUTE), "MIMIC-IV-Ext-MDS-ED 1.0.0")
    values = table.drop(columns="general_study_id").replace(_UNKNOWN, np.nan)
    for name in ACUTE:
        wrong = values[name].notna() & ~values[name].isin((0, 1))
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise UserError(f"{path}: row {row + 2}, column {name!r} has {values[name][row]:g}; expected 0, 1 or -999")
    return _joined(values, table["general_study_id"], study)[list(ACUTE)].to_numpy(np.float32)


def measured(files: Files, study: np.ndarray) -> pd.DataFrame:
    """(studies) rows of the machine's measurements, NaN where there are none."""
    name = "machine_measurements.csv"
    path = files.tables.get(name)
    columns = ("study_id", *MEASURED)
    if path is None and files.archive is not None:
        content = io.BytesIO(mimic_zip.table(files.archive, name, mimic_zip.members(files.archive)))
        table = _table(content, f"{files.archive}/{name}", columns, "MIMIC-IV-ECG 1.0")
    else:
        table = _table(path, path, columns, "MIMIC-IV-ECG 1.0")
    return _joined(table.drop(columns="study_id"), table["study_id"], study)


def _table(file: Any, called: object, columns: tuple[str, ...], release: str) -> pd.DataFrame:
    """These columns as numbers; the first names the study."""
    try:
        table = pd.read_csv(file, usecols=list(columns), dtype={columns[0]: np.int64})
        return table.astype(dict.fromkeys(columns[1:], float))
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{called}: cannot be read ({reason}); expected the table of {release}") from error


def _joined(values: pd.DataFrame, own: pd.Series, study: np.ndarray) -> pd.DataFrame:
    """Rows of `values`, whose studies are `own`, of these studies; of a study that is there twice the first."""
    first = ~own.duplicated()
    return values[first].set_index(pd.Index(own[first])).reindex(study).reset_index(drop=True)
