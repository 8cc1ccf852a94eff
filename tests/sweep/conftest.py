"""What tests of sweeps share: a model, a store, weights, and cells that end quickly."""

import pytest

from ecgjax.jobs import evaluate_outcome
from tests.jobs.conftest import store, tiny
from tests.sweep import fused

__all__ = ["store", "tiny"]


@pytest.fixture(scope="module")
def undrawn():
    """Figures, and what reports can make again, are left out: they take longer than the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate_outcome.evaluation_report, "draw", lambda folder: None)
        patch.setattr(evaluate_outcome.cell_values, "keep", lambda folder: None)
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory, tiny):
    """Folder of weights of a small encoder."""
    return fused.save(tmp_path_factory.mktemp("weights"))
