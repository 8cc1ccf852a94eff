"""wav2vec 2.0 with multi-segment coding against its definition in loops, and where its gradient goes."""

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.pretraining import info_nce, registry
from ecgjax.pretraining.objective import Setup
from tests.pretraining import small


def entropy(logits, positive):
    logits = np.asarray(logits, np.float64)
    return np.log(np.sum(np.exp(logits - logits.max()))) + logits.max() - logits[positive]


def cosine(a, b):
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


def test_loss_is_that_of_the_definition():
    mixture = small.make("wav2vec", "ecg_cpc")
    params, memory, batch = small.start(mixture, records=2, train=False)
    objective, head = mixture.parts[0].objective, jax.tree.map(np.asarray, params["head"])
    view = objective.view(params["head"], memory, batch.x, batch.key)
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
    variables = {"params": params["encoder"], **batch.rest}
    taps = jax.jit(lambda v, x: mixture.encoder.apply(v, x, edit=view.edit)[0].taps)(variables, view.x)
    extracted, said = (np.asarray(taps[name], np.float64) for name in ("extracted", "predictor"))
    masked = mask.sum(-1)
    assert len(set(masked.tolist())) == 1
    negatives = np.asarray(info_nce.draw_negatives(jax.random.split(batch.key, 4)[3], 4, int(masked[0]), 5), int)
    quantiser, totals, probabilities = head["quantiser"], np.zeros(4), []
    for row in range(4):
        where = np.flatnonzero(mask[row])
        logits = np.einsum("mc,cgv->mgv", extracted[row, where], quantiser["kernel"]) + quantiser["bias"]
        probabilities.append(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))
        codes = logits.argmax(-1)
        vectors = np.stack(
            [np.concatenate([quantiser["codebook"][g, c] for g, c in enumerate(pair)]) for pair in codes]
        )
        wanted = vectors @ head["target"]["kernel"] + head["target"]["bias"]
        predicted = said[row, where] @ head["prediction"]["kernel"] + head["prediction"]["bias"]
        losses = []
        for m in range(len(where)):
            others = [n for n in negatives[row, m] if tuple(codes[n]) != tuple(codes[m])]
            similar = [cosine(predicted[m], wanted[m]), *(cosine(predicted[m], wanted[n]) for n in others)]
            losses.append(entropy(np.array(similar) / 0.1, 0))
        totals[row] = np.mean(losses) + 10 * np.mean(extracted[row] ** 2)
    mean = np.concatenate(probabilities).mean(0)
    perplexity = np.exp(-(mean * np.log(mean + 1e-7)).sum(-1)).sum()
    pooled, found = said.mean(1).reshape(2, 2, -1), small.losses_of(mixture, memory, batch)(params)[0]
    for record in range(2):
        scores = np.array([[cosine(a, b) for b in pooled[:, 1]] for a in pooled[:, 0]]) / 0.1
        pair = (entropy(scores[record], record) + entropy(scores[:, record], record)) / 2
        expected = totals[2 * record : 2 * record + 2].mean() + pair + 0.1 * (8 - perplexity) / 8
        np.testing.assert_allclose(found[record], expected, rtol=1e-4)


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
