import numpy as np
import pytest

from ecgjax import models, tasks
from ecgjax.evaluation.published import compare_paper, published, summary
from ecgjax.training.supervised import MODES


def test_the_published_table() -> None:
    table = published()
    assert len(table) == 728
    assert (table["flag"] != "").sum() == 55  # 56 marks, two of them on one cell
    assert set(table["task"]) == {task.name for task in tasks.TASKS.values() if task.row}
    assert set(table["model"]) <= set(models.names())
    assert set(table["mode"]) < set(MODES)
    metrics = {task.row: task.metric for task in tasks.TASKS.values()}
    assert (table["metric"] == table["row"].map(metrics)).all()
    assert not table.duplicated(["row", "mode", "model"]).any()
    cell = table[(table["task"] == "ptbxl_super") & (table["model"] == "ecg_cpc")].set_index("mode")["value"]
    assert cell.round(3).to_dict() == {"finetune": 0.934, "frozen": 0.919, "linear": 0.863}  # protocol.md, section 8


def result(model: str, value: float, row: str = "PTB", **changes: object) -> dict:
    cell = {"row": row, "mode": "finetune", "model": model, "metric": "auroc", "protocol": "paper"}
    return {**cell, "value": value, "low": value - 0.01, "high": value + 0.01, **changes}


def test_cells_beside_the_published_ones() -> None:
    rows = [
        result("ecg_founder", 0.66),
        result("ecg_founder", 0.9),
        result("st_mem", 0.5),
        result("net1d", 0.7),  # the paper has it in mode scratch only
        result("ecg_cpc", 0.7, row=None),
    ]
    compared = compare_paper(rows)
    assert compared["model"].tolist() == ["ecg_founder", "ecg_founder", "st_mem"]
    np.testing.assert_allclose(compared["published"][:2], 0.655847)
    assert compared["difference"].tolist()[0] == pytest.approx(0.004153)
    assert compared["overlap"].tolist()[:2] == [True, False]
    counts = summary(compared)
    assert (counts["cells"], counts["close"], counts["flagged"]) == (3, 1, 1)
    assert counts["unflagged_apart"] == 1
    assert summary(compare_paper([]))["cells"] == 0
