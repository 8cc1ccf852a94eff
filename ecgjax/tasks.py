"""The task table: what is trained (head runs) and what is reported of it (tasks). The only place that lists tasks.

A head run is one set of outputs trained together on one label set of one data set; a task is some of its columns. The
benchmark trains 14 head runs and reports 28 tasks (rows). Its stores come from `ecgjax.prepare`; "synthetic" needs
none, "folder" takes anybody's.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from ecgjax.errors import UserError

Metric = Literal["auroc", "mae"]


@dataclass(frozen=True)
class HeadRun:
    """What is trained together.

    Whatever the data set, its highest fold is the test set, the fold below it validation, all smaller ones training.

    Attributes:
        name: of the head run.
        source: data source that `ecgjax.prepare` knows; "synthetic" is embedded, "folder" is the user's own.
        label_set: label set of the store; None is the only one it has.
        min_seconds: shorter records are not used in any split.
        min_fold: records of lower folds are not used.
        epochs: of training.
    """

    name: str
    source: str
    label_set: str | None
    min_seconds: float = 0.0
    min_fold: int | None = None
    epochs: int = 100


@dataclass(frozen=True)
class Task:
    """What is reported: some columns of a head run.

    Attributes:
        name: of the task.
        run: name of the head run.
        category: the benchmark's category; "other" outside it.
        row: the name in the published tables; None outside them.
        columns: regular expressions; a class belongs to the task if one of them matches its whole name.
        metric: "auroc" (macro average) or "mae" (pooled, standardised targets); None takes each class by its kind.
    """

    name: str
    run: str
    category: str = "other"
    row: str | None = None
    columns: tuple[str, ...] = (".*",)
    metric: Metric | None = "auroc"

    def select(self, classes: Sequence[str], kinds: Sequence[str]) -> list[int]:
        """Indices of the task's columns among a head run's classes.

        Args:
            classes: names.
            kinds: "classification" or "regression" for each.
        """
        kind = {"auroc": "classification", "mae": "regression", None: None}[self.metric]
        return [
            i
            for i, (name, found) in enumerate(zip(classes, kinds, strict=True))
            if kind in (None, found) and any(re.fullmatch(pattern, name) for pattern in self.columns)
        ]


_RUNS = (
    HeadRun("synthetic", "synthetic", "all", epochs=10),
    HeadRun("folder", "folder", None),
    HeadRun("ptb", "ptb", "all"),
    HeadRun("ningbo", "ningbo", "all"),
    HeadRun("cpsc2018", "cpsc2018", "all", min_seconds=10),
    HeadRun("cpsc_extra", "cpsc_extra", "all", min_seconds=10),
    HeadRun("georgia", "georgia", "all", min_seconds=10),
    HeadRun("chapman", "chapman", "all"),
    HeadRun("sph", "sph", "all"),
    HeadRun("code15_diag", "code15", "all", min_seconds=10, min_fold=0),
    HeadRun("ptbxl_super", "ptbxl", "super"),
    HeadRun("ptbxl_sub", "ptbxl", "sub"),
    HeadRun("ptbxl_all", "ptbxl", "all"),
    HeadRun("echonext", "echonext", "all"),
    HeadRun("zzu_pecg", "zzu_pecg", "all", min_seconds=10),
    HeadRun("mimic", "mimic", "all"),
)

_ADULT = "adult_ecg_interpretation"
_PATIENT = "patient_characteristics"
_ACUTE = "acute_care_prediction"

# PTB-XL's statements that are form or rhythm; four forms are diagnostic too (NDT, NST_, DIG, LNGQT).
_FORM_ONLY = (
    *("ABQRS", "PVC", "STD_", "VCLVH", "QWAVE", "LOWT", "NT_", "PAC", "LPR", "INVT", "LVOLT", "HVOLT", "TAB_", "STE_"),
    r"PRC\(S\)",
)
_FORM = (*_FORM_ONLY, "NDT", "NST_", "DIG", "LNGQT")
_RHYTHM = ("SR", "AFIB", "STACH", "SARRH", "SBRAD", "PACE", "SVARR", "BIGU", "AFLT", "SVTAC", "PSVT", "TRIGU")
_DIAGNOSTIC = (f"(?!({'|'.join(_FORM_ONLY + _RHYTHM)})$).*",)
_CHAPMAN_RHYTHM = ("SB", "SR", "AFIB", "ST", "SVT", "AF", "SA", "AT", "AVNRT", "AVRT", "SAAWR")
# ICD-10-CM codes without the dot; chapter IX is I00 to I99.
_ICD = "[A-Z][0-9][0-9A-Z]*"
_CIRCULATORY = "I[0-9][0-9A-Z]*"
_LABS = (
    *("pt", "albumin", "anion_gap", "bicarbonate", "bilirubin_total", "calcium_total", "creatinine", "ferritin"),
    *("urea_nitrogen", "hematocrit", "hemoglobin", "lymphocytes", "mchc", "rdw", "red_blood_cells", "rdw_sd"),
    *("creatine_kinase", "ntprobnp"),
)

_TASKS = (
    Task("synthetic", "synthetic", metric=None),
    Task("folder", "folder", metric=None),
    Task("ptb", "ptb", _ADULT, "PTB"),
    Task("ningbo", "ningbo", _ADULT, "Ningbo"),
    Task("cpsc2018", "cpsc2018", _ADULT, "CPSC2018"),
    Task("cpsc_extra", "cpsc_extra", _ADULT, "CPSC-Extra"),
    Task("georgia", "georgia", _ADULT, "Georgia"),
    Task("chapman", "chapman", _ADULT, "Chapman"),
    Task("chapman_rhythm", "chapman", _ADULT, "Chapman(rhythm)", _CHAPMAN_RHYTHM),
    Task("sph", "sph", _ADULT, "SPH"),
    Task("code15_diag", "code15_diag", _ADULT, "CODE-15%"),
    Task("ptbxl_super", "ptbxl_super", _ADULT, "PTB-XL (super)"),
    Task("ptbxl_sub", "ptbxl_sub", _ADULT, "PTB-XL (sub)"),
    Task("ptbxl_all", "ptbxl_all", _ADULT, "PTB-XL (all)"),
    Task("ptbxl_diag", "ptbxl_all", _ADULT, "PTB-XL (diag)", _DIAGNOSTIC),
    Task("ptbxl_form", "ptbxl_all", _ADULT, "PTB-XL (form)", _FORM),
    Task("ptbxl_rhythm", "ptbxl_all", _ADULT, "PTB-XL (Rhythm)", _RHYTHM),
    Task("zzu_pecg", "zzu_pecg", "pediatric_ecg_interpretation", "ZZU pECG"),
    Task("echonext", "echonext", "cardiac_structure_function", "EchoNext"),
    Task("mimic_cardiac", "mimic", "cardiac_outcomes", "MIMIC (Cardiac)", (_CIRCULATORY,)),
    Task("mimic_noncardiac", "mimic", "non_cardiac_outcomes", "MIMIC (Non-cardiac)", (f"(?!{_CIRCULATORY}$){_ICD}",)),
    Task(
        "mimic_deterioration",
        "mimic",
        _ACUTE,
        "MIMIC (Deterioration)",
        ("deterioration_(severe_hypoxemia|ecmo|vasopressors|inotropes|mechanical_ventilation|cardiac_arrest)",),
    ),
    Task("mimic_mortality", "mimic", _ACUTE, "MIMIC (mortality)", ("deterioration_mortality_.*",)),
    Task("mimic_icu", "mimic", _ACUTE, "MIMIC (ICU)", ("deterioration_icu_(24h|stay)",)),
    Task("mimic_sex", "mimic", _PATIENT, "MIMIC (Sex)", ("sex",)),
    Task("mimic_age", "mimic", _PATIENT, "MIMIC (Age)", ("age",), "mae"),
    Task("mimic_biometrics", "mimic", _PATIENT, "MIMIC (Biometrics)", ("height", "weight", "bmi"), "mae"),
    Task(
        "mimic_ecg_features",
        "mimic",
        _PATIENT,
        "MIMIC (ECG Features)",
        ("rr", "qrs", "qt", "qtc", "p_axis", "qrs_axis", "t_axis"),
        "mae",
    ),
    Task("mimic_labs", "mimic", _PATIENT, "MIMIC (Lab Values)", _LABS, "mae"),
    Task(
        "mimic_vitals",
        "mimic",
        _PATIENT,
        "MIMIC (Vital Signs)",
        ("dbp", "heartrate", "o2sat", "resprate", "sbp", "temperature"),
        "mae",
    ),
)

RUNS = {run.name: run for run in _RUNS}
TASKS = {task.name: task for task in _TASKS}


def names() -> tuple[str, ...]:
    """Names of all tasks, and of the head runs that are not a task themselves; sorted."""
    return tuple(sorted(TASKS.keys() | RUNS.keys()))


def get(name: str) -> tuple[HeadRun, tuple[Task, ...]]:
    """The head run to train for a task or head run, and all tasks reported of it, the named one first.

    Raises:
        UserError: unknown name.
    """
    if name not in names():
        close = get_close_matches(name, names(), n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise UserError(f"task {name!r} is unknown{hint}; expected one of {', '.join(names())}")
    run = RUNS[TASKS[name].run if name in TASKS else name]
    reported = [task for task in _TASKS if task.run == run.name]
    return run, tuple(sorted(reported, key=lambda task: task.name != name))
