"""Chip-hours by hand: what the projection adds up."""

from typing import Any

import pytest

from benchmarks import projection
from benchmarks.projection import Steps
from benchmarks.projection_page import markdown
from ecgjax import tasks
from ecgjax.data import sources

CHIP = {"name": "TPU v5e", "bfloat16": 200e12, "float32": 40e12, "memory": 16e9, "bandwidth": 800e9}


def check(**changes: Any) -> dict[str, Any]:
    """Of one model, four chips and a batch of 64: 16 records for each chip."""
    rows = [
        {"name": f"merl_resnet {step}", "records": 64, "flops": flops, "bytes": moved, "limit": "memory"}
        for step, flops, moved in (
            ("features", 640e9, 1e9),  # 16 ms of arithmetic
            ("linear", 640e9, 25.6e9),  # 32 ms of traffic
            ("fused", 1280e9, 1e9),
            ("finetune", 3200e9, 1e9),
        )
    ]
    rows.append({"name": "ecg_cpc pretraining", "records": 64, "flops": 640e9, "bytes": 1e9, "limit": "compute"})
    rows.append({"name": "bootstrap block", "records": 0, "flops": 1.0, "bytes": 1.0, "limit": "compute"})
    found = {
        "topology": "v5e:2x2", "devices": 4, "batch_size": 64, "dtype": "float32", "chip": CHIP,
        "versions": {"jax": "1"},
        "programs": rows,
    }  # fmt: skip
    return {**found, **changes}


def test_chip_seconds_of_a_record() -> None:
    costs = projection.per_record(check(), {})
    assert costs["merl_resnet features"] == pytest.approx(1e-3)
    assert costs["merl_resnet linear"] == pytest.approx(2e-3)
    assert "bootstrap block" not in costs
    assert projection.per_record(check(dtype="bfloat16"), {})["merl_resnet features"] == pytest.approx(0.2e-3)


def test_bytes_that_a_gpu_lacks_are_the_first_tpus() -> None:
    bytes_like = projection.bytes_per_record([check()])
    assert bytes_like["merl_resnet linear"] == 1.6e9
    rows = [{**row, "bytes": None} for row in check()["programs"]]
    gpu = check(topology="h100:1", devices=1, programs=rows, chip={**CHIP, "bandwidth": 1.6e12})
    assert projection.per_record(gpu, bytes_like)["merl_resnet linear"] == pytest.approx(1e-3)


def test_hours_of_a_model() -> None:
    steps = Steps(features=1e-3, linear=2e-3, fused=2e-3, finetune=5e-3)
    found = projection.of_model("merl_resnet", steps, efficiency=0.5)
    finetune = one_by_one = 0.0
    shared: dict[str, float] = {}
    for name in projection.RUNS:
        run = tasks.get(name)[0]
        records = {"mimic": 184_720}.get(run.source) or sources.load(run.source).FACTS.records
        assert records
        windows = {"ptb": 46, "cpsc2018": 6, "cpsc_extra": 6, "sph": 4, "code15": 3, "zzu_pecg": 6}.get(run.source, 4)
        validation = 101 * 0.1 * records * windows * 1e-3
        finetune += 100 * 0.8 * records * 5e-3 + validation
        one_by_one += 2 * (100 * 0.8 * records * 2e-3 + validation)
        shared[run.source] = 100 * 0.8 * records * 2e-3 + 2 * 0.1 * records * windows * 1e-3
    hours = (finetune, one_by_one, sum(shared.values()))
    assert found == pytest.approx([value / 3600 / 0.5 for value in hours])
    assert projection.of_model("merl_resnet", steps, 0.5, records=4) == pytest.approx([4 * value for value in found])


def test_seeds_cost_a_frozen_encoder_nothing_until_a_program_is_full() -> None:
    steps = Steps(1e-3, 2e-3, 2e-3, 5e-3)
    one, three = (projection.of_model("merl_resnet", steps, 1.0, seeds=seeds) for seeds in (1, 3))
    assert three.shared == one.shared
    assert three.one_by_one == pytest.approx(3 * one.one_by_one)
    # PTB-XL has three head runs: 3 x 2 modes x 10 seeds are 60 heads, two programs.
    assert projection.of_model("merl_resnet", steps, 1.0, seeds=10).shared > one.shared


def test_supervised_models_have_no_frozen_runs() -> None:
    found = projection.of_model("s4", Steps(1e-3, 2e-3, 2e-3, 5e-3), 1.0)
    assert found.finetune > 0
    assert found[1:] == (0.0, 0.0)


def test_the_page() -> None:
    found = projection.project([check()], 0.5)
    (part,) = found["slices"]
    assert list(part["models"]) == ["merl_resnet"]
    assert "ecg_cpc" in part["missing"]
    # 10.7 million records, 200 epochs, 1 ms of one chip each at the bound.
    (own,) = found["pretraining"]
    assert own["days"] == pytest.approx(10.7e6 * 200 * 1e-3 / 4 / 0.5 / 86_400)
    assert own["gflop_per_record"] == pytest.approx(40)
    assert own["step_ms"] == pytest.approx(32)
    text = markdown(found)
    assert "| MERL (ResNet) |" in text
    assert "assumed efficiency of 50%" in text
    assert f"| 4 of TPU v5e | float32 | 64 | 32.00 | compute | {own['all_reduce_ms']:.2f} | {own['days']:.2f} |" in text
