"""The ablation's plan: which pretrainings there are, which are left out and why, and what is refused."""

import pytest

from configs.pretrain_ablation import get_config
from ecgjax.errors import UserError
from ecgjax.jobs.pretrain_ablation import plan


def test_the_plan_of_the_config():
    config = get_config("500+2000")
    runs, refused = plan(config.pretraining)
    trained = {(own.objective, own.model) for own in runs.values()}
    assert len(runs) == 2 * len(trained)
    assert {model for objective, model in trained if objective == "cpc"} == {"ecg_cpc", "s4", "merl_vit"}
    assert {model for objective, model in trained if objective == "wav2vec"} == {"ecg_cpc"}
    for objective in ("masked_clusters", "masked_autoencoder", "jepa", "supervised"):
        assert {model for name, model in trained if name == objective} == {"ecg_cpc", "s4", "merl_vit", "st_mem"}
    assert refused["st_mem cpc 500"].startswith("objective cpc cannot train st_mem")
    own = runs["merl_vit cpc 2000"]
    assert (own.budget.recordings, own.model_arguments.causal, own.model_arguments.width) == (2000, True, 64)
    assert runs["st_mem jepa 500"].options.jepa.width == 32
    assert runs["st_mem jepa 500"].model_arguments.layers == 2


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


@pytest.mark.parametrize("text", ["0", "a", "500+"])
def test_budgets_are_numbers(text):
    with pytest.raises(UserError, match="expected recordings seen"):
        get_config(text)
