"""Figures of a run whose test fold cannot measure everything."""

import json

import pytest

from ecgjax.reporting import evaluation_report
from ecgjax.reporting.evaluation_report import RESULTS

NOTHING = {"value": None, "low": None, "high": None, "known": 9, "positives": 0}
RARE = {"value": 0.7, "low": None, "high": None, "known": 9, "positives": 1}
GOOD = {"value": 0.8, "low": 0.6, "high": 0.9, "known": 9, "positives": 4}


@pytest.mark.parametrize(
    ("labels", "overall", "drawn"),
    [
        ({"AFIB": NOTHING, "SR": NOTHING}, {**NOTHING, "defined": 0}, False),
        ({"AFIB": NOTHING, "SR": GOOD, "VF": RARE}, {**GOOD, "defined": 2}, True),
        ({"VF": RARE}, {**RARE, "defined": 1}, False),
    ],
)
def test_what_is_not_defined_is_not_drawn(tmp_path, labels, overall, drawn) -> None:
    content = {
        "model": "s4", "mode": "scratch", "task": "ptbxl_rhythm", "data": {"synthetic": False},
        "interval": {"level": 0.95}, "tasks": {"ptbxl_rhythm": {"auroc": {**overall, "labels": labels}}},
    }  # fmt: skip
    (tmp_path / RESULTS).write_text(json.dumps(content))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/loss": 0.7}\n')
    evaluation_report.draw(tmp_path)
    assert (tmp_path / "figures" / "learning_curve.png").is_file()
    assert (tmp_path / "figures" / "auroc.png").is_file() == drawn
