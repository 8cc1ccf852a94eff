"""The report's tables by sex and age, and of calibration, from runs and a store to files."""

import json

import numpy as np
import pandas as pd
import pytest

from ecgjax.data.recording import Recording
from ecgjax.data.store import open_store
from ecgjax.data.store_writer import StoreWriter
from tests.evaluation.fake_runs import draw, write_run
from tests.jobs.reports import make


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups")
    rng = np.random.default_rng(0)
    with StoreWriter(folder / "store", source="folder", sampling_rate=100.0) as writer:
        for k in range(240):
            about = {"sex": "male" if k % 3 else "female", "age": float(rng.uniform(30, 90))}
            signal = np.zeros((10, 12), np.float32)
            writer.add(Recording(f"r{k:05d}", signal, 100.0), patient_id=f"p{k}", fold=0, metadata=about)
        writer.finish({"labels": (("x",), np.zeros((240, 1), np.float32), ("classification",))})
    fingerprint = open_store(folder / "store").fingerprint
    config = {"data": {"store": str(folder / "store")}}
    for model, strength in (("ecg_cpc", 1.5), ("ecg_fm", 0.5)):
        arrays = draw(strength, seed=len(model), records=240)
        if model == "ecg_fm":  # useless for women
            arrays["scores"][::3] = rng.random(arrays["scores"][::3].shape)
        write_run(folder / "runs" / model, model, arrays=arrays, fingerprint=fingerprint, config=config)
    return folder, make(folder, fairness=True, curves="ptbxl_super/SR")


def test_groups_are_in_the_report(made):
    folder, report = made
    rows = {(row["model"], row["group"]): row for row in report["fairness"]}
    assert {group for _, group in rows} == {"female", "male", "20-40", "40-60", "60-80", ">=80"}
    women = rows["ecg_fm", "female"]
    assert women["difference_high"] < 0
    assert women["records"] == 80
    assert women["small"]
    # Two groups that are each other's rest.
    men = rows["ecg_fm", "male"]
    assert (men["difference"], men["rest_value"]) == pytest.approx((-women["difference"], women["value"]))
    text = (folder / "report" / "fairness.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("| ECG-FM | female"))
    assert "female (small) | 80 | 3 |" in line
    assert f"**{women['difference']:+.3f} [" in line
    assert "| ECG-CPC | age \\>=80" in text
    table = pd.read_csv(folder / "report" / "fairness.csv")
    assert len(table) == len(report["fairness"]) == 12


def test_calibration_is_in_the_report(made):
    folder, report = made
    numbers = {curve["model"]: curve["numbers"] for curve in report["curves"]}
    assert (
        numbers["ecg_cpc"]["slope"]["low"] < numbers["ecg_cpc"]["slope"]["value"] < numbers["ecg_cpc"]["slope"]["high"]
    )
    assert numbers["ecg_cpc"]["brier"]["value"] < numbers["ecg_fm"]["brier"]["value"]
    text = (folder / "report" / "calibration.md").read_text()
    assert f"{numbers['ecg_fm']['ece']['value']:.3f} [" in text
    assert "ptbxl\\_super / SR | ECG-FM (fine-tuned, protocol fixed, seed 0)" in text
    table = pd.read_csv(folder / "report" / "calibration.csv")
    assert table["slope_low"].tolist() == pytest.approx([own["slope"]["low"] for own in numbers.values()])


def test_runs_without_their_store_are_said_and_old_files_go(made, tmp_path):
    folder, _ = made
    (folder / "store").rename(tmp_path / "moved")
    try:
        report = make(folder, fairness=True)
    finally:
        (tmp_path / "moved").rename(folder / "store")
    assert report["fairness"] == []
    assert any("No values by sex and age of 2 runs" in note for note in report["notes"])
    assert not (folder / "report" / "fairness.md").exists()
    assert not (folder / "report" / "calibration.md").exists()
    assert "numbers" not in json.dumps(report["curves"])
