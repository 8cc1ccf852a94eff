"""Joint embedding against its definition in loops: masks, teacher, predictor, loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.errors import UserError
from ecgjax.models import registry
from ecgjax.models.attention import Block
from ecgjax.models.layers import LayerNorm
from ecgjax.models.positional import sine_cosine
from ecgjax.models.tokens import Edit
from ecgjax.pretraining import joint_embedding
from ecgjax.pretraining.objective import Setup
from tests.pretraining import small


@pytest.mark.parametrize(("kind", "masked"), [("block", 27), ("random", 32)])
def test_masks_of_one_size(kind, masked):
    drawn = [np.asarray(joint_embedding.draw(jax.random.key(i), kind, 50, masked)) for i in range(20)]
    assert {mask.sum() for mask in drawn} == {masked}
    edges = np.mean([np.sum(mask[1:] != mask[:-1]) for mask in drawn])
    assert edges < 9 if kind == "block" else edges > 18  # a few blocks of 8 to 11, or none at all


def test_loss_and_gradient_are_those_of_the_definition():
    mixture = small.make("jepa", "ecg_jepa")
    params, memory, batch = small.start(mixture, records=1)
    # A teacher that is not the student.
    memory = {"teacher": jax.tree.map(lambda leaf: 1.1 * leaf + 0.01, memory["teacher"])}
    view = mixture.parts[0].objective.view(params["head"], memory, batch.x, batch.key)
    mask = np.asarray(view.about)
    assert mask.shape == (1, 1, 10)  # 2 s in patches of 0.2 s, the same for all records and leads
    hidden = np.flatnonzero(mask[0, 0])
    assert len(hidden) == 5  # 0.54 x 10
    read = jax.jit(lambda v, x: mixture.encoder.apply(v, x)[0].sequence)
    said = np.asarray(read({"params": memory["teacher"], **batch.rest}, batch.x), np.float64).reshape(2, 10, 16)
    kept = jnp.asarray(np.flatnonzero(~mask[0, 0])[None, None], jnp.int32)

    def predict(head, visible):
        """The predictor for one lead: visible tokens, then mask vectors, each with its position before every block."""
        tokens = visible @ head["input"]["kernel"] + head["input"]["bias"][None]
        order = np.concatenate([np.flatnonzero(~mask[0, 0]), hidden])
        position = jnp.asarray(sine_cosine(order, 8), jnp.float32)
        x = jnp.concatenate([tokens, jnp.broadcast_to(head["mask_vector"][None], (5, 8))]) + position
        x = Block(2, 32, norm_first=True).apply({"params": head["block_0"]}, x[None], False)
        x = LayerNorm(1e-6).apply({"params": head["norm"]}, x)
        return (x @ head["output"]["kernel"] + head["output"]["bias"][None, None])[0, 5:]

    def slow(params):
        variables = {"params": params["encoder"], **batch.rest}
        features, _ = mixture.encoder.apply(variables, batch.x, True, jax.random.key(0), Edit(kept=kept))
        seen = features.sequence.reshape(2, 5, 16)
        total = 0.0
        for lead in range(2):
            predicted = predict(params["head"]["decoder"], seen[lead])
            for i, p in enumerate(hidden):
                target = (said[lead, p] - said[lead, p].mean()) / np.sqrt(said[lead, p].var() + 1e-5)
                away = jnp.abs(predicted[i] - jnp.asarray(target, jnp.float32))
                total = total + jnp.mean(jnp.where(away < 1, away**2 / 2, away - 0.5))
        return total / 10

    value, gradient = small.loss_of(mixture, memory, batch)(params)
    expected, expected_gradient = jax.jit(jax.value_and_grad(slow))(params)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    small.close(gradient, expected_gradient, 1e-3)


def test_the_teacher_follows_the_encoder():
    mixture = small.make("jepa", "merl_vit", steps=4)
    teacher, student = {"teacher": {"w": jnp.ones(2)}}, {"encoder": {"w": jnp.full(2, 3.0)}}
    for step, momentum in ((1, 0.996), (3, 0.998), (5, 1.0)):  # of the update that was made: 0, 2 and 4 of 4
        new = mixture.after_update(teacher, student, jnp.int32(step))
        np.testing.assert_allclose(new["teacher"]["w"], momentum + (1 - momentum) * 3.0, rtol=1e-6)


def test_wrong_options():
    setup, options = Setup(registry.create("s4", width=8), 250, 1), {**joint_embedding.OPTIONS, "mask": "blocks"}
    with pytest.raises(UserError, match="mask is 'blocks'; expected block or random"):
        joint_embedding.create(setup, options)
