"""Convolution forms, padding and pooling against their definitions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.models import convolution as conv

RNG = np.random.default_rng(0)
FORMS = ("plain", "dense", "split", "blocks of 4", "blocks of 5", "fourier", "auto")


def definition(x, kernel, stride, pads, groups):
    width, _, features = kernel.shape
    x = np.pad(x.astype(np.float64), ((0, 0), pads, (0, 0)))
    starts = range(0, x.shape[1] - width + 1, stride)
    out = []
    for part, weights in zip(np.split(x, groups, -1), np.split(kernel, groups, -1), strict=True):
        out.append(np.stack([np.einsum("bwi,wio->bo", part[:, s : s + width], weights) for s in starts], 1))
    assert np.concatenate(out, -1).shape[-1] == features
    return np.concatenate(out, -1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("length", "stride"), [(5, 1), (9, 2), (20, 2), (23, 1), (40, 2)])
def test_grouped_forms(form: str, length: int, stride: int) -> None:
    x = RNG.standard_normal((2, length, 48)).astype(np.float32)
    kernel = RNG.standard_normal((16, 16, 48)).astype(np.float32)
    y = jax.jit(lambda x, kernel: conv.convolution(x, kernel, stride, "same", 3, form))(x, kernel)
    pads = conv.same_padding(length, 16, stride)
    np.testing.assert_allclose(y, definition(x, kernel, stride, pads, 3), atol=1e-4)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "plain"])
@pytest.mark.parametrize(("length", "stride", "groups"), [(9, 1, 2), (26, 2, 2), (21, 1, 12)])
def test_gradients_of_grouped_forms(form: str, length: int, stride: int, groups: int) -> None:
    x = jnp.asarray(RNG.standard_normal((2, length, 4 * groups)), jnp.float32)
    kernel = jnp.asarray(RNG.standard_normal((16, 4, 4 * groups)), jnp.float32)

    @partial(jax.jit, static_argnums=0)
    def gradients(form: str, x: jax.Array, kernel: jax.Array):
        y, back = jax.vjp(lambda x, kernel: conv.convolution(x, kernel, stride, "same", groups, form), x, kernel)
        return back(jnp.sin(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape))

    for found, expected in zip(gradients(form, x, kernel), gradients("plain", x, kernel), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-4)


def test_channels_may_differ_from_features() -> None:
    x = RNG.standard_normal((2, 12, 6)).astype(np.float32)
    kernel = RNG.standard_normal((3, 3, 8)).astype(np.float32)
    for form in FORMS:
        y = conv.convolution(x, kernel, 1, (1, 1), 2, form)
        np.testing.assert_allclose(y, definition(x, kernel, 1, (1, 1), 2), atol=1e-5)


@pytest.mark.parametrize(
    ("length", "width", "stride", "pads"),
    [(1250, 16, 2, (7, 7)), (625, 16, 2, (7, 8)), (313, 16, 1, (7, 8)), (10, 1, 2, (0, 0)), (3, 16, 2, (7, 8))],
)
def test_same_padding(length: int, width: int, stride: int, pads: tuple[int, int]) -> None:
    assert conv.same_padding(length, width, stride) == pads
    outputs = (length + sum(pads) - width) // stride + 1
    assert outputs == -(-length // stride)


def test_the_platform_decides() -> None:
    x, kernel = jnp.ones((1, 20, 32)), jnp.ones((16, 16, 32))

    def step(x, kernel):
        return conv.convolution(x, kernel, 1, "same", 2)

    for_gpu = jax.jit(step).trace(x, kernel).lower(lowering_platforms=("cuda",)).as_text()
    assert "feature_group_count = 2" in for_gpu
    assert for_gpu.count("stablehlo.convolution") == 1
    for_cpu = jax.jit(step).trace(x, kernel).lower(lowering_platforms=("cpu",)).as_text()
    assert "feature_group_count = 2" not in for_cpu
    with pytest.raises(KeyError):
        conv.convolution(x, kernel, 1, "same", 2, "winograd")


@pytest.mark.parametrize("length", [6, 7])
def test_max_pool_with_a_zero_beyond_the_end(length: int) -> None:
    x = -1.0 - RNG.random((2, length, 3)).astype(np.float32)
    y = np.asarray(conv.max_pool(x, 2, 2, (0, length % 2), fill=0.0))
    whole = x[:, : length // 2 * 2].reshape(2, -1, 2, 3).max(2)
    np.testing.assert_array_equal(y[:, : length // 2], whole)
    if length % 2:
        np.testing.assert_array_equal(y[:, -1], 0)


def test_max_pool_of_three() -> None:
    x = RNG.standard_normal((2, 10, 3)).astype(np.float32)
    y = conv.max_pool(x, 3, 2, (1, 1))
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)), constant_values=-np.inf)
    np.testing.assert_array_equal(y, np.stack([padded[:, s : s + 3].max(1) for s in range(0, 10, 2)], 1))


def test_max_pool_gives_the_gradient_to_the_first_of_equals() -> None:
    gradient = jax.grad(lambda x: conv.max_pool(x, 2, 2).sum())(jnp.ones((1, 4, 1)))
    np.testing.assert_array_equal(gradient[0, :, 0], [1, 0, 1, 0])


def test_average_pool_keeps_a_lone_last_sample() -> None:
    x = RNG.standard_normal((2, 5, 3)).astype(np.float32)
    y = conv.average_pool(x, 2, 2)
    np.testing.assert_allclose(y[:, :2], x[:, :4].reshape(2, 2, 2, 3).mean(2), rtol=1e-6)
    np.testing.assert_array_equal(y[:, 2], x[:, 4])
    np.testing.assert_allclose(conv.average_pool(x[:, :4], 2, 2), y[:, :2])


@pytest.mark.parametrize(("channels", "groups"), [(64, 1), (160, 10)])
def test_tpu_programs_are_dense_up_to_its_tiles(channels: int, groups: int) -> None:
    x = jax.ShapeDtypeStruct((1, 20, channels), jnp.float32)
    kernel = jax.ShapeDtypeStruct((16, 16, channels), jnp.float32)
    program = jax.jit(lambda x, kernel: conv.convolution(x, kernel, 1, "same", channels // 16))
    text = program.trace(x, kernel).lower(lowering_platforms=("tpu",)).as_text()
    assert f"feature_group_count = {groups} :" in text
