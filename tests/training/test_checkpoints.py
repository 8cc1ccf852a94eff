"""Checkpoints come back whole, or say why not."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ecgjax.errors import UserError
from ecgjax.training.checkpoints import Checkpoints


def make_state(value: float = 1.0):
    params = {"a": jnp.full((300, 50), value), "b": {"c": jnp.arange(7.0) * value}}
    tx = optax.multi_transform({"x": optax.adamw(1e-3), "y": optax.adamw(1e-4)}, {"a": "x", "b": {"c": "y"}})
    return {"params": params, "opt": tx.init(params), "key": jax.random.key(int(value)), "step": jnp.int32(value)}


def make_iterator():
    return iter(grain.MapDataset.source(np.arange(100)).seed(0).shuffle().to_iter_dataset())


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_state_iterator_and_meta_come_back(tmp_path):
    iterator = make_iterator()
    for _ in range(5):
        next(iterator)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, make_state(3.0), iterator, meta={"best": 0.5})
        expected = next(iterator)
    with Checkpoints(tmp_path) as checkpoints:
        fresh = make_iterator()
        restored = checkpoints.restore(make_state(0.0), fresh)
    assert restored.step == 3
    assert restored.meta == {"best": 0.5}
    assert_same(restored.state, make_state(3.0))
    assert next(fresh) == expected


def test_without_iterator_and_nothing_there(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(make_state()) is None
        checkpoints.save(1, make_state(1.0), best=True)
        checkpoints.save(2, make_state(2.0), wait=True)
        assert checkpoints.restore(make_state()).step == 2
        best = checkpoints.restore(make_state(), best=True)
    assert best.step == 1
    assert_same(best.state, make_state(1.0))


def test_each_keeps_one(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(1, 5):
            checkpoints.save(step, make_state(step), best=step == 2)
    assert os.listdir(tmp_path / "last") == ["4"]
    assert os.listdir(tmp_path / "best") == ["2"]


def test_a_donated_state_is_saved_as_it_was(tmp_path):
    update = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    state = {"a": jnp.zeros((512, 2048)), "b": jnp.zeros(3)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, state)
        for _ in range(20):
            state = update(state)
        jax.block_until_ready(state)
        checkpoints.wait()
        restored = checkpoints.restore(state)
    assert_same(restored.state, {"a": jnp.zeros((512, 2048)), "b": jnp.zeros(3)})


def damage(folder: Path, how: str) -> None:
    largest = max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    data = bytearray(largest.read_bytes())
    if how == "bit flip in array data":
        data[len(data) // 2] ^= 0x10
        largest.write_bytes(data)
    elif how == "truncated":
        largest.write_bytes(data[: len(data) // 2])
    elif how == "missing file":
        largest.unlink()
    else:
        shutil.rmtree(folder / "state")


@pytest.mark.parametrize("how", ["bit flip in array data", "truncated", "missing file", "missing folder"])
def test_a_damaged_checkpoint_falls_back_to_the_other_or_is_named(tmp_path, capsys, how):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, make_state(5.0), best=True)
        checkpoints.save(9, make_state(9.0))
    damage(tmp_path / "last" / "9", how)
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(make_state())
        checkpoints.save(9, make_state(9.0))
    assert restored.step == 5
    assert_same(restored.state, make_state(5.0))
    assert "last/9" in capsys.readouterr().err
    with Checkpoints(tmp_path) as checkpoints:
        assert_same(checkpoints.restore(make_state()).state, make_state(9.0))
    damage(tmp_path / "last" / "9", how)
    damage(tmp_path / "best" / "5", how)
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match=r"last/9.*best/5") as error:
        checkpoints.restore(make_state())
    assert "\n" not in str(error.value)


def test_another_model_is_a_clear_error(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": jnp.zeros((3, 4))})
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match="does not fit"):
        checkpoints.restore({"a": jnp.zeros((3, 4)), "b": jnp.zeros(2)})


def run_code(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )


def test_no_space_keeps_the_previous_checkpoint(tmp_path):
    process = run_code(
        """
        import resource, sys; from pathlib import Path
        import jax.numpy as jnp, numpy as np
        from ecgjax.errors import UserError
        from ecgjax.training.checkpoints import Checkpoints
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        try:
            with Checkpoints(Path(sys.argv[1])) as checkpoints:
                checkpoints.save(1, {"a": jnp.ones(10)}, wait=True)
                noise = np.random.default_rng(0).random(1_000_000)
                checkpoints.save(2, {"a": jnp.asarray(noise, jnp.float32)})
        except UserError as error:
            print(error)
        """,
        tmp_path,
    )
    out, err = process.communicate()
    assert "no space left" in out, err
    assert out.count("\n") == 1
    assert "Traceback" not in err
    assert os.listdir(tmp_path / "last") == ["1"]
    with Checkpoints(tmp_path) as checkpoints:
        assert_same(checkpoints.restore({"a": jnp.zeros(10)}).state, {"a": jnp.ones(10)})


def test_a_kill_while_saving_leaves_a_whole_checkpoint(tmp_path):
    process = run_code(
        """
        import sys; from pathlib import Path
        import jax.numpy as jnp
        from ecgjax.training.checkpoints import Checkpoints
        with Checkpoints(Path(sys.argv[1])) as checkpoints:
            for step in range(1, 10_000):
                checkpoints.save(step, {"a": jnp.full((500, 1000), float(step))}, best=step % 2 == 0)
                print(step, flush=True)
        """,
        tmp_path,
    )
    while int(process.stdout.readline()) < 6:
        pass
    process.kill()
    process.communicate()
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore({"a": jnp.zeros((500, 1000))})
    assert restored.step >= 4
    assert_same(restored.state, {"a": jnp.full((500, 1000), float(restored.step))})
    assert not list(tmp_path.rglob("*tmp*"))
