"""Every program of every model lowers for CPU, CUDA and TPU: the fast check, which needs nothing but jax."""

import jax
import jax.numpy as jnp
import pytest
from jax import export

from ecgjax import models
from ecgjax.compilation import programs

PLATFORMS = ("cpu", "cuda", "tpu")
BATCH = 8


@pytest.fixture(scope="module")
def where() -> programs.Place:
    return programs.place(jax.local_devices()[:1], BATCH)


def lowered(program: programs.Compilable) -> export.Exported:
    return export.export(jax.jit(program.function, donate_argnums=program.donated), platforms=PLATFORMS)(
        *program.arguments
    )


@pytest.mark.parametrize("name", models.names())
def test_fine_tuning_of_every_model(name: str, where: programs.Place) -> None:
    program = programs.of_model(name, "finetune", BATCH, where)
    found = lowered(program)
    assert found.platforms == PLATFORMS
    # What comes out is the state that went in, and a loss.
    leaves = jax.tree.leaves(program.arguments[0])
    assert [aval.shape for aval in found.out_avals[:-1]] == [leaf.shape for leaf in leaves]
    assert found.out_avals[-1].shape == ()


@pytest.mark.parametrize("step", ["features", "linear", "fused"])
def test_frozen_steps(step: str, where: programs.Place) -> None:
    for name in ("ecg_cpc", "merl_resnet"):
        found = lowered(programs.of_model(name, step, BATCH, where))
        if step == "features":
            spec = models.create(name).spec
            assert found.out_avals[0].shape[::2] == (BATCH, spec.channels)
            assert found.out_avals[1].shape == (BATCH, spec.channels)
        if step == "fused":
            assert found.out_avals[-1].shape == (programs.FUSED,)


def test_pretraining_and_bootstrap(where: programs.Place) -> None:
    found = lowered(programs.pretraining_step(BATCH, where))
    assert sum(aval.dtype == jnp.float32 for aval in found.out_avals) > 50
    block = lowered(programs.bootstrap_block(where))
    assert [aval.shape for aval in block.out_avals] == [(4, 128)]
