"""Job "retest": a finished run tested under noise is what an evaluation under that noise ends with."""

import shutil

import numpy as np
import pytest

from configs.retest import get_config
from ecgjax.errors import UserError
from ecgjax.evaluation.collect import collect
from ecgjax.jobs import evaluate, retest
from tests.jobs.evaluate_run import make_config, read_predictions, read_results

pytestmark = pytest.mark.usefixtures("tiny")

MODES = ("finetune", "frozen", "linear_exact")
NOISE = {"signal.baseline_wander": -10.0, "signal.missing": 0.2}


def config_of(runs, points=(NOISE,)):
    config = get_config()
    config.runs, config.conditions = str(runs), list(points)
    return config


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("runs")
    for mode in MODES:
        evaluate.run(make_config(store, mode=mode, labels="joint", epochs=1, figures=False, seed=3), folder / mode)
    return folder


@pytest.fixture(scope="module")
def tested(runs, tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("tested")
    retest.run(config_of(runs), folder)
    return folder / runs.name


@pytest.mark.parametrize("mode", MODES)
def test_it_is_the_evaluation_under_noise(runs, tested, store, tmp_path, mode):
    again = make_config(store, mode=mode, labels="joint", epochs=1, figures=False, seed=3, **NOISE)
    evaluate.run(again, tmp_path / "run")
    (found,) = (tested / mode).iterdir()
    assert found.name == "baseline_wander=-10,missing=0.2"
    a, b = read_predictions(found), read_predictions(tmp_path / "run")
    np.testing.assert_allclose(a["scores"], b["scores"], atol=1e-5)
    for key in ("record_id", "patient_id", "targets", "labels"):
        np.testing.assert_array_equal(a[key], b[key])
    assert np.abs(a["scores"] - read_predictions(runs / mode)["scores"]).max() > 0.01
    a, b = read_results(found), read_results(tmp_path / "run")
    assert a["seconds"]["training"] == 0
    same = sorted(a.keys() - {"tasks", "seconds", "best"})
    assert {key: a[key] for key in same} == {key: b[key] for key in same}
    assert a["best"]["epoch"] == b["best"]["epoch"]


def test_runs_are_collected_and_not_tested_twice(runs, tested, capsys):
    assert len(collect(runs, tested, every_signal=True).cells) == 2 * len(MODES)
    before = {path: path.stat().st_mtime_ns for path in tested.rglob("*.npz")}
    retest.run(config_of(runs), tested.parent)
    assert before == {path: path.stat().st_mtime_ns for path in tested.rglob("*.npz")}
    assert f"written   {len(MODES)} runs x 1 conditions" in capsys.readouterr().out


def test_a_run_without_its_head_is_left_out_with_the_reason(runs, tmp_path, capsys):
    shutil.copytree(runs / "frozen", tmp_path / "runs" / "frozen")
    shutil.rmtree(tmp_path / "runs" / "frozen" / "checkpoints")
    with pytest.raises(UserError, match="no finished evaluation below it that can be tested again"):
        retest.run(config_of(tmp_path / "runs"), tmp_path / "out")
    assert "left out  runs/frozen: " in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"signal.leads": "I"}, "changes what training sees"),
        ({"signal.powerline": 6.0, "signal.disturbed": "all"}, "changes what training sees"),
        ({"epochs": 3}, "epochs is set; expected fields of signal alone"),
        ({"signal.missing": 2.0}, "config.signal.missing is 2.0"),
    ],
)
def test_what_training_would_see_is_refused(runs, tmp_path, point, message):
    with pytest.raises(UserError, match=message):
        retest.run(config_of(runs, [point]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_conditions_of_the_config():
    assert len(get_config().conditions) == 3 * 6 + 3 + 5
    chosen = get_config("ratios=12+0,kinds=powerline").conditions
    assert list(chosen) == [{"signal.powerline": 12.0}, {"signal.powerline": 0.0}]
    with pytest.raises(UserError, match="ratios=x; expected numbers"):
        get_config("ratios=x")
