"""What every encoder is: a specification, and the pure functions `init` and `apply` over a Flax Linen module."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from ecgjax.data.leads import CANONICAL as CANONICAL_LEADS
from ecgjax.models import contracts
from ecgjax.models.rematerialisation import rematerialise
from ecgjax.models.tokens import Edit, Tokens

Array = jax.Array
Variables = dict[str, Any]
"""Linen variables: `params` (trained), `batch_stats` (running statistics), `buffers` (constants, never trained)."""


Groups = tuple[tuple[str, tuple[str, ...]], ...]
"""Ordered (group, name patterns)."""

HEAD_ONLY: Groups = (("head", ("head/",)), ("frozen", ("encoder/",)))
"""What the benchmark's fine-tuning does to encoders none of whose parameters its rate groups find."""


class Features(NamedTuple):
    """What an encoder returns.

    Attributes:
        sequence: (batch, tokens, channels).
        pooled: (batch, channels).
        taps: each layer's output by name; those not used cost nothing under `jax.jit`.
    """

    sequence: Array
    pooled: Array
    taps: dict[str, Array]


@dataclass(frozen=True)
class ModelSpec:
    """Facts about a model that the rest of ecgjax acts on.

    Attributes:
        name: registry name.
        sampling_rate: Hz at the model's input.
        seconds: window of the benchmark (protocol 2.3).
        leads: leads the model takes, by name, out of the canonical twelve, in its own order.
        contract: name of the input contract, "benchmark" or "authors".
        steps: filters and scalings of the contract, names out of `ecgjax.models.contracts.STEPS`.
        channels: width of `pooled` and of each token of `sequence`.
        family: "state-space", "convolutional" or "transformer".
        reference: paper.
        licence: licence of the released weights, or why there are none.
        lr_groups: ordered (group, name patterns) for fine-tuning; patterns are regular expressions matched from the
            start of "encoder/..." and "head/..." parameter paths. A group named "frozen" is not trained. See
            `ecgjax.training.optimiser`.
        paper_lr_groups: the groups that the benchmark's published fine-tuning really had, where a defect of its code
            made them others than `lr_groups`; None: no difference.
        supervised: trained from scratch by the benchmark (mode "scratch") rather than pretrained.
    """

    name: str
    sampling_rate: float
    seconds: float
    channels: int
    family: str
    reference: str
    licence: str
    lr_groups: Groups
    paper_lr_groups: Groups | None = None
    leads: tuple[str, ...] = CANONICAL_LEADS
    contract: str = "benchmark"
    steps: tuple[str, ...] = ()
    supervised: bool = False


@dataclass(frozen=True)
class Encoder:
    """A specification and a Linen module as two pure functions.

    Attributes:
        spec: the model's facts.
        module: Linen module; `module.apply(variables, x, train)` returns `Features`.
        arguments: JSON-able keyword arguments that `registry.create(spec.name, **arguments)` rebuilds this from.
        features: "bfloat16": features in evaluation are rounded to what fits in it, so that a cache loses nothing.
        remat: training computes the insides of blocks again, see `ecgjax.models.rematerialisation`.
        tokens: how its tokens lie, if its module takes an `Edit` of them; pretraining objectives ask for it.
    """

    spec: ModelSpec
    module: nn.Module
    arguments: Mapping[str, Any] = field(default_factory=dict)
    features: str = "float32"
    remat: bool = False
    tokens: Tokens | None = None

    @property
    def samples(self) -> int:
        """Samples of one window at the model's rate."""
        return int(self.spec.seconds * self.spec.sampling_rate + 1e-6)

    @property
    def dtype(self) -> str:
        """Type of the activations. Parameters, statistics, norms and the returned features are float32 in any case."""
        return self.arguments.get("dtype", "float32")

    def init(self, key: Array) -> Variables:
        """Fresh variables from a PRNG key (the paper's initialisation)."""
        # Lazily: the initialisers run, the forward pass does not, and equal shapes are compiled once for all layers.
        return dict(self.module.lazy_init({"params": key}, self._input(), False))

    def shapes(self) -> Variables:
        """`jax.ShapeDtypeStruct` of every variable; nothing is computed."""
        init = partial(self.module.init, train=False)
        return dict(jax.eval_shape(init, {"params": jax.random.key(0)}, self._input()))

    def _input(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, self.samples, len(self.spec.leads)), jnp.float32)

    def prepared(self, x: Array) -> Array:
        """Signals (batch, samples, 12) as the contract prepares them: what the module reads, in float32."""
        return contracts.prepare(x, self.spec.leads, self.spec.steps, self.spec.sampling_rate)

    def apply(
        self,
        variables: Variables,
        x: Array,
        train: bool = False,
        key: Array | None = None,
        edit: Edit | None = None,
    ) -> tuple[Features, Variables]:
        """Prepares the signals as the contract says, and runs the encoder.

        Args:
            variables: as from `init`.
            x: (batch, samples, 12) float32, mV, canonical leads, at `spec.sampling_rate`; NaN counts as 0.
            train: batch statistics and dropout as in training; frozen encoders use False.
            key: PRNG key for dropout, needed when `train`.
            edit: of the tokens, for encoders that declare `tokens`; adds the taps that `Edit` names.

        Returns:
            The features, and the variables beside `params` as they are afterwards (running statistics).
        """
        x = self.prepared(x)
        x = x.astype(jnp.bfloat16) if self.dtype == "bfloat16" else x
        hook: dict[str, Any] = {} if edit is None else {"edit": edit}
        rest = {name: value for name, value in variables.items() if name != "params"}
        if not train:
            out: Features = self.module.apply(variables, x, False, **hook)  # type: ignore[assignment]
            return self._rounded(_float32(out)), rest
        rngs = {} if key is None else {"dropout": key}
        with rematerialise(self.remat):
            features, updated = self.module.apply(variables, x, True, rngs=rngs, mutable=["batch_stats"], **hook)
        return _float32(features), {**rest, **updated}

    def _rounded(self, features: Features) -> Features:
        if self.features == "float32":
            return features
        # Not a cast to bfloat16 and back, which XLA leaves out where it may be more exact than asked.
        sequence, pooled = (jax.lax.reduce_precision(x, 8, 7) for x in (features.sequence, features.pooled))
        return features._replace(sequence=sequence, pooled=pooled)


def _float32(features: Features) -> Features:
    return jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x, features)
