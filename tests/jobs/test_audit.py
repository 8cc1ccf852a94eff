"""Job "audit": every switch by itself, differences on the same resamples."""

import json

import numpy as np
import pandas as pd
import pytest

import ecgjax
from configs.audit import get_config
from ecgjax.errors import UserError
from ecgjax.evaluation import audit
from ecgjax.evaluation.collect import collect
from ecgjax.jobs import audit as job
from ecgjax.jobs import evaluate_outcome
from ecgjax.sweep import plan

pytestmark = pytest.mark.usefixtures("tiny")


def test_what_an_audit_takes():
    names = [variant.name for variant in audit.variants("st_mem", "ptbxl_super", "finetune")]
    assert names == [
        *("fixed", "undefined_classes=half", "last_crop_start=never", "missing_samples=spread"),
        *("rate_groups=published", "paper", "contract=authors", "paper, contract=authors"),
    ]
    frozen = [variant.name for variant in audit.variants("ecg_founder", "mimic", "frozen")]
    assert "composite=mean" in frozen
    assert "rate_groups=published" not in frozen
    assert "last_crop_start=never" not in [v.name for v in audit.variants("s4", "ptb", "linear_exact")]
    with pytest.raises(UserError, match="'crops=1' is unknown; expected model=, task=, mode=, seeds="):
        get_config("crops=1")
    with pytest.raises(UserError, match="seeds=0; expected a number of seeds"):
        get_config("seeds=0")


SOME = ("fixed", "undefined_classes=half", "last_crop_start=never")


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory, tiny):
    workdir = tmp_path_factory.mktemp("audit")
    every = audit.variants("tiny", "synthetic", "linear")
    assert {variant.name for variant in every} == {*SOME, "missing_samples=spread", "composite=mean", "paper"}
    patch = pytest.MonkeyPatch()
    patch.setattr(audit, "variants", lambda **_: [variant for variant in every if variant.name in SOME])
    patch.setattr(evaluate_outcome.cell_values, "keep", lambda folder: None)
    config = get_config("model=tiny,task=synthetic,mode=linear,seeds=2")
    config.common.data.store, config.common.data.labels = str(store), "joint"
    config.common.epochs, config.common.batch_size, config.common.interval.replicates = 2, 16, 20
    config.common.learning_rate = 0.1
    config.interval.replicates = 100
    job.run(config, workdir)
    yield config, workdir
    patch.undo()


def test_differences_are_those_of_the_public_functions(finished):
    config, workdir = finished
    content = json.loads((workdir / "audit.json").read_text())
    rows = {(row["variant"], row["metric"]): row for row in content["rows"]}
    assert {variant for variant, _ in rows} == set(SOME)
    points = {cell.name: cell.point for cell in plan.make(config).cells}
    runs = {}
    for cell in collect(workdir / "cells").cells:
        point = points[cell.path.name]
        switched = {key: value for key, value in point.items() if key.startswith("switches.")}
        if point["protocol"] == "fixed" and set(switched) <= {"switches.last_crop_start"}:
            runs.setdefault("last_crop_start=never" if switched else "fixed", {})[point["seed"]] = cell.predictions()
    base, other = runs["fixed"], runs["last_crop_start=never"]
    column = slice(3, 4)
    parts = [
        ecgjax.bootstrap.differences(
            base[seed].targets[:, column], other[seed].scores[:, column], base[seed].scores[:, column], "mae", 100
        )
        for seed in (0, 1)
    ]
    row = rows["last_crop_start=never", "mae"]
    assert row["difference"] == pytest.approx(np.mean([part.macro_value for part in parts]), abs=1e-6)
    assert row["difference_sd"] == pytest.approx(np.std([part.macro_value for part in parts], ddof=1), abs=1e-6)
    assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    assert rows["undefined_classes=half", "mae"]["difference"] == pytest.approx(0, abs=1e-5)
    assert rows["fixed", "mae"]["difference"] is None
    assert all(row["comparable"] for row in rows.values())


def test_undefined_classes_change_the_value_and_not_the_training(store):
    """Without a training at all: one model, its class without positives skipped and counted 0.5."""
    from ecgjax.evaluation.cell_bootstrap import Bootstrap, CellValue
    from ecgjax.evaluation.replicated import Replicated

    rng = np.random.default_rng(0)
    samples = rng.normal(0.8, 0.02, 500)

    def value(scale, shift):
        own = Replicated(scale * 0.8 + shift, scale * samples + shift)
        return CellValue("task", "auroc", own, *own.limits(0.95, "percentile"), 8, 8, "p", {})

    found = audit.compare({"fixed": [[value(1, 0)]], "undefined_classes=half": [[value(0.5, 0.25)]]}, Bootstrap())
    assert found[1]["difference"] == pytest.approx(0.5 * 0.8 + 0.25 - 0.8)
    expected = np.percentile(0.25 - 0.5 * samples, [2.5, 97.5])
    assert [found[1]["difference_low"], found[1]["difference_high"]] == pytest.approx(expected)
    assert found[0]["basic_low"] == pytest.approx(1.6 - np.percentile(samples, 97.5))
    other = value(1, 0.01)
    moved = CellValue(*[*list(other.__dict__.values())[:-2], "q", {}])
    found = audit.compare({"fixed": [[value(1, 0)]], "paper": [[moved]]}, Bootstrap())
    assert not found[1]["comparable"]
    assert found[1]["difference"] is None


def test_files_and_table(finished, capsys):
    config, workdir = finished
    job.run(config, workdir)  # nothing is trained again
    printed = capsys.readouterr().out
    assert "6 cells; 6 done" in printed
    text = (workdir / "audit.md").read_text()
    for part in (
        "undefined classes count 0.5",
        "Means over 2 seeds",
        "last crop start never drawn",
        "difference from fixed",
    ):
        assert part in text
    table = pd.read_csv(workdir / "audit.csv")
    assert set(table["metric"]) == {"auroc", "mae"}
    assert len(table) == 6
