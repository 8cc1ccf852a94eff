"""A data set in device memory, and crops cut from it there.

A crop is a slice of a few kilobytes out of one long array, so a training step that cuts its own crops waits for nobody.
int16 is kept as it is stored (10 s at 500 Hz are 120 kB) and becomes millivolts after the cut.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax import distributed
from ecgjax.data.store import NAN, Store
from ecgjax.errors import UserError

SHARE = 0.4
"""Share of a device's memory that a data set may take (a TPU adds a third: it pads 12 leads to 16)."""

WITHOUT_LIMIT = 2 << 30
"""Bytes a data set may take where the device states no limit (on a CPU it is the host's memory)."""

_PIECE = 1 << 20  # rows uploaded at a time: 25 MB of int16
_MOST_ROWS = 2**31 - 1  # rows are addressed by int32


@partial(jax.tree_util.register_dataclass, data_fields=("flat", "first", "millivolt"), meta_fields=())
@dataclass(frozen=True)
class DeviceDataset:
    """Recordings of a store in device memory; a pytree, to be passed to jitted functions as an argument.

    Attributes:
        flat: (samples of all recordings, 12) int16 or float32, as stored.
        first: (records of the store,) int32, where each recording begins in `flat`; -1 if it was not loaded.
        millivolt: (records of the store,) float32, millivolts per count; 1 for float32.
    """

    flat: jax.Array
    first: jax.Array
    millivolt: jax.Array


def crop(dataset: DeviceDataset, record: jax.Array, start: jax.Array, window: int) -> jax.Array:
    """Cuts windows; jit-able with `window` static.

    Args:
        dataset: the signals.
        record: (batch,) int32 row numbers in `store.records`; they must have been loaded.
        start: (batch,) int32 first samples; the window must lie inside the recording.
        window: samples.

    Returns:
        (batch, window, 12) float32, mV, NaN where missing.
    """
    begin = dataset.first[record] + start
    raw = jax.vmap(lambda row: jax.lax.dynamic_slice(dataset.flat, (row, 0), (window, 12)))(begin)
    return to_millivolt(raw, dataset.millivolt[record])


def to_millivolt(raw: jax.Array, millivolt: jax.Array) -> jax.Array:
    """Stored values (batch, window, 12) as float32 mV with NaN; `millivolt` (batch,) is the value of one count."""
    signal = raw.astype(jnp.float32) * millivolt[:, None, None]
    return jnp.where(raw == NAN, jnp.nan, signal) if raw.dtype == jnp.int16 else signal


def steps(store: Store) -> np.ndarray:
    """(records,) float32 millivolts per count of each record; 1 in float32 stores."""
    if store.dtype == "float32":
        return np.ones(len(store.records), np.float32)
    return (store.records["microvolt_per_bit"].to_numpy() / 1000).astype(np.float32)


def size(store: Store, rows: np.ndarray) -> int:
    """Bytes that `load` needs for these rows."""
    return int(store.records["samples"].to_numpy(np.int64)[rows].sum()) * 12 * np.dtype(store.dtype).itemsize


def fits(store: Store, rows: np.ndarray, device_bytes: int | None = None) -> bool:
    """Whether these rows can be kept on the device, on that of every process.

    Args:
        store: where they are.
        rows: row numbers in `store.records`.
        device_bytes: what they may take; None is `SHARE` of the device's memory, or `WITHOUT_LIMIT`.
    """
    fit = size(store, rows) <= min(room(device_bytes), _MOST_ROWS * 12 * np.dtype(store.dtype).itemsize)
    return all(distributed.exchange(fit))


def room(device_bytes: int | None = None) -> int:
    """Bytes that data may take on the device: `SHARE` of its memory, or `WITHOUT_LIMIT`, unless given."""
    if device_bytes is not None:
        return device_bytes
    # The limit, not what is free now: a run that continues must come to the same answer.
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return WITHOUT_LIMIT if limit is None else int(SHARE * limit)


def load(store: Store, rows: np.ndarray, sharding: Any = None) -> DeviceDataset:
    """Copies recordings to the device, piece by piece: the host never holds more than one piece.

    Args:
        store: where they are.
        rows: row numbers in `store.records`; repetitions count once.
        sharding: device or (replicated) sharding to put them on; None is JAX's default device.

    Raises:
        UserError: more samples than int32 can address.
    """
    rows = np.unique(rows)  # in the order of the files
    samples = store.records["samples"].to_numpy(np.int64)
    total = int(samples[rows].sum())
    if total > _MOST_ROWS:
        raise UserError(
            f"{store.path}: {total} samples do not fit on a device (at most {_MOST_ROWS}); use placement=host"
        )
    first = np.full(len(samples), -1, np.int32)
    first[rows] = np.cumsum(samples[rows]) - samples[rows]
    flat = jnp.zeros((total, 12), store.dtype, device=sharding)
    buffer, filled, written = np.empty((min(_PIECE, total), 12), store.dtype), 0, 0
    for row in rows:
        raw = store.raw(int(row), 0, int(samples[row]))
        while len(raw):
            part = raw[: len(buffer) - filled]
            buffer[filled : filled + len(part)] = part
            filled, raw = filled + len(part), raw[len(part) :]
            if filled == len(buffer) or written + filled == total:
                # Waited for, since the buffer is used again.
                piece = distributed.put_replicated(buffer[:filled], sharding)
                flat = jax.block_until_ready(_write(flat, piece, written))
                filled, written = 0, written + filled
    put = distributed.put_replicated
    return DeviceDataset(flat, put(first, sharding), put(steps(store), sharding))


@partial(jax.jit, donate_argnums=0)
def _write(flat: jax.Array, piece: jax.Array, row: int) -> jax.Array:
    return jax.lax.dynamic_update_slice(flat, piece, (row, 0))
