"""wav2vec 2.0 with contrastive multi-segment coding and random lead masking, as ECG-FM.

McKeen et al. 2024, arXiv:2408.05178; Baevski et al. 2020, arXiv:2006.11477; Oh et al. 2022, arXiv:2203.06889. A crop is
two adjacent segments of the encoder's window. Of each, every lead is zeroed with probability one half, and spans of
tokens are replaced by a learned vector; what the context network makes of them must be told, by the quantised features
of that token, from 100 other masked tokens of the segment. In addition the mean over tokens of a record's segments must
be told from those of other patients' records in the batch. The extractor gets a tenth of its gradient.

Differences from the authors' code: every segment masks as many tokens as theirs does on average of one segment
(`masks.expected_masked`; theirs thins all to the least of the batch, so that the share depends on the batch size); a
mean over the tokens of a segment and then over segments; no dropout on inputs and features; spans last `seconds`
whatever the encoder; multi-segment coding compares the batch of all devices.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ecgjax.errors import UserError
from ecgjax.models.encoder import Encoder, Features
from ecgjax.models.layers import torch_uniform
from ecgjax.models.tokens import Edit
from ecgjax.pretraining import cmsc, info_nce, masks, patch_grid, quantiser
from ecgjax.pretraining.objective import Batch, Objective, Setup, View, context, require

Array = jax.Array

SEGMENTS = 2

OPTIONS: dict[str, Any] = {  # the published ones
    "lead_masking": 0.5,  # probability that a lead is zeroed
    "share": 0.65,  # of the tokens, were there no overlaps of spans
    "seconds": 0.32,  # of a span: 10 of ECG-FM's tokens
    "negatives": 100,
    "groups": 2,  # of the quantiser
    "codes": 320,  # of a group
    "dimensions": 128,  # of a code
    "projection": 256,  # channels in which predictions and targets are compared
    "temperature_factor": 0.999995,  # of the quantiser's temperature per update, from 2 down to 0.5
    "diversity": 0.1,  # weights of what is added to the contrastive loss: the quantiser's diversity,
    "penalty": 10.0,  # the mean square of the extractor's features,
    "multi_segment": 1.0,  # multi-segment coding
    "extractor_gradient": 0.1,
}


def check(encoder: Encoder) -> None:
    """Refuses encoders without an extractor whose features could be quantised.

    Raises:
        UserError: with the reason.
    """
    require("wav2vec", encoder, tokens=True)
    assert encoder.tokens is not None
    if not encoder.tokens.extractor:
        raise UserError(
            f"objective wav2vec cannot train {encoder.spec.name}: no convolutional extractor makes its tokens, so that "
            "there are no features to quantise"
        )


def create(setup: Setup, options: Mapping[str, Any]) -> Objective:
    """The objective.

    Raises:
        UserError: an option has a value it cannot have, or crops are too short.
    """
    encoder, samples = setup.encoder, setup.samples
    for name in ("negatives", "groups", "codes", "dimensions", "projection"):
        if options[name] < 1:
            raise UserError(f"objective wav2vec: {name} is {options[name]}; expected 1 or more")
    if not 0 <= options["lead_masking"] < 1:
        raise UserError(
            f"objective wav2vec: lead_masking is {options['lead_masking']:g}; expected it from 0 to below 1"
        )
    grid = patch_grid.create(encoder, samples, options["seconds"])
    tokens, length = grid.columns, grid.group
    masked = min(max(round(masks.expected_masked(tokens, options["share"], length)), 2), tokens - 1)
    shape = jax.ShapeDtypeStruct((1, samples, 12), jnp.float32)
    taps = jax.eval_shape(lambda v, x: encoder.apply(v, x, edit=Edit())[0].taps, encoder.shapes(), shape)
    features_width = taps["extracted"].shape[-1]

    def init(key: Array, params: Any) -> tuple[Any, Any]:
        head = init_head(key, encoder.spec.channels, features_width, options)
        return head, {"updates": jnp.zeros((), jnp.int32)}

    def view(head: Any, memory: Any, x: Array, key: Array) -> View:
        # Both segments of a record after each other: a batch that is spread over devices stays where it is.
        x = x.reshape(SEGMENTS * len(x), samples, x.shape[-1])
        lead_key, span_key, _, _ = jax.random.split(key, 4)
        hidden = masks.lead_mask(lead_key, len(x), x.shape[-1], options["lead_masking"])
        x = jnp.where(hidden[:, None], 0.0, x)
        mask = masks.fixed_span_mask(span_key, (len(x), tokens), masked, length)
        return View(x, Edit(mask, head["mask_vector"], gradient=options["extractor_gradient"]), mask)

    def losses(head: Any, memory: Any, features: Features, view: View, batch: Batch) -> tuple[Array, dict[str, Array]]:
        _, _, noise_key, negatives_key = jax.random.split(batch.key, 4)
        said, records = context(features), len(batch.x)
        where = masks.split(view.about, masked).masked
        temperature = quantiser.temperature(memory["updates"], factor=options["temperature_factor"])
        extracted, noise = masks.take(features.taps["extracted"], where), noise_key if batch.train else None
        wanted = quantiser.apply(head["quantiser"], extracted, temperature, noise)
        contrastive, accuracy = info_nce.record_losses(
            masks.take(said, where) @ head["prediction"]["kernel"] + head["prediction"]["bias"][None, None],
            wanted.vectors @ head["target"]["kernel"] + head["target"]["bias"][None, None],
            info_nce.draw_negatives(negatives_key, len(said), masked, options["negatives"]),
            wanted.codes,
        )
        pooled = jnp.mean(said, 1).reshape(records, SEGMENTS, -1)
        pairs, pair_accuracy = cmsc.record_losses(
            pooled[:, 0], pooled[:, 1], batch.facts["patient"], constant_norm=True
        )
        penalty = jnp.mean(jnp.square(features.taps["features"]), (1, 2))
        by_segment = contrastive + options["penalty"] * penalty
        total = jnp.mean(by_segment.reshape(records, SEGMENTS), 1) + options["multi_segment"] * pairs
        metrics = {
            "accuracy": jnp.mean(accuracy.reshape(records, SEGMENTS), 1),
            "segment_accuracy": pair_accuracy,
            "code_perplexity": jnp.broadcast_to(wanted.code_perplexity, (records,)),
        }
        return total + options["diversity"] * wanted.diversity, metrics

    def after_update(memory: Any, params: Any, step: Array) -> Any:
        return {"updates": step}

    names = ("accuracy", "segment_accuracy", "code_perplexity")
    return Objective("wav2vec", names, init, losses, view, after_update, facts=("patient",), segments=SEGMENTS)


def init_head(key: Array, channels: int, features: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Quantiser, projections of its vectors and of the context (torch's default), mask vector uniform on [0, 1)."""
    vector, codes, prediction, target = jax.random.split(key, 4)
    size = options["groups"] * options["dimensions"]
    return {
        "mask_vector": jax.random.uniform(vector, (channels,)),
        "quantiser": quantiser.init(codes, features, options["groups"], options["codes"], options["dimensions"]),
        "prediction": _linear(prediction, channels, options["projection"]),
        "target": _linear(target, size, options["projection"]),
    }


def _linear(key: Array, inputs: int, outputs: int) -> dict[str, Array]:
    kernel, bias = jax.random.split(key)
    draw = torch_uniform(inputs)
    return {"kernel": draw(kernel, (inputs, outputs)), "bias": draw(bias, (outputs,))}
