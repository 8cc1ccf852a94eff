"""Masked cluster prediction against its definition in loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.errors import UserError
from ecgjax.models import registry
from ecgjax.models.s4 import S4Stack
from ecgjax.models.tokens import Edit
from ecgjax.models.weights import save_weights
from ecgjax.pretraining import masked_clusters, masked_prediction
from ecgjax.pretraining import registry as objectives
from ecgjax.pretraining.objective import Setup
from tests.pretraining import small

PATCH = 30  # 0.3 s at 100 Hz


def describe(x):
    """Sixteen statistics of one stretch of signal, in float64."""
    x = np.asarray(x, np.float64)
    spectrum = np.abs(np.fft.fft(x)) ** 2 / len(x)
    centred, power = x - x.mean(), np.mean(x**2)
    peak = np.abs(x).max()
    shape = [np.mean(centred**3) / x.std() ** 3, np.mean(centred**4) / x.std() ** 4 - 3]
    scale = [x.min(), x.max(), x.mean(), power**0.5, x.var(), x.std(), power, peak, np.ptp(x), peak / power**0.5]
    return np.array([*scale, *shape, spectrum.max(), spectrum.sum(), spectrum.mean(), spectrum.var()])


def test_too_short_patches():
    setup, options = Setup(registry.create("s4", width=8), 200, 1), {**masked_clusters.OPTIONS, "seconds": 0.1}
    with pytest.raises(UserError, match=r"patches of 10 samples; .*masked_clusters\.seconds"):
        masked_clusters.create(setup, options)


def label(memory, described):
    """The nearest centre of one standardised description of length 1."""
    row = (described - np.asarray(memory["mean"])) / np.asarray(memory["scale"])
    row = row / np.linalg.norm(row)
    return int(np.argmin([np.sum((row - centre) ** 2) for centre in np.asarray(memory["centres"])]))


def test_loss_and_gradient_are_those_of_the_definition():
    mixture = small.make("masked_clusters", "s4")
    params, memory, batch = small.start(mixture, records=2, fit=False)
    rng = np.random.default_rng(1)
    memory = {name: jnp.asarray(rng.uniform(0.5, 1.5, value.shape), jnp.float32) for name, value in memory.items()}
    memory["centres"] -= 1.0
    objective = mixture.parts[0].objective
    mask = np.asarray(objective.view(params["head"], memory, batch.x, batch.key).about)[:, 0]
    assert mask.shape == (2, 4)  # 120 samples in patches of 30
    assert (mask.sum(1) == 2).all()  # 0.33 x 4 = 1.3, but at least 2

    def slow(params):
        encoder, head = params["encoder"], params["head"]
        tokens = batch.x @ encoder["projection"]["kernel"][0] + encoder["projection"]["bias"][None, None]
        hidden = np.zeros((2, 120, 1), bool)
        for b, p in zip(*np.nonzero(mask), strict=True):
            hidden[b, p * PATCH : (p + 1) * PATCH] = True
        tokens = jnp.where(jnp.asarray(hidden), head["mask_vector"][None, None], tokens)
        stack = S4Stack(1, 120, 8, True, 0.0)
        said, _ = stack.apply({"params": encoder["stack"], "buffers": batch.rest["buffers"]["stack"]}, tokens, False)
        total = 0.0
        for b in range(2):
            entropies = []
            for p in np.flatnonzero(mask[b]):
                stretch = np.asarray(batch.x)[b, p * PATCH : (p + 1) * PATCH]
                wanted = label(memory, np.concatenate([describe(lead) for lead in stretch.T]))
                vector = said[b, p * PATCH : (p + 1) * PATCH].mean(0) @ head["kernel"] + head["bias"]
                lengths = jnp.linalg.norm(vector) * jnp.linalg.norm(head["codebook"], axis=1)
                logits = head["codebook"] @ vector / lengths / 0.1
                entropies.append(jax.nn.logsumexp(logits) - logits[wanted])
            total = total + sum(entropies) / len(entropies)
        return total / 2

    value, gradient = small.loss_of(mixture, memory, batch)(params)
    expected, expected_gradient = jax.jit(jax.value_and_grad(slow))(params)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    small.close(gradient, expected_gradient, 1e-3)


def test_clusters_of_a_signal_are_found_again():
    rng = np.random.default_rng(0)
    kinds = rng.standard_normal((3, 4))
    which = rng.integers(0, 3, (2, 40))
    described = (5 * kinds[which] + 0.01 * rng.standard_normal((2, 40, 4)) + 7).astype(np.float32)
    memory = masked_clusters.fit_clusters(lambda x: x, iter([jnp.asarray(described)]), 3, 1000)
    labels = np.asarray(masked_clusters.assign(memory, jnp.asarray(described)))
    assert len({(a, b) for a, b in zip(which.ravel(), labels.ravel(), strict=True)}) == 3
    assert len(np.unique(labels)) == 3
    with pytest.raises(UserError, match="90 clusters of 80 patches"):
        masked_clusters.fit_clusters(lambda x: x, iter([jnp.asarray(described)]), 90, 1000)


def test_clusters_of_an_earlier_encoder(tmp_path):
    mixture = small.make("masked_clusters", "merl_vit")
    encoder, earlier = mixture.encoder, mixture.encoder.init(jax.random.key(5))
    save_weights(tmp_path, encoder, earlier)
    options = {**small.OPTIONS["masked_clusters"], "teacher": str(tmp_path), "layer": "block_0"}
    setup = Setup(encoder, mixture.samples, 10)
    mixture = objectives.create("masked_clusters", setup, {"masked_clusters": options})
    params, memory, batch = small.start(mixture, train=False, fit=False)
    jax.tree.map(np.testing.assert_array_equal, memory["teacher"], earlier)
    view = mixture.parts[0].objective.view(params["head"], memory, batch.x, batch.key)
    assert view.about.shape == (3, 1, 6)  # 20 tokens of 0.1 s, three in a patch
    read = jax.jit(lambda v, edit: encoder.apply(v, batch.x, edit=edit)[0].taps)
    taught = np.asarray(read(earlier, Edit())["block_0"], np.float64)[:, :18].reshape(3, 6, 3, 16).mean(2)
    rows = taught.reshape(-1, 16)
    memory |= {"mean": rows.mean(0).astype(np.float32), "scale": rows.std(0).astype(np.float32)}
    memory["centres"] = np.asarray(masked_clusters.standardised(memory, jnp.asarray(rows[:5], jnp.float32)))
    labels = np.array([[label(memory, patch) for patch in record] for record in taught])
    assert len(np.unique(labels)) > 2
    said = read({"params": params["encoder"], **batch.rest}, view.edit)["context"][:, :18].reshape(3, 6, 3, 16)
    projected = said.mean(2) @ params["head"]["kernel"] + params["head"]["bias"][None, None]
    logits = masked_prediction.logits(projected, params["head"]["codebook"])
    expected, _ = masked_prediction.record_losses(logits, jnp.asarray(labels), view.about[:, 0])
    np.testing.assert_allclose(small.losses_of(mixture, memory, batch)(params)[0], expected, rtol=1e-4)

    with pytest.raises(UserError, match=r"layer is 'block_7'; expected one of .*block_0"):
        objectives.create("masked_clusters", setup, {"masked_clusters": {**options, "layer": "block_7"}})
    other = Setup(registry.create("s4", width=8, layers=1), 250, 10)
    with pytest.raises(UserError, match="holds a merl_vit; expected a s4 alike"):
        objectives.create("masked_clusters", other, {"masked_clusters": options})
    with pytest.raises(UserError, match="layer without teacher"):
        objectives.create("masked_clusters", setup, {"masked_clusters": {"layer": "block_0"}})
