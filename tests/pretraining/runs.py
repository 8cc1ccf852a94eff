"""Small runs of configs/pretrain.py."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from configs.pretrain import get_config
from ecgjax.data.recording import Recording
from ecgjax.data.store_writer import StoreWriter

RATE = 100.0


def write_store(path: Path, records: int = 40, seconds: float = 2.0, labels: bool = True) -> Path:
    """Noise in five folds, two records of each patient, and a label that is whether the mean is positive."""
    rng = np.random.default_rng(0)
    sign = np.arange(records) % 2
    with StoreWriter(path, source="noise", sampling_rate=RATE) as writer:
        for i in range(records):
            signal = np.cumsum(rng.standard_normal((int(RATE * seconds), 12)), 0) / 20 + (2 * sign[i] - 1)
            writer.add(
                Recording(f"r{i}", signal.astype(np.float32), RATE, microvolt_per_bit=1.0),
                patient_id=str(i // 2),
                fold=i // 2 % 5,
            )
        sets = {"sign": (("positive",), sign[:, None].astype(np.float32), ("classification",))}
        writer.finish(sets if labels else None)
    return path


def make_config(store: Path, choice: str, **changes) -> ConfigDict:
    """A run of a few steps."""
    config = get_config(choice)
    settings = {
        "data.stores": str(store),
        "batch_size": 4,
        "log_every": 2,
        "checkpoint_every": 100,
        "learning_rate": 1e-2,
    }
    config.update_from_flattened_dict({**settings, "budget.epochs": 1.0, **changes})
    return config
