"""From a batch's (record, start) to what a model reads: cut, scale, resample, disturb, in one jitted program.

The signals are either on the device, or stay in the store's memory maps, from where the host slices the crops (as
stored, int16). What follows the cut is the same, so both give the same batches to the last bit.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.data import device_dataset
from ecgjax.data.conditions import Conditioner
from ecgjax.data.crops import window_samples
from ecgjax.data.device_dataset import DeviceDataset
from ecgjax.data.resampling import output_samples, resample
from ecgjax.data.store import Store
from ecgjax.errors import UserError

Item = dict[str, Any]
"""One batch: "record" and "start" (batch,) int32, "valid" (batch,) bool in evaluation, and, if the signals are not on
the device, "crop" (batch, window, 12) as stored and "millivolt" (batch,) float32; in training under a condition
"epoch" (batch,) int32."""

Placement = Literal["auto", "device", "host"]
Protocol = Literal["default", "paper"]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("dataset", "condition"),
    meta_fields=("window", "rate_in", "rate_out", "protocol"),
)
@dataclass(frozen=True)
class Cutter:
    """Cuts the crops of a batch, resamples them, and leaves of them what a condition leaves.

    A pytree: pass it to the jitted step as an argument. Closed over, a data set would become a constant of the program.

    Attributes:
        dataset: the signals on the device; None if the items bring them.
        window: samples at the data's rate.
        rate_in: the data's sampling rate, Hz.
        rate_out: the model's sampling rate, Hz.
        protocol: "default": a missing sample counts as zero. "paper": so does every sample whose resampling it enters.
        condition: leads that are there, and noise; None: recordings as they are.
    """

    dataset: DeviceDataset | None
    window: int
    rate_in: float
    rate_out: float
    protocol: Protocol = "default"
    condition: Conditioner | None = None

    @property
    def samples(self) -> int:
        """Samples of a crop as the model reads it."""
        return output_samples(self.window, self.rate_in, self.rate_out)

    def __call__(self, item: Item) -> jax.Array:
        """Crops of a batch, (batch, samples, 12) float32, mV, at `rate_out`, NaN as zero; to be used in `jax.jit`."""
        if self.dataset is None:
            crop = device_dataset.to_millivolt(jnp.asarray(item["crop"]), jnp.asarray(item["millivolt"]))
        else:
            crop = device_dataset.crop(
                self.dataset, jnp.asarray(item["record"]), jnp.asarray(item["start"]), self.window
            )
        crop = resample(crop, self.rate_in, self.rate_out, nan="spread" if self.protocol == "paper" else "zero")
        crop = jnp.where(jnp.isnan(crop), jnp.zeros_like(crop), crop)
        return crop if self.condition is None else self.condition(crop, item, self.rate_in, self.rate_out)


def make_cutter(
    store: Store,
    rows: np.ndarray,
    *,
    seconds: float,
    sampling_rate: float | None = None,
    placement: Placement = "auto",
    protocol: Protocol = "default",
    device_bytes: int | None = None,
    sharding: jax.sharding.Sharding | None = None,
    condition: Conditioner | None = None,
) -> Cutter:
    """Puts the signals in their place and returns what cuts them.

    Args:
        store: the data.
        rows: all rows of `store.records` that will be cut (training and evaluation together).
        seconds: length of a crop.
        sampling_rate: Hz at the model's input; None is the data's own.
        placement: "device": in device memory. "host": in the memory maps. "auto": on the device if they fit,
            see `ecgjax.data.device_dataset.fits`.
        protocol: see `Cutter`.
        device_bytes: device memory they may take under "auto"; None is a share of what the device has.
        sharding: of the batches over devices, if there are several; every device gets all signals. A named
            sharding's mesh must have axes of type Auto.
        condition: see `Cutter`.

    Raises:
        UserError: an unknown placement or protocol, or rates and seconds that leave no sample.
    """
    if placement not in ("auto", "device", "host"):
        raise UserError(f"placement={placement!r}; expected 'auto', 'device' or 'host'")
    if protocol not in ("default", "paper"):
        raise UserError(f"protocol={protocol!r}; expected 'default' or 'paper'")
    rate_out = float(store.sampling_rate if sampling_rate is None else sampling_rate)
    window = window_samples(seconds, store.sampling_rate)
    output_samples(window, store.sampling_rate, rate_out)
    if placement == "auto":
        placement = "device" if device_dataset.fits(store, rows, device_bytes) else "host"
    dataset = device_dataset.load(store, rows, _replicated(sharding)) if placement == "device" else None
    if condition is not None and sharding is not None:
        condition = jax.device_put(condition, _replicated(sharding))
    return Cutter(dataset, window, store.sampling_rate, rate_out, protocol, condition)


class HostCrops:
    """Adds the crops, as stored, to a batch: what the host does when the signals are not on the device."""

    def __init__(self, store: Store, window: int) -> None:
        self._store = store
        self._window = window
        self._millivolt = device_dataset.steps(store)

    def __call__(self, item: Item) -> Item:
        crop = np.empty((*item["record"].shape, self._window, 12), self._store.dtype)
        for place, record in np.ndenumerate(item["record"]):
            start = int(item["start"][place])
            crop[place] = self._store.raw(int(record), start, start + self._window)
        return {**item, "crop": crop, "millivolt": self._millivolt[item["record"]]}


def _replicated(sharding: jax.sharding.Sharding | None) -> jax.sharding.Sharding | None:
    if isinstance(sharding, jax.sharding.NamedSharding):
        if any(kind is jax.sharding.AxisType.Explicit for kind in sharding.mesh.axis_types):
            raise ValueError("a mesh with explicit axes; expected jax.make_mesh(..., axis_types=(AxisType.Auto, ...))")
        return jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return sharding
