"""What each layer of a model says of some records: its taps, averaged over tokens."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from ecgjax.data.batches import iterate
from ecgjax.data.crops import split_short
from ecgjax.data.cutter import Item, make_cutter
from ecgjax.data.store import Store
from ecgjax.errors import UserError
from ecgjax.models.forward import Forward
from ecgjax.models.model import Model


class FirstWindows:
    """The first window of every record, in batches of one size, the last one filled up; a Grain source."""

    def __init__(self, rows: NDArray[np.integer], batch_size: int) -> None:
        self.rows, self._batch_size = rows, batch_size

    def __len__(self) -> int:
        return -(-len(self.rows) // self._batch_size)

    def __getitem__(self, step: int) -> Item:
        """{"record", "start"}: int32 (batch_size,) each."""
        part = self.rows[int(step) * self._batch_size :][: self._batch_size]
        record = np.concatenate([part, np.full(self._batch_size - len(part), self.rows[0])]).astype(np.int32)
        return {"record": record, "start": np.zeros(self._batch_size, np.int32)}

    def __repr__(self) -> str:
        return f"FirstWindows({len(self.rows)} records, batch {self._batch_size})"


def layer_features(
    model: Model, store: Store, rows: NDArray[np.integer], batch_size: int = 32, only: Sequence[str] | None = None
) -> dict[str, NDArray[np.float32]]:
    """Token means of every tap, of the first window of every record.

    Args:
        model: from `load_model`.
        store: the data.
        rows: row numbers of the records.
        batch_size: windows in a forward pass.
        only: names of the taps to keep; None keeps all.

    Returns:
        Layer -> (records, channels), layers in the model's order, records in the order of `rows`.

    Raises:
        UserError: a record is shorter than the model's window, or there is no such tap.
    """
    spec = model.spec
    cutter = make_cutter(store, rows, seconds=spec.seconds, sampling_rate=spec.sampling_rate)
    short = split_short(rows, store.records["samples"].to_numpy(), cutter.window)[1]
    if len(short):
        name = store.records["record_id"].iloc[int(short[0])]
        raise UserError(f"{store.path}: record {name!r} is shorter than the {spec.seconds:g} s of {spec.name}")

    @Forward
    def means(variables: dict, cutter: object, item: Item) -> dict[str, Array]:
        taps = model.encoder.apply(variables, cutter(item))[0].taps  # type: ignore[operator]
        unknown = [name for name in only or () if name not in taps]
        if unknown:
            raise UserError(f"model {spec.name} has no layer {unknown[0]!r}; expected some of {', '.join(taps)}")
        return {name: _token_mean(x) for name, x in taps.items() if only is None or name in only}

    parts: dict[str, list[NDArray[np.float32]]] = {}
    for item in iterate(store, FirstWindows(rows, batch_size), cutter):
        for name, values in means(model.variables, cutter, item).items():
            parts.setdefault(name, []).append(np.asarray(values))
    # jit sorts the names; the order of the layers is the encoder's.
    order = [name for name in _tap_names(model) if name in parts]
    return {name: np.concatenate(parts[name])[: len(rows)] for name in order}


def _token_mean(x: Array) -> Array:
    return x.reshape(x.shape[0], -1, x.shape[-1]).mean(axis=1) if x.ndim > 2 else x


def _tap_names(model: Model) -> list[str]:
    names: list[str] = []

    def record(variables: dict, x: Array) -> Array:
        names.extend(model.encoder.apply(variables, x)[0].taps)
        return x

    window = jax.ShapeDtypeStruct((1, model.encoder.samples, 12), jnp.float32)
    jax.eval_shape(record, model.variables, window)
    return names
