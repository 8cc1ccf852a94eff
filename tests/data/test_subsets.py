"""Subsets for label efficiency: the authors' own lists, and what must hold of the nested ones."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax import tasks
from ecgjax.data.recording import Recording
from ecgjax.data.store import open_store
from ecgjax.data.store_writer import StoreWriter
from ecgjax.data.subsets import METHODS, nested, paper, stratum_labels, subset
from ecgjax.errors import UserError
from ecgjax.evaluation import labelled
from tests.conftest import load_golden

RATIOS = [2.0**-k for k in range(8)]


@pytest.fixture(scope="module")
def golden():
    return load_golden("stratify")[0]


def _golden_strata(golden):
    rows = golden["table"]
    classes = sorted({label for row in rows for label in row["labels"]})
    targets = np.array([[name in row["labels"] for name in classes] for row in rows], np.float32)
    index = pd.DataFrame({"age": [row["age"] for row in rows], "sex": [row["sex"] for row in rows]})
    return [str(row["patient"]) for row in rows], stratum_labels(
        index, targets, classes, ["classification"] * len(classes)
    )


def test_paper_subsets_are_the_golden_ones(golden):
    patients, strata = _golden_strata(golden)
    assert len(golden["subset_rows"]) >= 6
    for name, expected in golden["subset_rows"].items():
        above, below = map(int, name.split("/"))
        assert paper(patients, strata, above / below) == expected, name


def _random(seed, patients=300, most=4):
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(patients), rng.integers(1, most + 1, patients))
    rng.shuffle(owners)
    common = rng.random((len(owners), 3)) < (0.5, 0.2, 0.05)
    strata = [
        [("male", "female")[owner % 2], ("<20", "40-60", ">=80")[owner % 3], *np.flatnonzero(row).astype(str)]
        for owner, row in zip(owners, common, strict=True)
    ]
    return [f"p{owner}" for owner in owners], strata


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.lists(st.floats(0.001, 1), min_size=2, max_size=5), st.integers(1, 60))
def test_nested_subsets_lie_inside_each_other(seed, ratios, n_patients):
    patients, strata = _random(seed, n_patients)
    smaller: set[int] = set()
    for ratio in sorted([*ratios, 1 / 2, 1 / 64, 1.0]):
        found = nested(patients, strata, ratio, seed=seed % 3)
        assert found == sorted(set(found))
        assert found
        assert smaller <= set(found), ratio
        smaller = set(found)
        chosen = {patients[i] for i in found}
        assert all(i in smaller for i, patient in enumerate(patients) if patient in chosen), "a patient was divided"
    assert smaller == set(range(len(patients)))


@pytest.mark.parametrize("seed", [0, 1])
def test_nested_subsets_have_their_size_and_every_stratum_its_share(seed):
    patients, strata = _random(seed, patients=4000)
    names = sorted({label for own in strata for label in own})

    def count(positions):
        return np.array([sum(name in strata[i] for i in positions) for name in names])

    whole = count(range(len(patients)))
    squares = []
    for ratio in [*RATIOS, 0.3, 0.8]:
        found = nested(patients, strata, ratio, seed)
        assert len(found) == pytest.approx(ratio * len(patients), abs=4 + 0.1 * ratio * len(patients))
        squares.append((count(found) - ratio * whole) ** 2 / (ratio * whole))
    # Whole patients drawn at random give 2 and more: 1 for records, times the records that a patient has.
    assert np.mean(squares) < 0.3


def test_another_seed_is_another_subset_and_the_same_seed_is_the_same():
    patients, strata = _random(0)
    subsets = [nested(patients, strata, 1 / 4, seed) for seed in (0, 0, 1)]
    assert subsets[0] == subsets[1] != subsets[2]


def test_the_papers_subsets_are_not_nested(golden):
    patients, strata = _golden_strata(golden)
    half, quarter = (set(paper(patients, strata, ratio)) for ratio in (1 / 2, 1 / 4))
    assert not quarter <= half


def test_strata():
    index = pd.DataFrame({"age": [19.9, 20.0, 90.0, np.nan], "sex": ["male", "F", None, "Unknown"]})
    targets = np.array([[1, 0, 2.0], [np.nan, 1, 1], [0, 0, np.nan], [1, 1, 3]], np.float32)
    kinds = ["classification", "classification", "regression"]
    assert stratum_labels(index, targets, ["a", "b", "x"], kinds) == [
        ["male", "<20", "a"],
        ["female", "20-40", "b"],
        ["sex unknown", ">=80"],
        ["sex unknown", "age unknown", "a", "b"],
    ]
    only = stratum_labels(pd.DataFrame(index=range(4)), targets[:, 2:], ["x"], ["regression"])
    assert [own[2:] for own in only] == [["x third 2"], ["x third 1"], [], ["x third 3"]]
    assert {tuple(own[:2]) for own in only} == {("sex unknown", "age unknown")}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """240 records of 160 patients in four folds, with PTB-XL's 13 frequent statements and some ages unknown."""
    path = tmp_path_factory.mktemp("stores") / "labels"
    rng = np.random.default_rng(0)
    names = ("IMI", "AFIB", "WPW", "SR", "rate")
    targets = np.concatenate([rng.random((240, 4)) < (0.3, 0.2, 0.2, 0.4), rng.normal(size=(240, 1))], axis=1)
    with StoreWriter(path, source="echonext", sampling_rate=100.0) as writer:
        for k in range(240):
            signal = np.zeros((10, 12), np.float32)
            details = {"age": None if k % 7 == 0 else float(k % 90), "sex": ("male", "female", None)[k % 3]}
            patient = k % 160
            writer.add(
                Recording(f"r{k:03d}", signal, 100.0), patient_id=f"p{patient}", fold=patient % 4, metadata=details
            )
        writer.finish({"all": (names, targets.astype(np.float32), ("classification",) * 4 + ("regression",))})
    return open_store(path)


def _subset(store, **arguments):
    labels = store.targets("all"), store.classes("all"), store.kinds("all")
    return subset(store, store.rows("train"), *labels, **arguments)


@pytest.mark.parametrize("method", METHODS)
def test_subsets_of_a_store(store, method):
    train = store.rows("train")
    patients = store.records["patient_id"].to_numpy()
    whole = train if method == "nested" else np.unique(patients[train])
    for ratio in RATIOS[:6]:
        found = _subset(store, ratio=ratio, method=method)
        assert (np.diff(found) > 0).all()
        assert np.isin(found, train).all()
        assert len(found) == pytest.approx(ratio * len(whole), abs=3)
        if method == "paper":
            assert len(set(patients[found])) == len(found)


def test_echonext_in_the_paper_has_one_sex(store):
    """The authors' code takes every EchoNext record for a woman's."""
    rows, targets = store.rows("train"), store.targets("all")
    index = store.records.iloc[rows].assign(sex="female")
    strata = stratum_labels(index, targets[rows], store.classes("all"), store.kinds("all"))
    expected = np.sort(rows[paper(index["patient_id"].tolist(), strata, 1 / 4)])
    assert _subset(store, ratio=1 / 4, method="paper").tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ratio": 0.0}, "ratio 0.0; expected a share"),
        ({"ratio": 1.5}, "at most 1"),
        ({"ratio": np.nan}, "ratio nan"),
        ({"ratio": 0.5, "method": "random"}, "expected one of nested, paper"),
    ],
)
def test_bad_arguments(store, arguments, message):
    with pytest.raises(UserError, match=message):
        _subset(store, **arguments)


def test_a_head_run_of_some_columns_in_its_order(store):
    run = tasks.HeadRun("some", "echonext", "all", columns=("SR", "rate", "A.*"))
    data = labelled.load(run, 0.1, str(store.path))
    assert data.classes == ("SR", "AFIB", "rate")
    assert data.kinds == ("classification", "classification", "regression")
    np.testing.assert_array_equal(data.targets, store.targets("all")[:, [3, 1, 4]])
    with pytest.raises(UserError, match="none of its 5 classes belongs to task none"):
        labelled.load(tasks.HeadRun("none", "echonext", "all", columns=("LBBB",)), 0.1, str(store.path))


def test_the_13_frequent_statements_drop_records_with_none_of_them(store):
    run = tasks.RUNS["ptbxl_all_label_efficiency"]
    data = labelled.load(run, 0.1, str(store.path))
    assert data.classes == ("SR", "IMI", "AFIB")  # what the store has of the 13, in their order
    for split, rows in data.rows.items():
        labels = data.targets[store.rows(split)]
        assert len(rows) == (labels == 1).any(axis=1).sum() < len(labels)
    assert tasks.get("ptbxl_all_label_efficiency")[1][0].select(data.classes, data.kinds) == [0, 1, 2]


def test_take_cuts_training_and_validation_and_never_the_test_set(store):
    data = labelled.load(tasks.HeadRun("all", "echonext", "all"), 0.1, str(store.path))
    whole = {split: len(rows) for split, rows in data.rows.items()}
    assert labelled.take(data, ratio=1.0, method="nested", validation="cut", seed=0) is data
    cut = labelled.take(data, ratio=1 / 4, method="nested", validation="cut", seed=0)
    full = labelled.take(data, ratio=1 / 4, method="nested", validation="full", seed=0)
    assert {split: len(rows) for split, rows in full.rows.items()} == {**whole, "train": len(cut.rows["train"])}
    assert len(cut.rows["validation"]) == pytest.approx(whole["validation"] / 4, abs=2)
    assert cut.rows["test"] is data.rows["test"]
    assert cut.patients()["train"] == len(set(store.records["patient_id"].iloc[cut.rows["train"]]))
    one = labelled.take(data, ratio=0.001, method="nested", validation="full", seed=0)
    assert one.patients()["train"] == 1
    constant = replace(data, targets=np.ones((240, 5), np.float32), kinds=("classification",) * 5)
    with pytest.raises(UserError, match=r"config.data.ratio=0.0625: .*validation=full keeps all"):
        labelled.take(constant, ratio=1 / 16, method="nested", validation="cut", seed=0)
    with pytest.raises(UserError, match=r"config.data.validation is 'half'; expected cut or full"):
        labelled.take(data, ratio=1 / 2, method="nested", validation="half", seed=0)
