"""wav2vec 2.0 with multi-segment coding against its definition in loops, and where its gradient goes."""

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.pretraining import info_nce, registry
from ecgjax.pretraining.objective import Setup
from tests.pretraining import small


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def test_loss_and_gradient_are_those_of_the_definition():
    mixture = small.make("wav2vec", "ecg_cpc")
    params, memory, batch = small.start(mixture, records=2, train=False)
    view = mixture.parts[0].objective.view(params["head"], memory, batch.x, batch.key)
    x, mask = np.asarray(batch.x), np.asarray(view.about)
    samples = mixture.samples
    assert x.shape == (2, 2 * samples, 12)
    for record in range(2):
        for segment in range(2):
            seen = np.asarray(view.x)[2 * record + segment]
            hidden = (seen == 0).all(0)
            expected = np.where(hidden[None], 0, x[record, segment * samples : (segment + 1) * samples])
            np.testing.assert_array_equal(seen, expected)
    assert 8 < (np.asarray(view.x) == 0).all(1).sum() < 40  # 24 of 48 leads
    masked = mask.sum(-1)
    assert len(set(masked.tolist())) == 1
    negatives = np.asarray(info_nce.draw_negatives(jax.random.split(batch.key, 4)[3], 4, int(masked[0]), 5))

    def slow(params):
        head, book = params["head"], params["head"]["quantiser"]["codebook"]
        edit = view.edit._replace(vector=head["mask_vector"])
        features, _ = mixture.encoder.apply({"params": params["encoder"], **batch.rest}, view.x, edit=edit)
        extracted, said = features.taps["extracted"], features.taps["predictor"]
        total, probabilities, pooled = 0.0, [], []
        for row in range(4):
            where = np.flatnonzero(mask[row])
            logits = jnp.einsum("mc,cgv->mgv", extracted[row, where], head["quantiser"]["kernel"])
            logits = logits + head["quantiser"]["bias"][None]
            probabilities.append(jax.nn.softmax(logits, -1))
            codes = jnp.argmax(logits, -1)
            vectors = jnp.concatenate([book[0][codes[:, 0]], book[1][codes[:, 1]]], -1)
            wanted = unit(vectors @ head["target"]["kernel"] + head["target"]["bias"][None])
            guess = unit(said[row, where] @ head["prediction"]["kernel"] + head["prediction"]["bias"][None])
            positive = jnp.sum(guess * wanted, -1) / 0.1
            others = jnp.sum(guess[:, None] * wanted[negatives[row]], -1) / 0.1
            same = (codes[negatives[row]] == codes[:, None]).all(-1)
            negative = jnp.sum(jnp.where(same, 0.0, jnp.exp(others)), -1)
            total = total + jnp.mean(jnp.log(jnp.exp(positive) + negative) - positive) / 4
            total = total + 10 * jnp.mean(extracted[row] ** 2) / 4
            vector = jnp.mean(said[row], 0)
            pooled.append(vector / jax.lax.stop_gradient(jnp.linalg.norm(vector)))
        mean = jnp.mean(jnp.concatenate(probabilities), 0)
        perplexity = jnp.sum(jnp.exp(-jnp.sum(mean * jnp.log(mean + 1e-7), -1)))
        for one in range(2):
            for first, second in ((0, 1), (1, 0)):
                scores = [jnp.dot(pooled[2 * one + first], pooled[2 * other + second]) / 0.1 for other in range(2)]
                total = total + (jnp.log(jnp.exp(scores[0]) + jnp.exp(scores[1])) - scores[one]) / 4
        return total + 0.1 * (8 - perplexity) / 8

    value, gradient = small.loss_of(mixture, memory, batch)(params)
    expected, expected_gradient = jax.jit(jax.value_and_grad(slow))(params)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    small.close(gradient, expected_gradient, 1e-3)
    assert np.any(gradient["head"]["quantiser"]["codebook"])


def test_the_extractor_gets_a_tenth_of_its_gradient_and_the_clock_runs():
    mixture = small.make("wav2vec", "ecg_cpc")
    params, memory, batch = small.start(mixture, records=2)
    options = {"wav2vec": {**small.OPTIONS["wav2vec"], "extractor_gradient": 1.0}}
    whole = registry.create("wav2vec", Setup(mixture.encoder, mixture.samples, 10), options)
    (value, tenth), (same, full) = (small.loss_of(m, memory, batch)(params) for m in (mixture, whole))
    np.testing.assert_allclose(value, same, rtol=1e-5)
    small.close(tenth["encoder"]["encoder"], jax.tree.map(lambda leaf: leaf / 10, full["encoder"]["encoder"]), 1e-3)
    small.close(tenth["encoder"]["predictor"], full["encoder"]["predictor"], 1e-3)
    assert np.any(full["head"]["quantiser"]["kernel"])
    assert mixture.after_update(memory, params, jnp.int32(7))["updates"] == 7
