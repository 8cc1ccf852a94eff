import pytest

from ecgjax import tasks
from ecgjax.errors import UserError

# All 71 PTB-XL statements.
PTBXL = (
    *("1AVB", "2AVB", "3AVB", "ABQRS", "AFIB", "AFLT", "ALMI", "AMI", "ANEUR", "ASMI", "BIGU", "CLBBB", "CRBBB"),
    *("DIG", "EL", "HVOLT", "ILBBB", "ILMI", "IMI", "INJAL", "INJAS", "INJIL", "INJIN", "INJLA", "INVT", "IPLMI"),
    *("IPMI", "IRBBB", "ISCAL", "ISCAN", "ISCAS", "ISCIL", "ISCIN", "ISCLA", "ISC_", "IVCD", "LAFB", "LAO/LAE"),
    *("LMI", "LNGQT", "LOWT", "LPFB", "LPR", "LVH", "LVOLT", "NDT", "NORM", "NST_", "NT_", "PAC", "PACE", "PMI"),
    *("PRC(S)", "PSVT", "PVC", "QWAVE", "RAO/RAE", "RVH", "SARRH", "SBRAD", "SEHYP", "SR", "STACH", "STD_", "STE_"),
    *("SVARR", "SVTAC", "TAB_", "TRIGU", "VCLVH", "WPW"),
)


def _selected(task, classes, kind="classification"):
    return [classes[i] for i in tasks.TASKS[task].select(classes, [kind] * len(classes))]


def test_the_benchmark_has_14_head_runs_and_28_rows():
    published = [task for task in tasks.TASKS.values() if task.row]
    assert len({task.row for task in published}) == len(published) == 28
    assert len({task.run for task in published}) == 14
    assert len({task.category for task in published}) == 7
    assert sum(task.metric == "mae" for task in published) == 5


def test_tables_fit_together():
    for task in tasks.TASKS.values():
        assert task.run in tasks.RUNS
    assert {task.run for task in tasks.TASKS.values()} == set(tasks.RUNS)
    assert set(tasks.names()) == {*tasks.TASKS, "mimic"}


def test_ptbxl_subsets_have_the_standard_sizes():
    assert len(PTBXL) == len(set(PTBXL)) == 71
    diagnostic, form, rhythm = (_selected(f"ptbxl_{name}", PTBXL) for name in ("diag", "form", "rhythm"))
    assert (len(diagnostic), len(form), len(rhythm)) == (44, 19, 12)
    assert set(diagnostic) & set(form) == {"NDT", "NST_", "DIG", "LNGQT"}
    assert set(diagnostic) | set(form) | set(rhythm) == set(PTBXL)


def test_mimic_columns_are_split_by_name_and_kind():
    classes = [
        *("I10", "I4891", "I50", "E785", "Z79", "V173", "N17", "deterioration_ecmo", "deterioration_icu_24h"),
        *("deterioration_mortality_28d", "sex", "age", "bmi", "qrs", "rdw", "rdw_sd", "sbp"),
    ]
    kinds = ["classification"] * 11 + ["regression"] * 6
    run, reported = tasks.get("mimic")
    assert run.name == "mimic"
    chosen = {task.name: [classes[i] for i in task.select(classes, kinds)] for task in reported}
    assert chosen["mimic_cardiac"] == ["I10", "I4891", "I50"]
    assert chosen["mimic_noncardiac"] == ["E785", "Z79", "V173", "N17"]
    assert chosen["mimic_labs"] == ["rdw", "rdw_sd"]
    # Every column is in exactly one row.
    assert sorted(name for found in chosen.values() for name in found) == sorted(classes)


def test_a_row_comes_first_among_the_rows_of_its_head_run():
    run, reported = tasks.get("ptbxl_form")
    assert run.name == "ptbxl_all"
    assert [task.name for task in reported] == ["ptbxl_form", "ptbxl_all", "ptbxl_diag", "ptbxl_rhythm"]


def test_metric_none_takes_all_kinds():
    kinds = ["classification", "regression"]
    assert tasks.TASKS["synthetic"].select(["AFIB", "qt"], kinds) == [0, 1]
    assert tasks.TASKS["ptb"].select(["AFIB", "qt"], kinds) == [0]


def test_unknown_task():
    with pytest.raises(
        UserError, match=r"task 'ptbxl_al' is unknown \(did you mean 'ptbxl_all'\?\); expected one of chapman,"
    ):
        tasks.get("ptbxl_al")
