"""The ablation's plan: which pretrainings there are, which are left out and why, and what is refused."""

import json
from pathlib import Path

import pytest

from configs.pretrain_ablation import ENCODERS, get_config
from ecgjax.data.preparation.engine import prepare_store
from ecgjax.data.store import open_store
from ecgjax.errors import UserError
from ecgjax.jobs import pretrain_ablation
from ecgjax.jobs.pretrain_ablation import encoders, plan
from ecgjax.sweep.cells import flat


def test_the_plan_of_the_config():
    config = get_config("500+2000")
    runs, refused = plan(config.pretraining, flat(config.common))
    trained = {(own.objective, own.model) for own in runs.values()}
    assert len(runs) == 2 * len(trained)
    assert {model for objective, model in trained if objective == "cpc"} == {"ecg_cpc", "s4", "merl_vit"}
    assert {model for objective, model in trained if objective == "wav2vec"} == {"ecg_cpc"}
    for objective in ("masked_clusters", "masked_autoencoder", "jepa", "supervised"):
        assert {model for name, model in trained if name == objective} == {"ecg_cpc", "s4", "merl_vit", "st_mem"}
    assert refused["st_mem cpc 500"].startswith("objective cpc cannot train st_mem")
    own = runs["merl_vit cpc 2000", 0]
    assert (own.budget.recordings, own.model_arguments.causal, own.model_arguments.width) == (2000, True, 64)
    assert runs["st_mem jepa 500", 0].options.jepa.width == 32
    assert runs["st_mem jepa 500", 0].model_arguments.layers == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a/b"}, "name 'a/b' is twice or no folder"),
        ({"objective": "cpd"}, "objective 'cpd' is unknown"),
        ({"budget.records": 3}, r"x: no field budget\.records in configs/pretrain.py"),
        ({"learning_rate": "high"}, "learning_rate is 'high'"),
        ({"batch_size": 0}, r"config\.batch_size is 0"),
    ],
)
def test_points_that_cannot_be(changes, message):
    point = {"name": "x", "objective": "cpc", "model": "ecg_cpc"}
    with pytest.raises(UserError, match=message):
        plan(({**point, **changes},))
    with pytest.raises(UserError, match="has no model; expected name, objective, model in each"):
        plan(({"name": "x", "objective": "cpc"},))
    with pytest.raises(UserError, match="name 'x' is twice"):
        plan((point, point))
    with pytest.raises(UserError, match=r"config\.common\.seed is set, and x sets it too"):
        plan(({**point, "seed": 1},), {"seed": 2})
    runs, _ = plan((point,), {"batch_size": 8})
    assert runs["x", 0].batch_size == 8
    with pytest.raises(UserError, match="expected a model, and a name that no other point has"):
        encoders(runs, {("x", 0): Path("x")}, ({"name": "x", "model": "s4"},))


def test_seeds_encoders_without_pretraining_and_tasks():
    config = get_config("1000,objectives=cpc+jepa,encoders=merl_vit,seeds=2,tasks=synthetic+folder,mode=linear_exact")
    runs, refused = plan(config.pretraining, flat(config.common))
    assert not refused
    assert list(runs) == [(f"merl_vit {name} 1000", seed) for name in ("cpc", "jepa") for seed in (0, 1)]
    assert [own.seed for own in runs.values()] == [0, 1, 0, 1]
    found = encoders(runs, {key: Path(key[0], str(key[1])) for key in runs}, config.untrained)
    assert len(found) == 8
    assert found["merl_vit jepa 1000", 1] == {"model": "merl_vit", "weights": "merl_vit jepa 1000/1", "seed": 1}
    plain, causal = found["merl_vit untrained", 1], found["merl_vit causal untrained", 1]
    assert plain["seed"] == 1
    assert "weights" not in plain
    assert causal == {**plain, "model_arguments.causal": True}
    assert config.evaluation.axes == (
        {"task": "synthetic", "mode": "linear_exact"}, {"task": "folder", "mode": "linear_exact"},
    )  # fmt: skip


def test_the_report_has_a_model_for_each_name_and_its_seeds(tmp_path, monkeypatch):
    """Seeds of one objective have weights of their own and are compared by their mean."""
    config = get_config("16,objectives=supervised,encoders=merl_vit,seeds=2,mode=linear_exact")
    store = tmp_path / "stores" / "synthetic"
    prepare_store("synthetic", store, records=40, seed=0, workers=1, min_count=1)
    config.common.data.stores = str(store)
    config.common.batch_size = 8
    config.evaluation.stores = str(store.parent)
    config.report.interval.replicates = 20
    config.report.figures = False
    monkeypatch.setitem(ENCODERS, "merl_vit", ENCODERS["merl_vit"] | {"width": 16})
    pretrain_ablation.run(config, tmp_path / "ablation")
    report = json.loads((tmp_path / "ablation" / "report" / "results.json").read_text())
    means = {row["model"]: row["seeds"] for row in report["rows"] if row["role"] == "mean"}
    assert means == {"merl_vit supervised 16": [0, 1], "merl_vit untrained": [0, 1]}
    assert {row["data"]["fingerprint"] for row in report["rows"]} == {open_store(store).fingerprint}
    costs = (tmp_path / "ablation" / "pretraining.csv").read_text().splitlines()
    assert len(costs) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((text, "expected recordings seen") for text in ("0", "a", "500+", "seeds=0")),
        ("encoders=net1d", "'net1d' is unknown; expected some of ecg_cpc"),
        ("objectives=cpd", "'cpd' is unknown; expected some of cpc"),
        ("seed=1", "'seed=1' is unknown; expected recordings="),
    ],
)
def test_choices_that_cannot_be(text, message):
    with pytest.raises(UserError, match=message):
        get_config(text)
