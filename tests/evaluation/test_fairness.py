"""Values by sex and age band against the definition: scikit-learn on the records of every resample."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from ecgjax.errors import UserError
from ecgjax.evaluation import fairness
from ecgjax.evaluation.cell_bootstrap import Bootstrap
from ecgjax.evaluation.collect import collect
from ecgjax.evaluation.resamples import draw_counts
from tests.evaluation.fake_runs import draw, write_run

RECORDS, REPLICATES = 240, 40


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    arrays = draw(1.0, records=RECORDS, labels=3, with_age=True)
    arrays["targets"][:, 2] = 0
    arrays["targets"][:3, 2] = 1  # too rare in either group
    write_run(folder / "run", arrays=arrays)
    (found,) = collect(folder).cells
    return found


@pytest.fixture(scope="module")
def records():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "record_id": [f"r{k:05d}" for k in range(RECORDS + 5)],
            "patient_id": [f"p{k // 2:05d}" for k in range(RECORDS + 5)],
            "sex": rng.choice(["male", "F", "unknown"], RECORDS + 5, p=[0.3, 0.6, 0.1]),
            "age": np.where(np.arange(RECORDS + 5) % 10 == 0, np.nan, rng.uniform(18, 95, RECORDS + 5)),
        }
    ).sample(frac=1, random_state=0)


def test_groups(cell, records):
    ids = cell.predictions().record_id
    groups = fairness.groups_of(records, ids)
    assert list(groups) == [("sex", "female"), ("sex", "male")] + [
        ("age", band) for band in ("<20", "20-40", "40-60", "60-80", ">=80")
    ]
    by_id = records.set_index("record_id")
    assert groups["sex", "female"].tolist() == [by_id.loc[name, "sex"] == "F" for name in ids]
    assert groups["age", "40-60"].tolist() == [40 <= by_id.loc[name, "age"] < 60 for name in ids]
    with pytest.raises(UserError, match="no sex or age"):
        fairness.groups_of(records.drop(columns=["sex", "age"]), ids)
    with pytest.raises(UserError, match="lacks test records"):
        fairness.groups_of(records.iloc[:9], ids)
    men = records.assign(sex="male")
    assert ("sex", "male") not in fairness.groups_of(men, ids)  # there is no rest


@pytest.mark.parametrize("unit", ["record", "patient"])
def test_values_and_differences_by_definition(cell, records, unit):
    found = cell.predictions()
    groups = fairness.groups_of(records, found.record_id)
    rows = list(fairness.compare(cell, found, groups, Bootstrap(replicates=REPLICATES, unit=unit)))
    row = next(r for r in rows if (r["metric"], r["group"]) == ("auroc", "female"))
    member = groups["sex", "female"]
    assert row["records"] == member.sum()
    assert row["labels"] == 2  # the rare one does not count
    patients = found.patient_id if unit == "patient" else None
    counts = draw_counts(RECORDS, REPLICATES, 0, groups=patients)  # ids are in order already

    def macro(side, count):
        rows = np.repeat(np.arange(RECORDS), count)
        rows = rows[side[rows]]
        return np.mean([roc_auc_score(found.targets[rows, c], found.scores[rows, c]) for c in (0, 1)])

    once = np.ones(RECORDS, int)
    assert row["value"] == pytest.approx(macro(member, once))
    assert row["rest_value"] == pytest.approx(macro(~member, once))
    samples = np.array([macro(member, count) - macro(~member, count) for count in counts])
    assert row["difference"] == pytest.approx(macro(member, once) - macro(~member, once))
    expected = np.percentile(samples, [2.5, 97.5])
    assert [row["difference_low"], row["difference_high"]] == pytest.approx(expected)
    error = next(r for r in rows if (r["metric"], r["group"]) == ("mae", "male"))
    male = groups["sex", "male"]
    errors = np.abs(found.targets[:, 3] - found.scores[:, 3]).astype(float)
    assert error["difference"] == pytest.approx(errors[male].mean() - errors[~male].mean())
    assert error["small"] == (male.sum() < fairness.SMALL)


def test_a_group_in_which_nothing_can_be_measured_is_said(cell, records):
    found = cell.predictions()
    few = np.zeros(RECORDS, bool)
    few[:3] = True
    (row, _) = fairness.compare(cell, found, {("age", "<20"): few}, Bootstrap(replicates=5))
    assert (row["labels"], row["small"], row.get("value")) == (0, True, None)


def test_a_store_of_other_data_is_refused(cell):
    with pytest.raises(UserError):
        fairness.store_of(cell)
