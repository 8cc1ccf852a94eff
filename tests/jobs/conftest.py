"""A model and a store that take seconds from the data to intervals."""

import numpy as np
import pytest

from ecgjax.data.recording import Recording
from ecgjax.data.store_writer import StoreWriter
from ecgjax.models import registry

RATE, SECONDS = 100.0, 6.0  # two windows of 2.5 s, one second unused


@pytest.fixture(scope="module")
def tiny():
    """Registers the model "tiny" for a module of tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._MODELS, "tiny", "tests.jobs.tiny_model")
        registry._modules.cache_clear()
        yield
    registry._modules.cache_clear()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """80 records in ten folds; a class for each of three rhythms of a sine, and its standardised amplitude."""
    path = tmp_path_factory.mktemp("stores") / "sines"
    rng = np.random.default_rng(0)
    slow, fast, offset = np.arange(80) % 2 == 0, np.arange(80) % 5 < 2, np.arange(80) // 8 % 3 == 0
    offset[-2:] = True, False
    amplitude = rng.uniform(0.5, 1.5, 80)
    time = np.arange(int(SECONDS * RATE))[:, None] / RATE
    with StoreWriter(path, source="synthetic", sampling_rate=RATE) as writer:
        for k in range(80):
            wave = np.sin(2 * np.pi * 2 * time) * slow[k] + np.sin(2 * np.pi * 8 * time) * fast[k] + offset[k]
            signal = amplitude[k] * wave + 0.3 * rng.standard_normal((len(time), 12))
            writer.add(Recording(f"r{k}", signal.astype(np.float32), RATE), patient_id=f"p{k // 2}", fold=k // 8)
        classes = np.stack([slow, fast, offset], axis=1).astype(np.float32)
        measured = ((amplitude - 1) / 0.29)[:, None].astype(np.float32)
        kinds = ("classification",) * 3
        writer.finish(
            {
                "labels": (("SR", "AFIB", "OFFSET"), classes, kinds),
                # Out of order: regression columns must be moved behind the classes.
                "joint": (
                    ("amplitude", "SR", "AFIB", "OFFSET"),
                    np.hstack([measured, classes]),
                    ("regression", *kinds),
                ),
            }
        )
    return path
