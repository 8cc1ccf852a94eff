"""Every program lowers for CPU, CUDA and TPU, at the costs of the baseline: fast, and nothing but jax is needed."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import export

from benchmarks import costs
from ecgjax import models
from ecgjax.compilation import programs

PLATFORMS = ("cpu", "cuda", "tpu")
CHECKED = ("ecg_cpc", "merl_resnet")
"""Models whose frozen steps are lowered too; all models' are with --slow."""


@pytest.fixture(scope="module")
def where() -> programs.Place:
    return programs.place(jax.local_devices()[:1], costs.BATCH)


@pytest.fixture(scope="module")
def baseline() -> dict[str, Any]:
    return costs.stored()


def lowered(program: programs.Compilable) -> export.Exported:
    with jax.default_matmul_precision("highest"):  # that of the costs, which are then not traced again
        function = jax.jit(program.function, donate_argnums=program.donated)
        return export.export(function, platforms=PLATFORMS)(*program.arguments)


def check_costs(program: programs.Compilable, baseline: dict[str, Any]) -> None:
    if baseline["versions"] != costs.versions():
        pytest.skip(f"lowers, but {costs.FILE.name} is of {baseline['versions']}; python -m benchmarks.costs --write")
    assert costs.grown("lowered", program.name, costs.lowered(program), baseline) == []


@pytest.mark.parametrize("name", models.names())
def test_fine_tuning_of_every_model(name: str, where: programs.Place, baseline: dict[str, Any]) -> None:
    program = programs.of_model(name, "finetune", costs.BATCH, where)
    found = lowered(program)
    assert found.platforms == PLATFORMS
    # What comes out is the state that went in, and a loss.
    leaves = jax.tree.leaves(program.arguments[0])
    assert [aval.shape for aval in found.out_avals[:-1]] == [leaf.shape for leaf in leaves]
    assert found.out_avals[-1].shape == ()
    check_costs(program, baseline)


@pytest.mark.parametrize("step", ["features", "linear", "fused"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in CHECKED else pytest.mark.slow) for name in models.names()]
)
def test_frozen_steps(name: str, step: str, where: programs.Place, baseline: dict[str, Any]) -> None:
    program = programs.of_model(name, step, costs.BATCH, where)
    found = lowered(program)
    if step == "features":
        spec = models.create(name).spec
        assert found.out_avals[0].shape[::2] == (costs.BATCH, spec.channels)
        assert found.out_avals[1].shape == (costs.BATCH, spec.channels)
    if step == "fused":
        assert found.out_avals[-1].shape == (programs.FUSED,)
    check_costs(program, baseline)


def test_pretraining(where: programs.Place, baseline: dict[str, Any]) -> None:
    program = programs.pretraining_step(costs.BATCH, where)
    found = lowered(program)
    assert sum(aval.dtype == jnp.float32 for aval in found.out_avals) > 50
    check_costs(program, baseline)


def test_bootstrap(where: programs.Place, baseline: dict[str, Any]) -> None:
    program = programs.bootstrap_block(where)
    assert [aval.shape for aval in lowered(program).out_avals] == [(4, 128)]
    check_costs(program, baseline)
