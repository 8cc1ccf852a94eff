"""The four event tables of MIMIC-IV that targets are made of: which of their values are which target, in which unit.

omr           height, weight, BMI                                    outpatients' records, by day
vitalsign     the six vital signs                                    emergency department
labevents     the 18 laboratory values                               by the time they were stored
chartevents   height, weight, vital signs and laboratory values      intensive care, by the time they were stored
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ecgjax.data.sources.mimic_events import EVENT, Item, Table
from ecgjax.data.sources.mimic_files import Files
from ecgjax.errors import UserError

HOUR = 3600
DAYS_30 = 31 * 24 * HOUR - 1
"""The longest distance of which the whole days are not above 30."""

BIOMETRICS = {"Height (Inches)": "height", "Weight (Lbs)": "weight", "BMI (kg/m2)": "bmi"}
"""Target by `result_name` of omr."""

LABS = {
    "PT": "pt",
    "Albumin": "albumin",
    "Anion Gap": "anion_gap",
    "Bicarbonate": "bicarbonate",
    "Bilirubin, Total": "bilirubin_total",
    "Calcium, Total": "calcium_total",
    "Creatinine": "creatinine",
    "Ferritin": "ferritin",
    "Urea Nitrogen": "urea_nitrogen",
    "Hematocrit": "hematocrit",
    "Hemoglobin": "hemoglobin",
    "Lymphocytes": "lymphocytes",
    "MCHC": "mchc",
    "RDW": "rdw",
    "Red Blood Cells": "red_blood_cells",
    "RDW-SD": "rdw_sd",
    "Creatine Kinase (CK)": "creatine_kinase",
    "NTproBNP": "ntprobnp",
}
"""Target by label in d_labitems."""

VITALS = ("dbp", "heartrate", "o2sat", "resprate", "sbp", "temperature")
"""Targets that are columns of vitalsign."""

LAB_ITEMS = (
    *(50963, 51006, 52647, 50811, 51222, 51640, 50912, 52546, 50924, 51221, 51480, 51638, 51639, 52028, 50862, 53085),
    *(52172, 50868, 52500, 51277, 50882, 50885, 53089, 51237, 51675, 51279, 51274, 52921, 50910, 51249, 50893, 51244),
)
"""Item ids that are looked for. 51237 and 51675 are INR, which is no target."""

_POUNDS = 2.20462
_INCHES = 0.393701

# Label in d_items: target, factor, offset, whether a unit is needed.
_CHART: dict[str, tuple[str, float, float, bool]] = {
    "Height": ("height", 1.0, 0.0, False),
    "Height (cm)": ("height", _INCHES, 0.0, False),
    "Daily Weight": ("weight", _POUNDS, 0.0, True),
    "Admission Weight (Kg)": ("weight", _POUNDS, 0.0, True),
    "Temperature Celsius": ("temperature", 9 / 5, 32.0, False),
    "Temperature Fahrenheit": ("temperature", 1.0, 0.0, False),
    "Heart Rate": ("heartrate", 1.0, 0.0, False),
    "Respiratory Rate": ("resprate", 1.0, 0.0, False),
    "O2 saturation pulseoxymetry": ("o2sat", 1.0, 0.0, False),
    "Albumin": ("albumin", 1.0, 0.0, True),
    "Total Bilirubin": ("bilirubin_total", 1.0, 0.0, True),
    "Creatinine (serum)": ("creatinine", 1.0, 0.0, True),
    "Hematocrit (serum)": ("hematocrit", 1.0, 0.0, True),
    "Hemoglobin": ("hemoglobin", 1.0, 0.0, False),
}

_ID = pa.int64()
_TIME = pa.timestamp("us")


def tables(files: Files, without: tuple[str, ...] = ()) -> list[Table]:
    """The tables to stream, but for those to do without.

    Raises:
        UserError: d_labitems or d_items is not as published.
    """
    makers: dict[str, Callable[[Files], Table]] = {
        "omr": _omr,
        "vitalsign": _vitalsign,
        "labevents": _labevents,
        "chartevents": _chartevents,
    }
    return [make(files) for part, make in makers.items() if part not in without]


def _omr(files: Files) -> Table:
    items = tuple(Item(label, label, quantity, DAYS_30) for label, quantity in BIOMETRICS.items())
    columns = {"subject_id": _ID, "chartdate": _TIME, "result_name": pa.string(), "result_value": pa.string()}
    return Table("omr", files.tables["omr.csv.gz"], columns, items, _omr_events)


def _omr_events(piece: pa.Table, items: tuple[Item, ...]) -> pa.Table:
    item, piece = _chosen(piece, "result_name", items)
    # Blood pressures are written as "110/65"; what is no number is no value.
    value = pd.to_numeric(piece["result_value"].to_pandas(), errors="coerce").to_numpy(float, na_value=np.nan)
    return _events(piece, "chartdate", item, pa.array(value), items).filter(pa.array(~np.isnan(value)))


def _vitalsign(files: Files) -> Table:
    items = tuple(Item(name, name, name, HOUR) for name in VITALS)
    columns = {"subject_id": _ID, "charttime": _TIME, **dict.fromkeys(VITALS, pa.float64())}
    return Table("vitalsign", files.tables["vitalsign.csv.gz"], columns, items, _vitalsign_events)


def _vitalsign_events(piece: pa.Table, items: tuple[Item, ...]) -> pa.Table:
    same = np.zeros(piece.num_rows, np.int32)
    return pa.concat_tables(
        _events(piece, "charttime", pa.array(same + i), piece[str(item.source)], items) for i, item in enumerate(items)
    )


def _labevents(files: Files) -> Table:
    dictionary = _dictionary(files.tables["d_labitems.csv.gz"])
    labels = {number: dictionary[number] for number in LAB_ITEMS if dictionary.get(number) in LABS}
    items = tuple(Item(number, label, LABS[label], HOUR) for number, label in labels.items())
    return _by_item_id("labevents", files, items)


def _chartevents(files: Files) -> Table:
    dictionary = _dictionary(files.tables["d_items.csv.gz"])
    items = []
    for number, label in sorted(dictionary.items()):
        if label in _CHART:
            quantity, factor, offset, needs_unit = _CHART[label]
            seconds = DAYS_30 if quantity in BIOMETRICS.values() else HOUR
            items.append(Item(number, label, quantity, seconds, factor, offset, needs_unit))
    return _by_item_id("chartevents", files, tuple(items))


def _by_item_id(name: str, files: Files, items: tuple[Item, ...]) -> Table:
    if not items:
        raise UserError(f"{files.raw}: the dictionary of {name} has none of the items sought; expected MIMIC-IV's own")
    columns = {"subject_id": _ID, "itemid": _ID, "storetime": _TIME, "valuenum": pa.float64(), "valueuom": pa.string()}
    return Table(name, files.tables[f"{name}.csv.gz"], columns, items, _item_events)


def _item_events(piece: pa.Table, items: tuple[Item, ...]) -> pa.Table:
    item, piece = _chosen(piece, "itemid", items)
    return _events(piece, "storetime", item, piece["valuenum"], items, piece["valueuom"])


def _chosen(piece: pa.Table, column: str, items: tuple[Item, ...]) -> tuple[pa.Array, pa.Table]:
    """The number of each row's item and the rows, of the rows that have one."""
    number = pc.index_in(piece[column], value_set=pa.array([item.source for item in items]))
    there = pc.is_valid(number)
    return number.filter(there), piece.filter(there)


def _events(
    piece: pa.Table,
    time: str,
    item: pa.Array,
    value: pa.Array,
    items: tuple[Item, ...],
    unit: pa.Array | None = None,
) -> pa.Table:
    number = item.to_numpy()
    factor, offset = (np.array([getattr(item, name) for item in items]) for name in ("factor", "offset"))
    seconds = piece[time].cast(pa.timestamp("s"), safe=False).cast(pa.int64())
    values = value.to_numpy(zero_copy_only=False) if isinstance(value, pa.Array) else value.to_numpy()
    columns = {
        "subject": piece["subject_id"],
        "time": seconds,
        "item": item,
        "unit": pa.nulls(len(number), pa.string()) if unit is None else unit,
        "value": pa.array(values.astype(float) * factor[number] + offset[number]),
        "row": piece["row"],
    }
    return pa.table(columns, schema=EVENT.append(pa.field("row", pa.int64())))


def _dictionary(path: Path) -> dict[int, str]:
    """Label by item id."""
    try:
        table = pd.read_csv(path, usecols=["itemid", "label"], dtype={"itemid": np.int64, "label": str})
    except (ValueError, OSError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read ({reason}); expected columns itemid and label") from error
    return dict(zip(table["itemid"].tolist(), table["label"].fillna("").str.strip(), strict=True))
