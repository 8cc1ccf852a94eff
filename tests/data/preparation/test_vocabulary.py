"""Counting, filtering and order of classes (datasets.md 1.3); folds of patients (1.4)."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ecgjax.data.preparation.folds import NOWHERE, patient_folds, record_folds
from ecgjax.data.preparation.vocabulary import label_set, multi_hot, vocabulary

LISTS = [["b", "b"], ["A", "_x"], ["22", "147"], ["A"], []]


def test_repeats_count_and_strings_sort_as_strings() -> None:
    assert vocabulary(LISTS) == ("147", "22", "A", "_x", "b")
    assert vocabulary(LISTS, 2) == ("A", "b")
    assert vocabulary([["x", "y"], ["z", "y"]], order="count") == ("y", "x", "z")


def test_duplicates_collapse_and_unlabelled_records_stay() -> None:
    classes, targets, kinds = label_set(LISTS, ("A", "b"))
    assert targets.dtype == np.float32
    assert targets.tolist() == [[0, 1], [1, 0], [0, 0], [1, 0], [0, 0]]
    assert classes == ("A", "b")
    assert kinds == ("classification",) * 2
    assert multi_hot([], ("A",)).shape == (0, 1)


def test_unlabelled_records_are_in_no_fold() -> None:
    folds = record_folds([["a"], [], ["a"], ["b"]], folds=2)
    assert folds[1] == NOWHERE
    assert set(folds[[0, 2]].tolist()) == {0, 1}


@given(
    st.lists(st.tuples(st.lists(st.sampled_from("abc"), max_size=3), st.integers(0, 6)), min_size=1, max_size=40),
    st.booleans(),
)
def test_a_patient_is_in_one_fold(records: list[tuple[list[str], int]], demographics: bool) -> None:
    lists = [labels for labels, _ in records]
    patients = [f"p{patient}" for _, patient in records]
    extra = {"male": [p < "p3" for p in patients], "ages": [30.0] * len(lists)} if demographics else {}
    folds = patient_folds(lists, patients, folds=4, **extra)
    assert all(len(set(folds[np.array(patients) == patient])) == 1 for patient in patients)
    assert ((folds >= 0) | (folds == NOWHERE)).all()
    if demographics:
        assert (folds >= 0).all()
