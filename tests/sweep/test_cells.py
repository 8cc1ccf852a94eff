import shutil

import pytest

from ecgjax import numerics
from ecgjax.errors import UserError
from ecgjax.jobs.evaluate_setting import check
from ecgjax.models.model import load_model
from ecgjax.models.weights import save_weights
from ecgjax.sweep import cells
from ecgjax.sweep.cells import MissingError, resolve
from tests.sweep.stub import CPC, S4


@pytest.fixture(autouse=True)
def fresh():
    cells.forget()


@pytest.fixture(scope="module")
def weights(tmp_path_factory, tiny):
    root = tmp_path_factory.mktemp("weights")
    for name, seed in (("a", 0), ("b", 1)):
        model = load_model("tiny", seed=seed, width=8)
        save_weights(root / name / "tiny", model.encoder, model.variables)
    return root


def _cell(store, point, weights=None, **common):
    return resolve(point, {"data.store": str(store), **common}, weights and str(weights), None)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"learning_rate": 0.5},
        {"weight_decay": 0.0},
        {"epochs": 3},
        {"batch_size": 32},
        {"protocol": "paper"},
        {"interval.replicates": 10},
        {"data.ratio": 0.5},
        {"data.labels": "labels"},
        {"model_arguments.dropout": 0.1},
        {"task": "ptbxl_super"},
    ],
)
def test_what_determines_the_result_changes_the_name(store, change):
    assert _cell(store, {**S4, **change}).name != _cell(store, S4).name


def test_mode_and_model_change_the_name(store):
    names = {_cell(store, {**CPC, "mode": mode}).name for mode in ("finetune", "frozen", "linear")}
    assert len(names | {_cell(store, {**S4}).name, _cell(store, {**CPC, "model": "s4", "mode": "linear"}).name}) == 5


@pytest.mark.parametrize(
    "change",
    [
        {"log_every": 3},
        {"learning_rate": 1e-3},  # the default, spelled out
        {"data.labels": "all"},  # the task's own
        {"model_arguments.state_size": 8},  # the published one
        {"seed": 0, "weight_decay": 1e-3},
    ],
)
def test_what_does_not_determine_it_leaves_the_name(store, change):
    assert _cell(store, {**S4, **change}).name == _cell(store, S4).name


def test_an_int_is_the_float_it_stands_for(store):
    assert _cell(store, {**S4, "learning_rate": 1}).name == _cell(store, {**S4, "learning_rate": 1.0}).name


def test_place_of_the_store_is_not_part_of_the_name_but_its_content_is(store, tmp_path):
    copy = shutil.copytree(store, tmp_path / "copy")
    assert _cell(copy, S4).name == _cell(store, S4).name
    embedded = resolve(S4, {}, None, None)
    assert embedded.name != _cell(store, S4).name


def test_weights_count_by_content(store, weights, tmp_path):
    point = {"model": "tiny", "mode": "frozen"}
    a, b = (_cell(store, point, weights / name) for name in "ab")
    copied = _cell(store, point, shutil.copytree(weights / "a", tmp_path / "moved"))
    assert a.name == copied.name
    assert len({a.name, b.name, _cell(store, {**point, "model_arguments.width": 8}).name}) == 3
    assert a.identity["arguments"]["width"] == 8
    # A model trained from scratch takes none.
    assert _cell(store, S4, weights / "a").settings["weights"] is None


def test_the_numerics_version_is_part_of_the_name(store, monkeypatch):
    before = _cell(store, S4).name
    monkeypatch.setattr(numerics, "VERSION", numerics.VERSION + 1)
    assert _cell(store, S4).name != before


def test_tasks_of_one_training_are_one_cell(store):
    names = {_cell(store, {**S4, "task": task}).name for task in ("ptbxl_all", "ptbxl_diag", "ptbxl_rhythm")}
    assert len(names) == 1


def test_groups_are_frozen_cells_that_see_the_same_batches(store):
    def group(**change):
        return _cell(store, {**CPC, "mode": "linear", **change}).group

    assert group() == group(learning_rate=0.1) == group(mode="frozen") == group(weight_decay=0.0)
    assert group(**{"data.labels": "joint"}) == group()  # heads of other labels on the same crops
    others = [
        group(seed=1),
        group(batch_size=8),
        group(epochs=2),
        group(protocol="paper"),
        group(**{"data.ratio": 0.5}),
    ]
    assert len({group(), *others}) == 6
    assert group(mode="finetune") != group(mode="finetune", learning_rate=0.1)


def test_the_config_is_the_evaluation_s_own(store):
    config = _cell(store, {**S4, "learning_rate": 0.1}, epochs=7).config()
    assert (config.job, config.model, config.mode, config.task) == ("evaluate", "s4", "scratch", "synthetic")
    assert (config.learning_rate, config.epochs, config.data.store) == (0.1, 7, str(store))
    assert (config.model_arguments.width, config.model_arguments.dropout) == (8, None)


def test_what_cannot_be_is_refused(store, tmp_path):
    for point, message in (
        ({**S4, "sead": 1}, r"'sead' is not a field of configs/evaluate.py \(did you mean 'seed'\?\)"),
        ({**S4, "seed": 1.5}, r"seed is 1.5; expected int"),
        ({**S4, "seed": True}, r"seed is True; expected int"),
        ({**S4, "data.store": "x"}, r"config.common.data.store is set, and an axis sets it too"),
        ({**S4, "model": "s5"}, r"model 's5' is unknown"),
    ):
        with pytest.raises(UserError, match=message):
            _cell(store, point)
    with pytest.raises(MissingError, match=r"ecg_cpc: no such folder; expected weights of ecg_cpc"):
        _cell(store, {"model": "ecg_cpc"}, tmp_path)
    with pytest.raises(MissingError, match=r"ptbxl: no such folder; expected a store, as made by .* ptbxl"):
        resolve({**S4, "task": "ptbxl_all"}, {}, None, str(tmp_path))


def test_rounding_of_features_is_part_of_a_cell_where_the_encoder_is_frozen(store):
    def cell(mode, dtype, **more):
        common = {"data.store": str(store), "data.labels": "labels"}
        return resolve({"model": "s4", "mode": mode, "data.features": dtype, **more}, common, None, None)

    exact, rounded = cell("linear", "float32"), cell("linear", "bfloat16")
    assert exact.name != rounded.name
    assert exact.group != rounded.group
    # Where the encoder is trained nothing is stored, and nothing rounded.
    assert cell("finetune", "bfloat16").name == cell("finetune", "float32").name
    check(cell("finetune", "bfloat16").config())
    config = cell("finetune", "float32").config()
    config.data.features = "bfloat16"
    with pytest.raises(UserError, match=r"config.data.features is 'bfloat16' in mode finetune; expected 'float32'"):
        check(config)
    config.data.features = "float16"
    with pytest.raises(UserError, match=r"config.data.features"):
        check(config)
