"""The traps of the data sets (datasets.md, section 7), and the tests that fail if one is fallen into."""

import ast
from functools import cache
from pathlib import Path

import pytest

from ecgjax import tasks
from ecgjax.data import sources

HERE = Path(__file__).parent

# Number in section 7 and what it is about -> tests, the file seen from this folder.
TRAPS = {
    "1 CPSC2018's labels are those of its siblings": ["test_tasks_of_stores::test_a_row_has_its_columns"],
    "2 records go by name, not by directory": [
        "test_challenge::test_signals_are_millivolts_in_canonical_order",
        "test_challenge::test_folds_are_stratified_over_all_names",
        "test_ptb::test_folds_of_patients_are_the_spec_s",
    ],
    "3 order of classes": [
        "test_ptbxl::test_other_sets_go_through_the_statements",
        "test_ptb::test_labels_and_their_order",
        "test_sph::test_all_drops_the_modifiers",
        "test_echonext::test_label_sets",
        "test_mimic::test_diagnoses",
        "test_heedb::test_vocabulary_counts_all_interpretations",
    ],
    "4 CODE-15%: AF before ST": ["test_code::test_exams_are_read_and_joined_by_id"],
    "5 CODE-15%: dummy rows, join, duplicates": [
        "test_code::test_exams_are_read_and_joined_by_id",
        "test_code::test_repeated_tracings",
    ],
    "6 CODE-15%: none of the six is not normal": ["test_code::test_stores_of_both"],
    "7 CODE-test: order of the leads": ["test_code::test_code_test_reorders_leads_by_name"],
    "8 MIMIC: order of the leads": ["test_mimic::test_signals_are_repaired_and_in_canonical_order"],
    "9 MIMIC: joins by study, two columns of folds, a stray index": [
        "test_mimic::test_acute_care_and_sex_are_joined_by_study",
        "test_mimic::test_cohort_and_folds",
    ],
    "10 MIMIC: missing gender is a word, masked ages": [
        "test_mimic::test_acute_care_and_sex_are_joined_by_study",
        "test_mimic_measurements::test_targets_are_those_of_the_plain_definition",
    ],
    "11 MIMIC: sentinels of the machine": ["test_mimic_measurements::test_ecg_features_by_hand"],
    "12 MIMIC: percentiles": [
        "test_mimic_measurements::test_targets_are_those_of_the_plain_definition",
        "test_mimic_measurements::test_protocols_differ_where_the_help_says_so",
    ],
    "13 EchoNext: case of names, z-scores, unmeasured findings, order of rows and features": [
        "test_echonext::test_name_of_the_metadata_in_the_readme_and_a_folder_in_between",
        "test_echonext::test_facts",
        "test_echonext::test_label_sets",
        "test_echonext::test_records_and_signals",
        "test_echonext::test_index_has_measurements_and_the_true_order_of_the_tabular_features",
    ],
    "14 EchoNext: folds below 0": ["test_echonext::test_folds", "test_echonext::test_end_to_end"],
    "15 records without labels train, but not CODE-15%'s": [
        "test_challenge::test_folds_are_stratified_over_all_names",
        "test_code::test_exams_without_annotations_are_out_of_every_fold",
        "../../evaluation/test_labelled::test_records_of_no_fold_train_unless_the_task_says_otherwise",
    ],
    "16 PTB-XL: AVR, folds from 1, nan, ages of 300, likelihood 0": [
        "test_ptbxl::test_records_are_the_generators",
        "test_ptbxl::test_wfdb_reads_the_same",
        "test_ptbxl::test_cells_of_statements",
        "test_ptbxl::test_all_is_every_key_whatever_its_likelihood",
    ],
    "17 PTB: two files, CRLF, a key twice, decimals, no sex": [
        "test_ptb::test_records_are_the_generators",
        "test_ptb::test_wfdb_reads_the_same",
        "test_ptb::test_labels_and_their_order",
    ],
    "18 Chapman: microvolts, NONE": ["test_chapman::test_records_are_the_generators", "test_chapman::test_label_sets"],
    "20 SPH: float16, numbers as text, an archive that is no gzip, a label twice": [
        "test_sph::test_records_are_the_generators",
        "test_sph::test_all_drops_the_modifiers",
        "test_sph::test_the_archive_must_be_unpacked",
        "test_sph::test_a_statement_given_twice_counts_twice",
    ],
    "21 ZZU: nine leads, quotes, days, gains, rails, prose": [
        "test_zzu_pecg::test_records_and_signals",
        "test_zzu_pecg::test_saturated_records_are_marked",
        "test_zzu_pecg::test_label_sets",
        "test_zzu_pecg::test_a_record_of_nine_leads_said_to_have_twelve_is_rejected",
    ],
    "22 short records count for classes, not for training": [
        "test_challenge::test_classes_are_the_names_of_the_workbook",
        "../../evaluation/test_labelled::test_records_shorter_than_ten_seconds_are_in_no_split",
    ],
    "23 Ningbo: S23074": ["test_challenge::test_cohorts_in_one_place_are_told_apart"],
    "24 the workbook's codes": [
        "test_challenge::test_mapping_of_the_miniature",
        "test_challenge::test_codes_are_text_however_they_are_stored",
        "test_challenge::test_cohorts_in_one_place_are_told_apart",
    ],
    "26 crops: the last start, crop before resampling": [
        "../test_crops::test_golden_starts",
        "../test_crops::test_last_start_is_drawn",
        "../test_batches::test_batches_are_the_resampled_signals",
    ],
}  # fmt: skip
# 25 and 27 to 30 are faults of code that ecgjax does not have.
OVERLAPS = {
    "ptbxl": "Challenge 2021",
    "ptb": "Challenge 2021",
    "chapman": "Challenge 2021",
    "cpsc2018": "Challenge 2021",
    "ningbo": "Challenge 2021",
    "georgia": "Challenge 2021",
    "cpsc_extra": "Challenge 2021",
}
"""Traps 18 and 19: sources whose recordings are in the Challenge too, which their help must say."""


@cache
def functions(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("trap", TRAPS)
def test_every_trap_has_its_tests(trap: str) -> None:
    for test in TRAPS[trap]:
        file, _, name = test.partition("::")
        assert name in functions(HERE / f"{file}.py")


@pytest.mark.parametrize("name", OVERLAPS)
def test_sources_say_what_they_share(name: str) -> None:
    assert OVERLAPS[name] in " ".join((sources.load(name).__doc__ or "").split())
    assert f"`{name}`" in (HERE.parents[2] / "docs" / "data.md").read_text().split("## The same recordings twice")[1]


def test_the_sources_of_the_challenge_are_seen_together() -> None:
    from ecgjax.seen import CHALLENGE_2021

    assert set(OVERLAPS) == set(CHALLENGE_2021) <= {run.source for run in tasks.RUNS.values()}
