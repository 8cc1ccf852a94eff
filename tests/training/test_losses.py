import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ecgjax import losses
from ecgjax.errors import UserError
from tests.conftest import load_golden


@pytest.mark.parametrize("case", ["small", "edge", "full_1127"])
def test_multitask_golden(case):
    manifest, arrays = load_golden("loss_multitask")
    loss, gradient = jax.jit(jax.value_and_grad(lambda x, t: losses.multitask(x, t, n_regression=35)))(
        arrays[f"{case}/logits"], arrays[f"{case}/targets"]
    )
    np.testing.assert_allclose(loss, arrays[f"{case}/loss"], rtol=0, atol=manifest["tolerance"]["loss"])
    np.testing.assert_allclose(gradient, arrays[f"{case}/grad"], rtol=0, atol=manifest["tolerance"]["grad"])


def test_multitask_parts_golden():
    _, arrays = load_golden("loss_multitask")
    logits, targets = arrays["edge/logits"], arrays["edge/targets"]
    np.testing.assert_allclose(
        losses.multitask(logits[:, :-35], targets[:, :-35], 0), arrays["edge/cls_part"], atol=2e-6
    )
    np.testing.assert_allclose(
        losses.multitask(logits[:, -35:], targets[:, -35:], 35), arrays["edge/reg_part"], atol=2e-6
    )


def test_bce_golden():
    manifest, arrays = load_golden("loss_multitask")
    loss, gradient = jax.value_and_grad(losses.bce)(arrays["bce_multilabel/logits"], arrays["bce_multilabel/targets"])
    np.testing.assert_allclose(loss, arrays["bce_multilabel/loss"], rtol=0, atol=manifest["tolerance"]["loss"])
    np.testing.assert_allclose(gradient, arrays["bce_multilabel/grad"], rtol=0, atol=manifest["tolerance"]["grad"])


def test_bce_is_the_mean_over_known_entries():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((6, 4)).astype(np.float32)
    targets = (rng.random((6, 4)) < 0.5).astype(np.float32)
    targets[0, :3] = targets[2:, 1] = np.nan
    known = ~np.isnan(targets)
    expected = optax.sigmoid_binary_cross_entropy(logits[known], targets[known]).mean()
    np.testing.assert_allclose(losses.bce(logits, targets), expected, rtol=1e-6)


def _loss_functions():
    return [losses.bce, lambda x, t: losses.multitask(x, t, 2)]


@pytest.mark.parametrize("loss", _loss_functions(), ids=["bce", "multitask"])
def test_a_batch_without_labels_is_zero_with_zero_gradient(loss):
    value, gradient = jax.value_and_grad(loss)(jnp.ones((3, 4)), jnp.full((3, 4), jnp.nan))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("loss", _loss_functions(), ids=["bce", "multitask"])
def test_unknown_targets_and_non_finite_logits_leave_gradients_finite(loss):
    logits = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    logits[0, 0], logits[1, 3] = np.nan, np.nan
    targets = np.array([[1, 0, 0.5, np.nan], [np.nan, 1, np.nan, 2], [0, np.nan, 1, 1], [1, 0, -1, 0]], np.float32)
    targets[:, 2:] = (targets[:, 2:] > 0) if loss is losses.bce else targets[:, 2:]
    value, gradient = jax.value_and_grad(loss)(logits, targets)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert gradient[0, 0] == gradient[1, 3] == 0  # a NaN output is the constant 0


def test_infinite_logits_become_the_largest_finite_number():
    largest = np.finfo(np.float32).max
    np.testing.assert_array_equal(losses.finite(jnp.array([[jnp.inf, -jnp.inf, jnp.nan]])), [[largest, -largest, 0]])
    assert losses.bce(jnp.array([[jnp.inf, -jnp.inf]]), jnp.array([[1.0, 0.0]])) == 0


def test_absolute_error_of_zero_has_no_gradient():
    gradient = jax.grad(lambda x: losses.multitask(x, jnp.array([[2.0, 3.0]]), 2))(jnp.array([[2.0, 4.0]]))
    np.testing.assert_array_equal(gradient, [[0.0, 0.5]])


def test_half_precision_logits_are_summed_in_float32():
    assert losses.bce(jnp.ones((2, 2), jnp.bfloat16), jnp.ones((2, 2))).dtype == jnp.float32


@pytest.mark.parametrize(
    ("logits", "targets", "n_regression", "message"),
    [
        ((3, 4), (3, 5), 1, r"logits have shape \(3, 4\) and targets \(3, 5\)"),
        ((4,), (4,), 1, r"logits have shape \(4,\)"),
        ((3, 4), (3, 4), 5, "n_regression is 5; expected 0 to 4"),
        ((3, 4), (3, 4), -1, "n_regression is -1"),
    ],
)
def test_bad_shapes(logits, targets, n_regression, message):
    with pytest.raises(UserError, match=message):
        losses.multitask(jnp.zeros(logits), jnp.zeros(targets), n_regression)
