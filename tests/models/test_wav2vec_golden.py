"""Features and gradients of HuBERT-ECG and ECG-FM against the reference, full-size."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.models import golden

FEATURES, GRADIENT = 5e-6, 2e-5


def test_hubert_ecg() -> None:
    c = golden.load("hubert_ecg")
    cotangent = c.draw("cotangent", (2, 768)).astype(np.float32)
    prepared = c.arrays["preprocessed_input"]
    x = prepared.reshape(2, 12, 500).swapaxes(1, 2)

    @jax.jit
    def run(variables, x):
        # The reference's gradient is with respect to the prepared signal.
        def target(x):
            out = c.encoder.module.apply(variables, x, False)
            return jnp.sum(out.pooled * cotangent), out

        return jax.grad(target, has_aux=True)(x)

    gradient, out = run(c.variables, x)
    expected = c.arrays["sequence_features"]
    assert golden.relative(golden.thin(out.sequence, 1, expected), expected) < FEATURES
    assert golden.relative(out.pooled, c.arrays["pooled_features"]) < FEATURES
    assert golden.relative(golden.channels_last(gradient).reshape(2, 6000), c.arrays["grad_input"]) < GRADIENT
    np.testing.assert_array_equal(out.taps["layer_11"], out.sequence)
    # From mV, filtered and scaled in float32 rather than float64.
    out = jax.jit(lambda variables, x: c.encoder.apply(variables, x)[0])(c.variables, c.x)
    assert golden.relative(out.pooled, c.arrays["pooled_features"]) < 2e-5


def test_ecg_fm() -> None:
    c = golden.load("ecg_fm")
    cotangent = c.draw("cotangent", (2, 768)).astype(np.float32)

    @jax.jit
    def run(variables, x):
        def target(x):
            out = c.encoder.apply(variables, x)[0]
            return jnp.sum(out.pooled * cotangent), out

        return jax.grad(target, has_aux=True)(x)

    gradient, out = run(c.variables, c.x)
    expected = c.arrays["sequence_features"]
    assert golden.relative(golden.thin(out.sequence, 1, expected), expected) < FEATURES
    assert golden.relative(out.pooled, c.arrays["pooled_features"]) < FEATURES
    expected = c.arrays["grad_input"]
    assert golden.relative(golden.thin(golden.channels_last(gradient), 2, expected), expected) < GRADIENT
    np.testing.assert_array_equal(out.taps["layer_11"], out.sequence)
