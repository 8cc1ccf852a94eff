"""Batches on the device before the step asks for them."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import grain
import jax
import numpy as np


def prefetch_to_device(
    dataset: grain.IterDataset, sharding: jax.sharding.Sharding | None = None, *, batches: int = 2
) -> grain.DatasetIterator:
    """Reads and transfers in a background thread, while the device works on the batch before.

    At most `batches` lie ready, so memory is constant. The iterator's state is that of the batches handed out, not of
    those read ahead: saved and restored, it loses and repeats none.

    Args:
        dataset: yields pytrees of numpy arrays, this process's share of each batch.
        sharding: of the global batch over all devices; None is JAX's default device.
        batches: that may lie ready. Two are double buffering.

    Returns:
        Iterator over the same batches as device arrays.
    """

    def put(item: object) -> object:
        if sharding is None or jax.process_count() == 1:
            return jax.device_put(item, sharding)
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), item)

    return _Prefetched(iter(dataset.map(put)), batches)


class _Prefetched(grain.DatasetIterator):
    """Keeps some items of `source` requested from one thread.

    Every request is a future, and the only wait is for the oldest one. Grain's ThreadPrefetchIterDataset has a thread
    that blocks in a full queue, and joins it wherever the garbage collector happens to run.
    """

    _closed: bool

    def __init__(self, source: grain.DatasetIterator, ahead: int) -> None:
        super().__init__(source)
        self._source, self._ahead = source, ahead
        self._state = source.get_state()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._requested: deque[Future[tuple[Any, Any]]] = deque()

    def __next__(self) -> Any:
        self._assert_not_closed()
        while len(self._requested) <= self._ahead:
            self._requested.append(self._thread.submit(_read, self._source))
        # After the last item every request ends in StopIteration, so there is nothing to tidy up.
        item, self._state = self._requested.popleft().result()
        return item

    def get_state(self) -> Any:
        """Position after the last item handed out."""
        return self._state

    def set_state(self, state: Any) -> None:
        """Goes on after the position of a `get_state`."""
        self._drop_requests()
        self._source.set_state(state)
        self._state = self._source.get_state()

    def close(self) -> None:
        """Drops what was read ahead; the thread ends by itself."""
        if not self._closed:
            self._requested.clear()
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._closed = True

    def _drop_requests(self) -> None:
        while self._requested:
            request = self._requested.pop()
            if not request.cancel():
                request.exception()  # runs already: the source may not be moved under it


def _read(source: grain.DatasetIterator) -> tuple[Any, Any]:
    return next(source), deepcopy(source.get_state())
