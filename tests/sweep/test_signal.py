"""Fewer leads and noise in a sweep: names of cells, and that fused, stacked and kept cells end as each alone does."""

import json

import pytest

from configs import sweep_leads, sweep_noise
from ecgjax.errors import UserError
from ecgjax.jobs import evaluate_outcome, sweep
from ecgjax.sweep import cells, costs, plan
from ecgjax.sweep.axes import axis, fixed, product
from ecgjax.sweep.cells import resolve
from ecgjax.sweep.feature_choice import key_of
from tests.sweep import fused
from tests.sweep.stub import CPC, S4

pytestmark = pytest.mark.usefixtures("tiny")
LINEAR = {**CPC, "mode": "linear"}


@pytest.fixture(autouse=True)
def fresh():
    cells.forget()


def _cell(store, point):
    return resolve(point, {"data.store": str(store)}, None, None)


def test_cells_on_recordings_as_they_are_keep_their_names():
    """Names of an earlier version, whose configs had no `signal`."""
    identity = _named({"model": "s4", "mode": "scratch"}).identity
    assert not [key for key in identity["config"] if key.startswith("signal")]
    for point in (S4, LINEAR):
        plain = _named(point)
        spelled = _named({**point, "signal.leads": "12", "signal.policy": "zero", "signal.missing": 0.0})
        without_effect = _named({**point, "signal.policy": "derive", "signal.mains": 60.0, "signal.seed": 5})
        for other in (spelled, without_effect):
            assert (plain.name, plain.group, key_of(plain)) == (other.name, other.group, key_of(other))


def _named(point):
    return resolve({**point, "task": "synthetic"}, {}, None, None)


@pytest.mark.parametrize(
    "signal",
    [{"leads": "I"}, {"leads": "I", "policy": "repeat"}, {"powerline": 10.0}, {"powerline": 10.0, "seed": 1},
     {"swap": "RA/LA"}, {"missing": 0.1}, {"missing": 0.1, "disturbed": "all"}, {"policy": "dropout"}],
)  # fmt: skip
def test_a_condition_is_part_of_names_groups_and_features(store, signal):
    changed = {f"signal.{key}": value for key, value in signal.items()}
    plain, other = _cell(store, LINEAR), _cell(store, {**LINEAR, **changed})
    assert plain.name != other.name
    assert plain.group != other.group
    assert key_of(plain) != key_of(other)
    fixed_crops = {**LINEAR, "data.crops": "fixed"}
    pools = {_cell(store, fixed_crops).pool, _cell(store, {**fixed_crops, **changed}).pool}
    assert len(pools) == 2
    # Random leads are drawn in every epoch: heads cannot be fed from features of training windows.
    draws = signal.get("policy") == "dropout"
    assert (None in pools) == draws
    assert costs.same_windows(_cell(store, {**fixed_crops, **changed})) != draws


def test_equal_conditions_have_one_name(store):
    names = {_cell(store, {**S4, "signal.leads": text}).name for text in ("3", "I,II,V2", "v2, I, II")}
    assert len(names) == 1
    with pytest.raises(UserError, match=r"config\.signal\.leads 'seven'; expected one of 12"):
        _cell(store, {**S4, "signal.leads": "seven"})


@pytest.mark.parametrize("mode", ["linear", "finetune"])
def test_a_sweep_ends_as_each_cell_alone(store, tmp_path, monkeypatch, mode):
    """Fused heads whose evaluation reads kept features, and stacked trainings: two cells share a program."""
    monkeypatch.setattr(evaluate_outcome.evaluation_report, "draw", lambda folder: None)
    monkeypatch.setattr(evaluate_outcome.cell_values, "keep", lambda folder: None)
    signal = {"signal.leads": "2", "signal.policy": "dropout", "signal.baseline_wander": -6.0}
    tiny = fixed({"model": "tiny", "mode": mode, "data.labels": "labels", "data.seed": 3, "data.crops": "fixed"})
    axes = product(tiny, fixed(signal), axis("learning_rate", [0.01, 0.1]))
    weights = fused.save(tmp_path / "weights")
    options = {"common.epochs": 2, "features_folder": str(tmp_path / "features"), "features": "cache"}
    config = fused.config(store, weights, axes, **options)
    sweep.run(config, tmp_path / "sweep")
    cell = plan.make(config).cells[0]
    ours = tmp_path / "sweep" / "cells" / cell.name
    said = (ours / "log.txt").read_text()
    assert "trained with 1 other" in said
    assert ("features from" in said) == (mode == "linear")
    fused.check_equal(ours, fused.run_alone(cell, tmp_path / cell.name), 5e-5)
    assert json.loads((ours / "results.json").read_text())["signal"]["policy"] == "dropout"


def test_the_sweeps_of_configs_resolve(store):
    for module in (sweep_leads, sweep_noise):
        config = module.get_config("synthetic")
        config.weights = None
        config.common.data.store = str(store)
        made = plan.make(config).cells
        assert len({cell.name for cell in made}) == len(made)
        conditions = {json.dumps(cells.signal(cell.identity), sort_keys=True) for cell in made}
        assert len(made) == 9 * len(conditions)


def test_the_sweeps_of_configs_can_be_cut():
    leads = sweep_leads.get_config("synthetic,models=merl_vit:linear_exact+s4:scratch,sets=6+I,policies=zero+derive")
    assert len(leads.axes) == 2 * (1 + 2 * 2)
    assert leads.axes[-1] == {
        "task": "synthetic", "model": "s4", "mode": "scratch", "signal.leads": "I", "signal.policy": "derive",
    }  # fmt: skip
    noise = sweep_noise.get_config("task=synthetic,models=merl_vit,ratios=24+0,kinds=powerline+missing")
    assert len(noise.axes) == 1 + 2 + 3
    assert noise.axes[1] == {"task": "synthetic", "model": "merl_vit", "mode": "linear", "signal.powerline": 24.0}


@pytest.mark.parametrize(
    ("module", "text", "message"),
    [
        (sweep_leads, "synthetic,policies=none", "'none' is unknown; expected some of zero"),
        (sweep_leads, "synthetic,leads=I", "'leads=I' is unknown; expected task=, models=, sets=, policies="),
        (sweep_noise, "kinds=hum", "'hum' is unknown; expected some of baseline_wander"),
        (sweep_noise, "ratios=loud", r"ratios=loud; expected numbers \(dB\)"),
    ],
)
def test_choices_that_cannot_be(module, text, message):
    with pytest.raises(UserError, match=message):
        module.get_config(text)
