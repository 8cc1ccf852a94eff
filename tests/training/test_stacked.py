"""Stacked runs equal the runs alone, and fused heads those on one device, however they lie on eight virtual ones."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgjax.data.batch_plans import BatchPlan
from ecgjax.data.stacked_plan import StackedPlan
from ecgjax.training.mesh import DATA, RUNS, batch_sharding, make_mesh
from tests.conftest import virtual_devices
from tests.jobs.conftest import store

__all__ = ["store"]


@pytest.fixture(scope="module")
def differences(store):
    command = [sys.executable, "-m", "tests.training.stacked_devices", str(store)]
    done = subprocess.run(command, env=virtual_devices(8), capture_output=True, text=True, check=False, timeout=1500)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("case", "tolerance"),
    [
        # One on a device is what it is alone; sums over a batch in parts, in loops and over stacks round differently.
        ("one per device", 1e-6),
        ("padded", 1e-6),
        ("four per device", 1e-3),
        ("data too", 1e-3),
        ("data too, vmap", 1e-3),
        ("one device", 1e-3),
        ("s4", 1e-5),
        ("ecg_cpc", 1e-4),
        ("net1d", 1e-4),
        ("fused", 1e-4),
    ],
)
def test_stacked_runs_equal_the_runs_alone(differences, case, tolerance):
    # Adam divides small gradients by their size: rounding then is a step of the learning rate, 1e-2, of a few weights.
    assert max(differences[case].values()) <= tolerance, differences[case]


class Device:
    platform = "cpu"


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 96))
def test_a_mesh_spreads_runs_evenly(runs, devices, batch_size):
    mesh = make_mesh(runs, batch_size, [Device() for _ in range(devices)])  # type: ignore[misc]
    assert mesh.axis_names == (RUNS, DATA)
    assert mesh.axis_types == (jax.sharding.AxisType.Auto,) * 2
    rows, columns = mesh.devices.shape
    assert rows * columns <= devices
    assert batch_size % columns == 0
    assert -(-runs // rows) == -(-runs // devices)  # as few per device as can be
    assert rows * -(-runs // rows) - runs < -(-runs // rows)  # no device without a run of its own
    if batch_size % (devices // rows) == 0:
        assert columns == devices // rows


def test_one_device_needs_no_sharding():
    assert batch_sharding(make_mesh(3, 8, jax.devices()[:1])) is None


@given(st.integers(1, 4), st.integers(0, 3), st.integers(0, 5))
def test_an_item_holds_the_batch_of_every_run(runs, copies, step):
    plans = [
        BatchPlan(np.arange(9) + i, np.full(13, 30), window=10, batch_size=3, seed=i, epochs=2) for i in range(runs)
    ]
    plan = StackedPlan(plans, runs + copies)
    assert len(plan) == len(plans[0]) == 6
    assert plan.rows.tolist() == list(range(8 + runs))
    item = plan[step]
    for i in range(runs + copies):
        for name, values in plans[min(i, runs - 1)][step].items():
            assert item[name].dtype == np.int32
            np.testing.assert_array_equal(item[name][i], values)


def test_plans_of_another_length_are_refused():
    plans = [BatchPlan(np.arange(9), np.full(9, 30), window=10, batch_size=n, seed=0, epochs=2) for n in (3, 4)]
    with pytest.raises(ValueError, match="expected one kind"):
        StackedPlan(plans)
