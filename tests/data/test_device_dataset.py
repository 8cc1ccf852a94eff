"""Signals on the device are the store's; a crop cut there is the slice of the signal."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

from ecgjax.data import device_dataset
from ecgjax.data.device_dataset import crop, fits, load, size
from ecgjax.errors import UserError
from tests.data.small_store import LENGTHS, write_store


@pytest.mark.parametrize("dtype", ["int16", "float32"])
@pytest.mark.parametrize("piece", [700, 1 << 20])
def test_every_sample_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, piece: int) -> None:
    monkeypatch.setattr(device_dataset, "_PIECE", piece)
    store = write_store(tmp_path / "store", dtype=dtype)
    rows = np.array([5, 0, 11, 6, 3, 5])
    dataset = load(store, rows)
    assert dataset.flat.nbytes == size(store, np.unique(rows))
    first = np.asarray(dataset.first)
    for row, length in enumerate(LENGTHS):
        if row in rows:
            np.testing.assert_array_equal(dataset.flat[first[row] : first[row] + length], store.raw(row))
        else:
            assert first[row] == -1


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_crop_is_the_slice(tmp_path: Path, dtype: str) -> None:
    store = write_store(tmp_path / "store", dtype=dtype)
    rng = np.random.default_rng(1)
    rows = np.flatnonzero(np.array(LENGTHS) >= 250)
    dataset = load(store, rows)
    record = rng.choice(rows, 16).astype(np.int32)
    start = rng.integers(0, np.array(LENGTHS)[record] - 250 + 1).astype(np.int32)
    record[0], start[0] = rows[-1], LENGTHS[rows[-1]] - 250  # the very end of the memory
    crops = jax.jit(crop, static_argnums=3)(dataset, record, start, 250)
    assert crops.dtype == np.float32
    assert np.isnan(crops).any()
    for i in range(16):
        expected = store.signal(f"r{record[i]}")[start[i] : start[i] + 250]
        np.testing.assert_allclose(crops[i], expected, rtol=2e-7, atol=0)


def test_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_store(tmp_path / "store")
    rows = np.arange(len(LENGTHS))
    needed = sum(LENGTHS) * 12 * 2
    assert size(store, rows) == needed
    assert fits(store, rows)
    assert fits(store, rows, needed)
    assert not fits(store, rows, needed - 1)

    def device_with(stats: dict[str, int] | None) -> Any:
        return lambda: [SimpleNamespace(memory_stats=lambda: stats)]

    for limit, expected in [(needed / device_dataset.SHARE + 1, True), (needed / device_dataset.SHARE - 2, False)]:
        monkeypatch.setattr(jax, "local_devices", device_with({"bytes_limit": int(limit)}))
        assert fits(store, rows) is expected


def test_more_samples_than_int32_addresses() -> None:
    records = pd.DataFrame({"samples": np.full(3, 2**30)})
    store: Any = SimpleNamespace(path="huge", dtype="int16", records=records)
    assert not fits(store, np.arange(3), 2**62)
    with pytest.raises(UserError, match="huge: 3221225472 samples"):
        load(store, np.arange(3))
