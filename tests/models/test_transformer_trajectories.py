"""Three steps of fine-tuning against the reference, through the run's own rate groups and optimiser."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from convert_weights import mapping, names
from ecgjax.models import heads
from ecgjax.training import optimiser, supervised
from tests.models import golden

ARGUMENTS = {
    "hubert_ecg": {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "layerdrop": 0.0},
    "ecg_jepa": {"stored_in": "ecg_jepa"},
}


@pytest.mark.parametrize("model", ["hubert_ecg", pytest.param("ecg_jepa", marks=pytest.mark.slow)])
def test_trajectory(model: str) -> None:
    c = golden.load(f"finetune_trajectory_{model}", **ARGUMENTS[model])
    head = heads.create("linear", 768, 71)
    targets = jnp.asarray(c.arrays["targets"])
    params = {"encoder": c.variables["params"], "head": c.heads["linear"]}
    params = jax.tree.map(jnp.asarray, params)
    rest = {name: value for name, value in c.variables.items() if name != "params"}
    groups, rates = supervised.rate_groups_of(c.encoder.spec, supervised.MODES["finetune"], 1e-3, 0.1)
    labels, _ = optimiser.rate_groups(params, groups, rates)
    update = optimiser.adamw(labels, rates, 1e-3)

    def loss(params, rest):
        features, rest = c.encoder.apply({"params": params["encoder"], **rest}, c.x, train=True)
        logits = head.apply(params["head"], features)
        return optax.sigmoid_binary_cross_entropy(logits, targets).mean(), (rest, logits)

    @jax.jit
    def step(params, state, rest):
        (value, (rest, logits)), grads = jax.value_and_grad(loss, has_aux=True)(params, rest)
        updates, state = update.update(grads, state, params)
        return optax.apply_updates(params, updates), state, rest, value, logits, grads

    def torch_slices(tree) -> dict[str, np.ndarray]:
        tree = jax.device_get(tree)
        tensors = mapping.to_torch(names.get(model), c.encoder, {**rest, "params": tree["encoder"]})
        return {**tensors, "head.weight": tree["head"]["kernel"].T, "head.bias": tree["head"]["bias"]}

    def stored(prefix: str) -> dict[str, np.ndarray]:
        slices = {key.removeprefix(prefix): value for key, value in c.arrays.items() if key.startswith(prefix)}
        noise = c.manifest["gradient_is_rounding_noise_do_not_compare"]
        return {name: slices[name] for name in slices.keys() - {*noise, *c.manifest["unchanged_after_training"]}}

    before = jax.device_get(params["encoder"])
    state, losses = update.init(params), []
    for i in range(3):
        params, state, rest, value, logits, grads = step(params, state, rest)
        losses.append(value)
        if i == 0:
            assert golden.relative(logits, c.arrays["logits_step0"]) < 2e-5
            found = torch_slices(grads)
            for name, expected in stored("grad0/").items():
                error = np.abs(found[name].ravel()[: expected.size] - expected).max()
                # Gradients near 1e-7 stand beside sums of terms near 1e-3.
                assert error <= 1e-4 * np.abs(expected).max() + 1e-10, name
            del grads, found
    losses.append(jax.jit(loss)(params, rest)[0])
    np.testing.assert_allclose(losses, c.arrays["losses"], rtol=2e-5)

    found = torch_slices(params)
    rate = {name: group["lr"] for group in c.manifest["procedure"]["groups"] for name in group["names"]}
    compared = stored("final/")
    assert len(compared) > 20
    for name, expected in compared.items():
        error = np.abs(found[name].ravel()[: expected.size] - np.ravel(expected)).max()
        assert error <= 0.05 * rate[name], (name, error / rate[name])
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, jax.device_get(params["encoder"]))
    assert all(jax.tree.leaves(moved))
