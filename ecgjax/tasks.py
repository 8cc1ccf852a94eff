"""The task table: what is trained (head runs) and what is reported of it (tasks). The only place that lists tasks.

A head run is one set of outputs trained together on one label set of one data set; a task is some of its columns. The
benchmark trains 14 head runs and reports 28 tasks (rows); three more are label lists of label-efficiency studies. Their
stores come from `ecgjax.prepare`; "synthetic" needs none, "folder" takes anybody's. A task of your own is a Python file
(docs/own_data.md).

    python -m ecgjax.tasks [TASK] [--stores=DIR]

prints the table, with the published number of classes beside that of your stores.
"""

import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from types import ModuleType
from typing import Literal

from ecgjax import plugins
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
        columns: regular expressions; a class of the label set is trained if one of them matches its whole name, in
            their order.
        labelled_only: records without any of these classes are not used in any split.
    """

    name: str
    source: str
    label_set: str | None
    min_seconds: float = 0.0
    min_fold: int | None = None
    epochs: int = 100
    columns: tuple[str, ...] = (".*",)
    labelled_only: bool = False


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
        classes: number of columns as published (datasets.md, section 2); None outside the tables.
    """

    name: str
    run: str
    category: str = "other"
    row: str | None = None
    columns: tuple[str, ...] = (".*",)
    metric: Metric | None = "auroc"
    classes: int | None = None

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


# The label lists of label-efficiency studies (datasets.md, 2); the paper shows EchoNext.
_FREQUENT = ("SR", "NORM", "ABQRS", "IMI", "ASMI", "LVH", "NDT", "LAFB", "AFIB", "ISC_", "PVC", "IRBBB", "STD_")
_ECHO_FINDINGS = (
    *("lvef_lte_45_flag", "lvwt_gte_13_flag", "tricuspid_regurgitation_moderate_or_greater_flag"),
    *("rv_systolic_dysfunction_moderate_or_greater_flag", "pasp_gte_45_flag", "tr_max_gte_32_flag"),
)

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
    HeadRun("ptbxl_label_efficiency", "ptbxl", "super"),
    HeadRun("ptbxl_all_label_efficiency", "ptbxl", "all", columns=_FREQUENT, labelled_only=True),
    HeadRun("echonext_label_efficiency", "echonext", "all", columns=_ECHO_FINDINGS),
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
    Task("ptb", "ptb", _ADULT, "PTB", classes=18),
    Task("ningbo", "ningbo", _ADULT, "Ningbo", classes=68),
    Task("cpsc2018", "cpsc2018", _ADULT, "CPSC2018", classes=9),
    Task("cpsc_extra", "cpsc_extra", _ADULT, "CPSC-Extra", classes=33),
    Task("georgia", "georgia", _ADULT, "Georgia", classes=50),
    Task("chapman", "chapman", _ADULT, "Chapman", classes=42),
    Task("chapman_rhythm", "chapman", _ADULT, "Chapman(rhythm)", _CHAPMAN_RHYTHM, classes=9),
    Task("sph", "sph", _ADULT, "SPH", classes=35),
    Task("code15_diag", "code15_diag", _ADULT, "CODE-15%", classes=6),
    Task("ptbxl_super", "ptbxl_super", _ADULT, "PTB-XL (super)", classes=5),
    Task("ptbxl_sub", "ptbxl_sub", _ADULT, "PTB-XL (sub)", classes=23),
    Task("ptbxl_all", "ptbxl_all", _ADULT, "PTB-XL (all)", classes=71),
    Task("ptbxl_diag", "ptbxl_all", _ADULT, "PTB-XL (diag)", _DIAGNOSTIC, classes=44),
    Task("ptbxl_form", "ptbxl_all", _ADULT, "PTB-XL (form)", _FORM, classes=19),
    Task("ptbxl_rhythm", "ptbxl_all", _ADULT, "PTB-XL (Rhythm)", _RHYTHM, classes=12),
    Task("zzu_pecg", "zzu_pecg", "pediatric_ecg_interpretation", "ZZU pECG", classes=58),
    Task("echonext", "echonext", "cardiac_structure_function", "EchoNext", classes=11),
    Task("mimic_cardiac", "mimic", "cardiac_outcomes", "MIMIC (Cardiac)", (_CIRCULATORY,), classes=158),
    Task(
        "mimic_noncardiac",
        "mimic",
        "non_cardiac_outcomes",
        "MIMIC (Non-cardiac)",
        (f"(?!{_CIRCULATORY}$){_ICD}",),
        classes=918,
    ),
    Task(
        "mimic_deterioration",
        "mimic",
        _ACUTE,
        "MIMIC (Deterioration)",
        ("deterioration_(severe_hypoxemia|ecmo|vasopressors|inotropes|mechanical_ventilation|cardiac_arrest)",),
        classes=6,
    ),
    Task("mimic_mortality", "mimic", _ACUTE, "MIMIC (mortality)", ("deterioration_mortality_.*",), classes=7),
    Task("mimic_icu", "mimic", _ACUTE, "MIMIC (ICU)", ("deterioration_icu_(24h|stay)",), classes=2),
    Task("mimic_sex", "mimic", _PATIENT, "MIMIC (Sex)", ("sex",), classes=1),
    Task("mimic_age", "mimic", _PATIENT, "MIMIC (Age)", ("age",), "mae", classes=1),
    Task("mimic_biometrics", "mimic", _PATIENT, "MIMIC (Biometrics)", ("height", "weight", "bmi"), "mae", classes=3),
    Task(
        "mimic_ecg_features",
        "mimic",
        _PATIENT,
        "MIMIC (ECG Features)",
        ("rr", "qrs", "qt", "qtc", "p_axis", "qrs_axis", "t_axis"),
        "mae",
        classes=7,
    ),
    Task("mimic_labs", "mimic", _PATIENT, "MIMIC (Lab Values)", _LABS, "mae", classes=18),
    Task(
        "mimic_vitals",
        "mimic",
        _PATIENT,
        "MIMIC (Vital Signs)",
        ("dbp", "heartrate", "o2sat", "resprate", "sbp", "temperature"),
        "mae",
        classes=6,
    ),
    Task("ptbxl_label_efficiency", "ptbxl_label_efficiency", "label_efficiency", classes=5),
    Task("ptbxl_all_label_efficiency", "ptbxl_all_label_efficiency", "label_efficiency", columns=_FREQUENT, classes=13),
    Task(
        "echonext_label_efficiency", "echonext_label_efficiency", "label_efficiency", columns=_ECHO_FINDINGS, classes=6
    ),
)

RUNS = {run.name: run for run in _RUNS}
TASKS = {task.name: task for task in _TASKS}


def names() -> tuple[str, ...]:
    """Names of all tasks, and of the head runs that are not a task themselves; sorted."""
    return tuple(sorted(_tasks().keys() | _runs().keys()))


def reported() -> tuple[Task, ...]:
    """All tasks, in the order of the published tables; those of other packages last."""
    return tuple({**TASKS, **_tasks()}.values())


def get(name: str) -> tuple[HeadRun, tuple[Task, ...]]:
    """The head run to train for a task or head run, and all tasks reported of it, the named one first.

    Args:
        name: of a task or a head run, or the path of a Python file that defines one head run and its tasks.

    Raises:
        UserError: unknown name, or a file without a head run.
    """
    if plugins.is_file(name):
        (run,), reported = _tables(plugins.load_file(name), name, most=1)
        return run, reported
    if name not in names():
        close = get_close_matches(name, names(), n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise UserError(
            f"task {name!r} is unknown{hint}; expected one of {', '.join(names())}, or the path of a Python file"
        )
    run = _runs()[_tasks()[name].run if name in _tasks() else name]
    found = [task for task in _tasks().values() if task.run == run.name]
    return run, tuple(sorted(found, key=lambda task: task.name != name))


def _runs() -> dict[str, HeadRun]:
    return {**{run.name: run for runs, _ in _installed() for run in runs}, **RUNS}


def _tasks() -> dict[str, Task]:
    return {**{task.name: task for _, found in _installed() for task in found}, **TASKS}


@cache
def _installed() -> tuple[tuple[tuple[HeadRun, ...], tuple[Task, ...]], ...]:
    """Head runs and tasks of other packages: the entry point group "ecgjax.tasks" (name = "module")."""
    modules = sorted(set(plugins.installed("ecgjax.tasks").values()))
    return tuple(_tables(importlib.import_module(module), module) for module in modules)


def _tables(module: ModuleType, name: str, most: int | None = None) -> tuple[tuple[HeadRun, ...], tuple[Task, ...]]:
    runs, found = tuple(getattr(module, "RUNS", ())), tuple(getattr(module, "TASKS", ()))
    if not runs or len(runs) > (most or len(runs)) or not all(isinstance(run, HeadRun) for run in runs):
        count = "one ecgjax.tasks.HeadRun" if most == 1 else "ecgjax.tasks.HeadRun objects"
        raise UserError(f"{name}: RUNS is {getattr(module, 'RUNS', None)!r}; expected a tuple of {count}")
    if not found or {task.run for task in found} != {run.name for run in runs}:
        raise UserError(f"{name}: TASKS must hold tasks of each head run in RUNS and of no other")
    return runs, found


if __name__ == "__main__":
    from ecgjax.reporting.task_table import main

    main()
