"""Dropout's masks: Threefry against its published vectors and JAX's own, and the statistics of what is kept."""

import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.models.dropout import Dropout, drop, kept, threefry

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [  # of the paper's library, Random123, threefry2x32 with 20 rounds
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((ONES, ONES), (ONES, ONES), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_published_vectors(key, counter, expected) -> None:
    found = threefry(jnp.asarray(key, jnp.uint32), *jnp.asarray(counter, jnp.uint32)[:, None])
    assert tuple(int(word[0]) for word in found) == expected


def test_blocks_are_those_of_jax() -> None:
    key, counters = jnp.asarray([7, 9], jnp.uint32), jnp.arange(20, dtype=jnp.uint32)
    found = jnp.concatenate(threefry(key, counters[:10], counters[10:]))
    np.testing.assert_array_equal(found, jax.extend.random.threefry_2x32(key, counters))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_elements_are_kept_at_the_rate_and_independently(rate: float) -> None:
    shape = (64, 33, 130)  # four elements of a block stand 33 apart, and the last block is cut
    mask = np.asarray(kept(jax.random.key(0), rate, shape))
    assert mask.shape == shape
    sigma = np.sqrt(rate * (1 - rate) / mask.size)
    assert abs(mask.mean() - (1 - rate)) < 5 * sigma
    for axis in range(3):  # of every row, column and sample
        means = mask.mean(tuple({0, 1, 2} - {axis}))
        assert np.abs(means - (1 - rate)).max() < 6 * sigma * np.sqrt(shape[axis])
    centred = mask - (1 - rate)
    for axis, step in ((0, 1), (1, 1), (2, 1), (2, 33), (2, 66), (2, 99)):
        a, b = np.moveaxis(centred, axis, 0)[step:], np.moveaxis(centred, axis, 0)[:-step]
        assert abs((a * b).mean()) < 5 * rate * (1 - rate) / np.sqrt(a.size)
    other = np.asarray(kept(jax.random.key(1), rate, shape)) - (1 - rate)
    assert abs((centred * other).mean()) < 5 * rate * (1 - rate) / np.sqrt(mask.size)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from([(3,), (2, 5), (4, 1, 9), (2, 3, 4, 8)]), st.floats(0, 0.99), st.integers(0, 2**32 - 1))
def test_what_is_kept_is_scaled_to_the_same_mean(shape: tuple[int, ...], rate: float, seed: int) -> None:
    key, x = jax.random.key(seed), np.arange(1.0, np.prod(shape) + 1, dtype=np.float32).reshape(shape)
    mask = np.asarray(kept(key, rate, shape))
    y, gradient = jax.vjp(lambda x: drop(x, rate, key), x)
    np.testing.assert_allclose(y, np.where(mask, x / (1 - rate), 0), rtol=1e-6)
    np.testing.assert_allclose(gradient(jnp.ones(shape))[0], mask / (1 - rate), rtol=1e-6)


def test_runs_that_are_stacked_draw_what_they_draw_alone() -> None:
    keys = jax.random.split(jax.random.key(5), 3)
    together = jax.vmap(lambda key: kept(key, 0.3, (4, 10)))(keys)
    np.testing.assert_array_equal(together, [kept(key, 0.3, (4, 10)) for key in keys])
    assert not np.array_equal(together[0], together[1])


def test_tied_axes_share_one_draw() -> None:
    x = jnp.ones((200, 7, 50))
    y = Dropout(0.2, tied=(1,)).apply({}, x, True, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    assert set(np.unique(y)) == {0.0, np.float32(1.25)}
    assert abs(float(y.mean()) - 1) < 0.02


def test_nothing_is_drawn_in_evaluation_or_at_rate_0() -> None:
    x = jnp.ones((2, 3))
    assert Dropout(0.2).apply({}, x, False) is x
    assert Dropout(0.0).apply({}, x, True) is x
