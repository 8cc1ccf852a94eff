"""Position tables, the positional convolution and the convolutional extractor against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.models import ecg_jepa, hubert_ecg, st_mem
from ecgjax.models.conv_extractor import ConvExtractor, least_samples
from ecgjax.models.convolution import convolution, cpu_form
from ecgjax.models.positional import PositionalConv, sine_cosine
from tests.conftest import load_golden
from tests.models.golden import relative

RNG = np.random.default_rng(0)


def test_sine_cosine() -> None:
    table = sine_cosine([0, 1, 3], 8)
    np.testing.assert_allclose(table[0], [0] * 4 + [1] * 4)
    np.testing.assert_allclose(table[2], [f(3 / 10**k) for f in (np.sin, np.cos) for k in range(4)])


def test_tables_are_the_references() -> None:
    np.testing.assert_array_equal(ecg_jepa.position_table(), load_golden("ecg_jepa")[1]["param/pos_embed"])
    # The reference computes this one in float32.
    expected = load_golden("st_mem")[1]["param/encoder.pos_embedding"][0]
    np.testing.assert_allclose(st_mem.position_table(), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("length", "width", "padding"), [(1, 4, (2, 1)), (9, 4, (2, 1)), (5, 64, (32, 31)), (7, 3, (0, 0))]
)
def test_fourier_form_is_the_plain_convolution(length: int, width: int, padding: tuple[int, int]) -> None:
    x = jnp.asarray(RNG.standard_normal((2, length, 6)), jnp.float32)
    kernel = jnp.asarray(RNG.standard_normal((width, 2, 12)), jnp.float32)

    def gradients(form: str):
        def value(x, kernel):
            y = convolution(x, kernel, padding=padding, groups=3, form=form)
            return jnp.sum(jnp.cos(y)), y

        return jax.jit(jax.grad(value, argnums=(0, 1), has_aux=True))(x, kernel)

    for found, expected in zip(jax.tree.leaves(gradients("fourier")), jax.tree.leaves(gradients("plain")), strict=True):
        assert found.shape == expected.shape
        assert relative(found, expected) < 1e-5


def test_long_kernels_and_short_signals_go_through_the_spectrum_on_a_cpu() -> None:
    assert cpu_form(16, 93, 128, 1) == "fourier"
    assert cpu_form(25, 40, 16, 1) == cpu_form(64, 10, 16, 2) == "fourier"
    assert cpu_form(25, 157, 16, 1) == cpu_form(64, 40, 16, 2) == "blocks of 4"


def test_positional_conv_normalises_each_tap() -> None:
    x = jnp.asarray(RNG.standard_normal((2, 10, 8)), jnp.float32)
    layer = PositionalConv(width=4, groups=2)
    variables = layer.init(jax.random.key(0), x)
    params = variables["params"]
    norms = np.sqrt(np.sum(np.square(params["direction"]), (1, 2)))
    np.testing.assert_allclose(params["gain"], norms, rtol=1e-6)
    np.testing.assert_array_equal(params["bias"], 0)
    # The direction's length does not matter, the gain does; a token sees two before itself and one after.
    longer = {**params, "direction": 3 * params["direction"]}
    np.testing.assert_allclose(layer.apply({"params": longer}, x), layer.apply(variables, x), atol=1e-6)
    silent = {**params, "gain": params["gain"].at[1:].set(0)}
    moved = layer.apply({"params": silent}, x)
    np.testing.assert_array_equal(moved[:, :2], 0)
    kernel = params["direction"][0]
    expected = jnp.concatenate([x[:, :-2, :4] @ kernel[:, :4], x[:, :-2, 4:] @ kernel[:, 4:]], -1)
    np.testing.assert_allclose(moved[:, 2:], jax.nn.gelu(expected, approximate=False), atol=1e-5)


def test_extractor_lengths() -> None:
    layers = hubert_ecg.EXTRACTOR
    extractor = ConvExtractor(8, layers)

    def tokens(samples: int) -> list[int]:
        x = jax.ShapeDtypeStruct((1, samples, 1), jnp.float32)
        (_, taps), _ = jax.eval_shape(extractor.init_with_output, jax.random.key(0), x)
        return [tap.shape[1] for tap in taps.values()]

    assert tokens(6000) == [1498, 748, 373, 186, 93]
    assert tokens(least_samples(layers))[-1] == 1
    assert tokens(least_samples(layers) - 1)[-1] == 0


def test_extractor_ignores_offset_and_scale_of_its_input() -> None:
    x = RNG.standard_normal((2, 80, 1)).astype(np.float32)
    extractor = ConvExtractor(8, ((4, 2), (2, 2)))
    (y, _), variables = extractor.init_with_output(jax.random.key(0), x)
    z, _ = extractor.apply(variables, 100 * x + 5)
    assert relative(z, y) < 1e-4
