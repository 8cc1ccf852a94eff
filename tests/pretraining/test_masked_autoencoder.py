"""Masked autoencoding against its definition in loops, where tokens are left out and where they are replaced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.models.attention import Block
from ecgjax.models.layers import LayerNorm
from ecgjax.models.positional import sine_cosine
from tests.pretraining import small


def decode(head, rows, mask):
    """One row of patches through the decoder, patch by patch where they do not meet."""
    tokens = [
        head["mask_vector"] if hidden else row @ head["input"]["kernel"] + head["input"]["bias"]
        for row, hidden in zip(rows, mask, strict=True)
    ]
    x = jnp.stack(tokens) + jnp.asarray(sine_cosine(np.arange(len(mask)), 8), jnp.float32)
    x = Block(2, 32, norm_first=True).apply({"params": head["block_0"]}, x[None], False)
    x = LayerNorm(1e-6).apply({"params": head["norm"]}, x)
    return (x @ head["output"]["kernel"] + head["output"]["bias"][None, None])[0]


@pytest.mark.parametrize("model", ["st_mem", "s4"])
def test_loss_and_gradient_are_those_of_the_definition(model):
    mixture = small.make("masked_autoencoder", model)
    params, memory, batch = small.start(mixture, records=1)
    objective = mixture.parts[0].objective
    view = objective.view(params["head"], memory, batch.x, batch.key)
    mask = np.asarray(view.about)
    x = np.asarray(batch.x, np.float64)
    if model == "st_mem":  # 2 leads of 4 patches of 75 samples; a patch is of one lead
        assert mask.shape == (1, 2, 4)
        assert (mask.sum(-1) == 3).all()
        leads = [[0], [6]]
        samples, tokens = 75, 1
    else:  # 4 patches of 30 samples of all leads
        assert mask.shape == (1, 1, 4)
        assert (mask.sum(-1) == 3).all()
        leads = [list(range(12))]
        samples, tokens = 30, 30

    def slow(params):
        variables = {"params": params["encoder"], **batch.rest}
        edit = view.edit if model == "st_mem" else view.edit._replace(vector=params["head"]["mask_vector"])
        features, _ = mixture.encoder.apply(variables, batch.x, True, jax.random.key(0), edit)
        said = features.taps.get("context", features.sequence)
        total = 0.0
        for r in range(mask.shape[1]):
            hidden = mask[0, r]
            if model == "st_mem":
                visible = said[0].reshape(2, -1, 16)[r]
                kept = iter(visible)
                rows = [None if h else next(kept) for h in hidden]
            else:
                rows = [said[0, p * tokens : (p + 1) * tokens].reshape(-1) for p in range(4)]
            out = decode(params["head"]["decoder"], rows, hidden)
            for p in np.flatnonzero(hidden):
                wanted = x[0, p * samples : (p + 1) * samples][:, leads[r]]
                wanted = (wanted - wanted.mean(0)) / np.sqrt(wanted.var(0, ddof=1) + 1e-6)
                total = total + jnp.mean((out[p] - jnp.asarray(wanted.T.reshape(-1), jnp.float32)) ** 2)
        return total / mask.sum()

    value, gradient = small.loss_of(mixture, memory, batch)(params)
    expected, expected_gradient = jax.jit(jax.value_and_grad(slow))(params)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    small.close(gradient, expected_gradient, 1e-3)


def test_one_mask_for_all_where_the_encoder_can_leave_out_no_other():
    mixture = small.make("masked_autoencoder", "ecg_jepa")
    params, memory, batch = small.start(mixture)
    view = mixture.parts[0].objective.view(params["head"], memory, batch.x, batch.key)
    assert view.about.shape == (1, 1, 5)  # 10 tokens of 0.2 s, two in a patch
