"""Stratification: the benchmark's own subsets, and what must hold for any input."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgjax.data.stratify import stratify, stratify_in_batches
from ecgjax.errors import UserError
from tests.conftest import load_golden

A = [[i % 4, 4 + (i % 3 == 0)] + ([6] if i % 7 == 0 else []) for i in range(30)]


def test_golden_a_equal_folds():
    assert stratify(A, range(7), [0.1] * 10) == [
        [4, 21, 23], [12, 17, 18], [1, 10, 19, 24], [6, 11, 16], [14, 15, 29],
        [25, 27, 28], [7, 9], [0, 2, 5], [8, 13, 22], [3, 20, 26],
    ]  # fmt: skip


def test_golden_b_strings_and_an_unlabelled_item():
    data = [list(item) for item in ("a", "ab", "b", "c", "acc", "", "b", "a", "c", "ab")]
    assert stratify(data, "abc", [0.25] * 4) == [[8, 9], [2, 4], [6, 7], [0, 1, 3]]


def test_golden_c_groups_of_several_records():
    data = [[0, 0, 1], [1], [0], [2, 2, 2], [0, 1], [1, 2], [0], [2]]
    found = stratify(data, range(3), [0.5, 0.5], samples_per_group=[3, 1, 1, 3, 2, 2, 1, 1], seed=42)
    assert found == [[0, 5, 7], [1, 2, 3, 4, 6]]


def test_golden_d_batches():
    assert stratify_in_batches(A, range(7), [0.5, 0.5], batch_size=12) == [
        [2, 5, 8, 9, 11, 12, 14, 15, 17, 18, 20, 22, 27, 28, 29],
        [0, 1, 3, 4, 6, 7, 10, 13, 16, 19, 21, 23, 24, 25, 26],
    ]


@pytest.fixture(scope="module")
def table():
    return load_golden("stratify")[0]


def row_labels(row):
    band = ("<20", "20-40", "40-60", "60-80", ">=80")[min(row["age"] // 20, 4)]
    return ["male" if row["sex"] == "male" else "female", band, *row["labels"]]


def test_golden_label_efficiency_subsets(table):
    """The benchmark's cut of the training data: shuffle, one record per patient, stratify by sex, age and labels."""
    rows = table["table"]
    order = np.random.RandomState(42).choice(len(rows), len(rows), replace=False).tolist()
    assert order == table["shuffled_row_order"]
    kept = list({rows[i]["patient"]: i for i in reversed(order)}.values())[::-1]
    kept = sorted(kept, key=order.index)
    assert kept == table["rows_after_one_per_patient"]
    labels = [row_labels(rows[i]) for i in kept]
    classes = sorted({label for item in labels for label in item})
    for name, expected in table["subset_rows"].items():
        ratio = int(name.split("/")[0]) / int(name.split("/")[1])
        found = kept if ratio == 1 else [kept[i] for i in stratify(labels, classes, [ratio, 1 - ratio])[0]]
        assert found == expected, name


def test_golden_subset_without_patients(table):
    labels = [row_labels(row) for row in table["table"]]
    classes = sorted({label for item in labels for label in item})
    found = stratify(labels, classes, [0.25, 0.75])[0]
    assert found == sorted(table["subset_rows_ratio_quarter_without_patient_dedup"])


def test_golden_patient_folds(table):
    golden, rows = table["patient_folds"], table["table"]
    names = sorted({label for row in rows for label in row["labels"]})
    labels, weights = [], []
    for patient in golden["patients"]:
        own = [row for row in rows if row["patient"] == patient]
        labels.append([label for row in own for label in [*map(names.index, row["labels"]), 6]])
        weights.append(len(own))
    # The constant label closes each row's list or the patient's: its place does not matter, only how often it is there.
    found = stratify(labels, range(7), [0.1] * 10, weights)
    assert [[golden["patients"][i] for i in fold] for fold in found] == golden["fold_patient_ids"]


def test_golden_row_folds(table):
    rows = table["table"]
    classes = sorted({label for row in rows for label in row["labels"]})
    found = stratify([row["labels"] for row in rows], classes, [0.1] * 10)
    assert found == table["row_folds"]["fold_rows"]
    assert sorted(set(range(len(rows))).difference(*found)) == table["row_folds"]["unassigned"]


def test_numpys_global_random_state_is_left_alone():
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    stratify(A, range(7), [0.1] * 10)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@given(st.lists(st.lists(st.integers(0, 5), max_size=6), max_size=60), st.integers(2, 6), st.integers(0, 3))
def test_every_labelled_group_is_in_one_subset(labels, n_subsets, seed):
    subsets = stratify(labels, range(6), [1 / n_subsets] * n_subsets, seed=seed)
    placed = [group for subset in subsets for group in subset]
    assert sorted(placed) == [i for i, item in enumerate(labels) if item]
    assert all(subset == sorted(subset) for subset in subsets)
    assert subsets == stratify(labels, range(6), [1 / n_subsets] * n_subsets, seed=seed)


@given(st.integers(0, 20), st.integers(2, 5))
def test_a_single_label_is_spread_evenly(seed, n_subsets):
    subsets = stratify([["x"]] * 97, ["x"], [1 / n_subsets] * n_subsets, seed=seed)
    sizes = [len(subset) for subset in subsets]
    assert max(sizes) - min(sizes) <= 1


def test_a_hundred_thousand_records_take_seconds():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 5, size=100_000)
    labels = [[*row[:n], 71] for row, n in zip(rng.integers(0, 71, size=(100_000, 5)).tolist(), counts, strict=True)]
    start = time.process_time()
    subsets = stratify(labels, range(72), [0.1] * 10)
    # 1.2 s on an idle core; the greedy text as it stands takes hours.
    assert time.process_time() - start < 20
    share = np.array([np.bincount(np.concatenate([labels[i] for i in s]), minlength=72) for s in subsets])
    np.testing.assert_allclose(share / share.sum(axis=0), 0.1, atol=0.03)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([["a"], ["b"]], ["a"], [0.5, 0.5]), "label 'b' of group 1"),
        (([["a"]], ["a", "a"], [0.5, 0.5]), "unique"),
        (([["a"]], ["a"], [0.5, 0.5], [1, 2]), "samples_per_group has 2 entries for 1 groups"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        stratify(*arguments)
