"""A store made of another one: its labels and records, and the other's signals."""

import numpy as np
import pytest

from ecgjax.data.relabelled import relabel
from ecgjax.data.store import open_store
from ecgjax.errors import UserError
from tests.data.small_store import write_store

ROWS = np.array([0, 2, 5, 6])
CLASSES, KINDS = ("a", "b"), ("classification",) * 2


def targets(store):
    return (np.arange(2 * len(store)).reshape(-1, 2) % 2).astype(np.float32)


def test_records_signals_and_labels(tmp_path):
    store = write_store(tmp_path / "whole")
    relabel(store, tmp_path / "some", ROWS, (CLASSES, targets(store), KINDS), "new", "why")
    some = open_store(tmp_path / "some")
    some.verify()
    assert some.records["record_id"].tolist() == [f"r{k}" for k in ROWS]
    assert some.records["fold"].tolist() == store.records["fold"].iloc[ROWS].tolist()
    assert (some.label_sets(), some.classes("new")) == (("new",), CLASSES)
    np.testing.assert_array_equal(some.targets("new"), targets(store)[ROWS])
    for k in ROWS:
        np.testing.assert_array_equal(some.signal(f"r{k}"), store.signal(f"r{k}"))
    assert some.meta["source"] == "test"
    assert all(path.is_symlink() == path.name.startswith("signals-") for path in (tmp_path / "some").iterdir())
    assert len(list((tmp_path).iterdir())) == 2


def test_the_fingerprint_is_of_content_and_one_that_is_there_is_replaced(tmp_path):
    store = write_store(tmp_path / "whole")
    found = []
    for rows, labels in (
        (ROWS, targets(store)),
        (ROWS, targets(store)),
        (ROWS[:3], targets(store)),
        (ROWS, 0 * targets(store)),
    ):
        relabel(store, tmp_path / "some", rows, (CLASSES, labels, KINDS), "new", "why")
        found.append(open_store(tmp_path / "some").fingerprint)
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_what_is_not_such_a_store_stays(tmp_path):
    store = write_store(tmp_path / "whole")
    with pytest.raises(UserError, match="whole: exists already and was not made from another store"):
        relabel(store, tmp_path / "whole", ROWS, (CLASSES, targets(store), KINDS), "new", "why")
    open_store(tmp_path / "whole").verify()


def test_a_failure_leaves_nothing(tmp_path):
    store = write_store(tmp_path / "whole")
    with pytest.raises(UserError, match="infinite targets"):
        relabel(store, tmp_path / "some", ROWS, (CLASSES, targets(store) + np.float32(np.inf), KINDS), "new", "why")
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
