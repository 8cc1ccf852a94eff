"""Which trainings go into one program, and how many."""

import jax
import jax.numpy as jnp
import pytest

from ecgjax.models import registry
from ecgjax.sweep import encoder_facts, stacking
from ecgjax.sweep.cells import resolve
from ecgjax.sweep.stacking import LARGE, Sizes, common, sizes_of, stack_size
from ecgjax.sweep.units import units
from tests.jobs.conftest import tiny

__all__ = ["tiny"]
SMALL = {"model": "s4", "mode": "scratch", "model_arguments.width": 16, "model_arguments.layers": 1}


def cell(**changes):
    return resolve({**SMALL, **changes}, {}, None, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"learning_rate": 0.1},
        {"rate_factor": 0.5},
        {"weight_decay": 0.0},
        {"data.seed": 3},
        {"interval.replicates": 10},
    ],
)
def test_what_each_run_may_have_of_its_own(changes):
    assert common(cell(**changes)) == common(cell())
    assert cell(**changes).name != cell().name


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 3},
        {"batch_size": 8},
        {"mode": "finetune"},
        {"protocol": "paper"},
        {"model_arguments.width": 32},
        {"data.ratio": 0.5},
        {"data.placement": "host"},
    ],
)
def test_what_all_runs_of_a_program_have_in_common(changes):
    assert common(cell(**changes)) != common(cell())


def test_seeds_that_choose_records_are_apart():
    half = {"data.ratio": 0.5}
    assert common(cell(**half, seed=0)) != common(cell(**half, seed=1))
    assert common(cell(**half, seed=0)) == common(cell(**half, seed=0, learning_rate=1.0))


def test_sizes_decide_how_many(monkeypatch):
    one = cell()
    state = 5 * 400 + one.settings["batch_size"] * 1000

    def sizes(parameters):
        monkeypatch.setattr(stacking, "sizes_of", lambda *_: Sizes(parameters, 400, 1000))

    sizes(100)
    assert [stack_size(one, 2 * n * state, 1) for n in (0.5, 1, 1.5, 3, 100)] == [1, 1, 1, 3, 8]
    assert [stack_size(one, 2 * n * state, 4) for n in (0.5, 1, 3, 100)] == [1, 4, 12, 32]
    sizes(LARGE)  # a device each, or all devices together
    assert [stack_size(one, 2 * n * state, 4) for n in (0.5, 1, 3, 100)] == [1, 4, 4, 4]
    assert stack_size(one, 200 * state, 1) == 1


def test_units_of_trainings(monkeypatch):
    monkeypatch.setattr(stacking, "sizes_of", lambda *_: Sizes(100, 400, 1000))
    monkeypatch.setattr(stacking, "MOST_PER_DEVICE", 3)
    cells = [cell(seed=seed, epochs=epochs) for epochs in (1, 2) for seed in range(4)] + [cell(epochs=9)]
    found = units(cells, stacking=stacking.stacking(jax.local_devices()[:1]))
    assert [(unit.kind, len(unit.cells)) for unit in found] == [("stacked", 2)] * 4 + [("single", 1)]
    assert [c for unit in found for c in unit.cells] == cells


@pytest.mark.usefixtures("tiny")
def test_activations_are_what_a_backward_pass_needs(monkeypatch, tmp_path):
    monkeypatch.setattr(encoder_facts, "cache_folder", lambda: tmp_path)
    sizes_of.cache_clear()
    encoder, batch = registry.create("tiny", width=16), 64
    sizes = sizes_of("tiny", '{"width": 16}')
    assert sizes_of.__wrapped__("tiny", '{"width": 16}') == sizes  # from the cache folder
    variables = encoder.shapes()
    assert sizes.parameters == sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))

    def loss(params, rest, x):
        features, _ = encoder.apply({"params": params, **rest}, x, True, jax.random.key(0))
        return features.pooled.sum()

    params = variables.pop("params")
    x = jax.ShapeDtypeStruct((batch, encoder.samples, 12), jnp.float32)
    needed = jax.jit(jax.grad(loss)).lower(params, variables, x).compile().memory_analysis()
    assert 0.3 < needed.temp_size_in_bytes / (batch * sizes.activations) < 3
    sizes_of.cache_clear()
