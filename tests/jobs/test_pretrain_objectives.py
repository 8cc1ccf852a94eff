"""Pretraining by any objective as a job: resumed exactly, budgets, iterations, what is refused before work starts."""

import json
import signal
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import ecgjax
from ecgjax.errors import UserError
from ecgjax.jobs import pretrain
from ecgjax.training.logging import MetricLog, read_metrics
from tests.jobs.test_pretrain import read_state
from tests.pretraining.runs import make_config, write_store

SMALL = {
    "model_arguments.width": 16,
    "model_arguments.layers": 1,
    "model_arguments.heads": 2,
    "model_arguments.seconds": 1.0,
    "budget.recordings": 34,  # 8 steps; 6 in an epoch
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("stores") / "noise")


def test_a_run_with_a_teacher_that_is_stopped_ends_like_an_uninterrupted_one(store, tmp_path, monkeypatch, capsys):
    decoder = {f"options.jepa.{name}": value for name, value in {"width": 8, "layers": 1, "heads": 2}.items()}
    config = make_config(store, "objective=jepa,model=merl_vit", **SMALL, **decoder)
    pretrain.run(config, tmp_path / "whole")
    write, signals = MetricLog.write, iter([signal.SIGTERM])

    def preempted(self, step, *values):
        write(self, step, *values)
        if step == 4 and next(signals, None):
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(MetricLog, "write", preempted)
    with pytest.raises(SystemExit) as ended:
        pretrain.run(config, tmp_path / "broken")
    assert ended.value.code == 143
    monkeypatch.undo()
    pretrain.run(config, tmp_path / "broken")
    assert "continuing after step 4" in capsys.readouterr().out
    (step, whole), (other, broken) = (read_state(tmp_path / name) for name in ("whole", "broken"))
    assert step == other == 8
    jax.tree.map(np.testing.assert_array_equal, broken, whole)
    teacher, student = whole["memory"]["teacher"]["patches"]["kernel"], whole["params"]["encoder"]["patches"]["kernel"]
    assert np.abs(np.asarray(teacher) - np.asarray(student)).max() > 1e-4
    lines = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "broken")]
    for line in (*lines[0], *lines[1]):
        del line["seconds"]
    assert lines[0] == lines[1]
    validated = next(line for line in lines[0] if "validation_loss" in line)
    assert validated["step"] == 6
    assert 0 < validated["feature_std_least"] <= validated["feature_std_mean"]
    assert 1 <= validated["feature_participation_ratio"] <= validated["feature_effective_rank"] <= 16
    results = json.loads((tmp_path / "whole/results.json").read_text())
    budget = results["budget"]
    assert budget["recordings_seen"] == 32
    assert budget["flops"] == 8 * budget["flops_per_step"] > 1e6
    model = ecgjax.load_model("merl_vit", weights=tmp_path / "whole")
    assert model.spec.seconds == 1.0
    np.testing.assert_array_equal(model.variables["params"]["patches"]["kernel"], student)


def steps(**budget):
    budget = {"epochs": 2.5, "recordings": None, "flops": None, **budget}
    config = make_config("nowhere", "")
    config.budget.update(budget)
    return pretrain._Training._steps(
        SimpleNamespace(config=config, data=SimpleNamespace(steps_per_epoch=6), flops_per_step=1e6)
    )


def test_budgets():
    assert steps() == 15
    assert steps(recordings=100) == 25
    assert steps(flops=7.9e6) == 7
    with pytest.raises(UserError, match="less than one update of 4 recordings"):
        steps(recordings=3)


@pytest.mark.parametrize(
    ("choice", "changes", "message"),
    [
        ("objective=cpc,model=merl_vit", {}, r"cpc cannot train merl_vit .*causal=True"),
        ("model=s4", {}, "cpc cannot train s4"),
        ("objective=masked_clusters,model=net1d", {}, "masked_clusters cannot train net1d"),
        ("", {"budget.recordings": 10, "budget.flops": 1e9}, "recordings and flops; expected one of them"),
        ("", {"budget.epochs": 0.0}, r"config\.budget\.epochs is 0.*; expected a positive number"),
        (
            "objective=supervised",
            {"data.labels": "rhythm", "data.seconds": 1.0},
            "labels is 'rhythm'; expected one of sign of",
        ),
        ("objective=wav2vec", {}, r"no training record of at least 5 s"),
    ],
)
def test_refused_before_work_starts(store, tmp_path, choice, changes, message):
    with pytest.raises(UserError, match=message) as error:
        pretrain.run(make_config(store, choice, **changes), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "run").rglob("checkpoints/*/*"))
