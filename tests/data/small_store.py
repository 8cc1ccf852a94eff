"""A store with everything that makes cutting hard: several shards, all lengths, gaps, a step of its own per record."""

from pathlib import Path

import numpy as np

from ecgjax.data.recording import Recording
from ecgjax.data.store import Store, open_store
from ecgjax.data.store_writer import StoreWriter

LENGTHS = (1000, 1004, 2600, 999, 1000, 3333, 1, 1500, 1000, 2000, 1250, 4000, 1001)
LONG_ENOUGH = tuple(row for row, length in enumerate(LENGTHS) if length >= 1000)
STEPS = (1.0, 5.0, 4.88, 0.5)


def write_store(path: Path, *, dtype: str = "int16", gaps: bool = True, sampling_rate: float = 400.0) -> Store:
    rng = np.random.default_rng(0)
    with StoreWriter(path, source="test", sampling_rate=sampling_rate, dtype=dtype, shard_bytes=150_000) as writer:
        for i, length in enumerate(LENGTHS):
            step = STEPS[i % len(STEPS)]
            signal = (rng.integers(-800, 800, (length, 12)) * (step / 1000)).astype(np.float32)
            if gaps and length > 20:
                signal[rng.integers(0, length, 3), rng.integers(0, 12, 3)] = np.nan
            recording = Recording(f"r{i}", signal, sampling_rate, microvolt_per_bit=step)
            writer.add(recording, patient_id=f"p{i}", fold=i % 3)
        writer.finish({})
    return open_store(path)
