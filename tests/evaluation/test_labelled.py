"""What a task trains and tests on: short records and records of no fold are left out of every split."""

from pathlib import Path

import numpy as np
import pytest

from ecgjax.data.recording import Recording
from ecgjax.data.store_writer import StoreWriter
from ecgjax.evaluation import labelled
from ecgjax.tasks import RUNS

SECONDS = (10.0, 9.99, 5.0, 12.0)
FOLDS = (-1, 0, 1, 2)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For each fold two records of each length, one of them positive."""
    path = tmp_path_factory.mktemp("labelled") / "store"
    rng = np.random.default_rng(0)
    targets = []
    with StoreWriter(path, source="georgia", sampling_rate=100.0) as writer:
        for fold in FOLDS:
            for seconds in SECONDS:
                for positive in (0, 1):
                    signal = rng.normal(size=(round(100 * seconds), 12)).astype(np.float32)
                    name = f"{fold} {seconds} {positive}"
                    writer.add(Recording(name, signal, 100.0), patient_id=name, fold=fold)
                    targets.append([positive])
        writer.finish({"all": (("sinus rhythm",), np.array(targets, np.float32), ("classification",))})
    return path


def names(data: labelled.Labelled, split: str) -> list[str]:
    return data.store.records["record_id"].iloc[data.rows[split]].tolist()


def test_records_shorter_than_ten_seconds_are_in_no_split(store: Path) -> None:
    data = labelled.load(RUNS["georgia"], 2.5, str(store))
    for split, folds in (("train", (-1, 0)), ("validation", (1,)), ("test", (2,))):
        assert names(data, split) == [f"{f} {s} {p}" for f in folds for s in (10.0, 12.0) for p in (0, 1)]
        assert data.left_out[split] == 4 * len(folds)


def test_a_task_without_a_minimum_takes_what_the_model_can(store: Path) -> None:
    data = labelled.load(RUNS["ningbo"], 5.0, str(store))
    assert set(data.left_out.values()) == {0}
    assert len(data.rows["train"]) == 16
    longer = labelled.load(RUNS["ningbo"], 9.99, str(store))
    assert longer.left_out == {"train": 4, "validation": 2, "test": 2}


def test_records_of_no_fold_train_unless_the_task_says_otherwise(store: Path) -> None:
    assert RUNS["code15_diag"].min_fold == 0
    assert [name for name in RUNS if RUNS[name].min_fold is not None] == ["code15_diag"]
    data = labelled.load(RUNS["code15_diag"], 2.5, str(store))
    assert {name.split()[0] for name in names(data, "train")} == {"0"}
    assert names(data, "test") == [f"2 {s} {p}" for s in (10.0, 12.0) for p in (0, 1)]


def test_the_tasks_with_a_minimum_of_ten_seconds() -> None:
    found = {name for name, run in RUNS.items() if run.min_seconds}
    assert found == {"cpsc2018", "cpsc_extra", "georgia", "code15_diag", "zzu_pecg"}
    assert {RUNS[name].min_seconds for name in found} == {10}


def test_a_store_of_another_source_is_noticed(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    labelled.load(RUNS["georgia"], 2.5, str(store))
    assert not caplog.records
    labelled.load(RUNS["ningbo"], 2.5, str(store))
    assert "holds georgia, but task ningbo is of ningbo: its figures are not the benchmark's" in caplog.text
    caplog.clear()
    labelled.load(RUNS["folder"], 2.5, str(store))
    assert not caplog.records
