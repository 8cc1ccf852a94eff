"""Batches on the device before the step asks for them."""

import grain
import jax
import numpy as np
from grain.experimental import ThreadPrefetchIterDataset


def prefetch_to_device(
    dataset: grain.IterDataset, sharding: jax.sharding.Sharding | None = None, *, batches: int = 2
) -> grain.IterDataset:
    """Reads and transfers in a background thread, while the device works on the batch before.

    At most `batches` lie ready, so memory is constant. The iterator's state is that of the batches handed out, not of
    those read ahead: saved and restored, it loses and repeats none.

    Args:
        dataset: yields pytrees of numpy arrays, this process's share of each batch.
        sharding: of the global batch over all devices; None is JAX's default device.
        batches: that may lie ready. Two are double buffering.

    Returns:
        The same batches as device arrays.
    """

    def put(item: object) -> object:
        if sharding is None or jax.process_count() == 1:
            return jax.device_put(item, sharding)
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), item)

    return ThreadPrefetchIterDataset(dataset.map(put), prefetch_buffer_size=batches)
