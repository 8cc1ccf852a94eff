"""The pretraining job: kills, signals, wrong input, and what it leaves behind."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from ml_collections import ConfigDict

import ecgjax
from configs.cpc_pretrain import get_config
from ecgjax.data.recording import Recording
from ecgjax.data.store_writer import StoreWriter
from ecgjax.errors import UserError
from ecgjax.jobs import pretrain
from ecgjax.models.weights import load_heads
from ecgjax.training.logging import read_metrics
from ecgjax.training.run_directory import RunDirectory

ROOT = Path(__file__).parents[2]
RATE, SAMPLES = 240, 480


def write_store(path: Path, records: int = 40, folds: int = 5, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    with StoreWriter(path, source="noise", sampling_rate=RATE) as writer:
        for i in range(records):
            signal = np.cumsum(rng.standard_normal((SAMPLES, 12)), 0).astype(np.float32) / 20
            recording = Recording(f"{path.name}-{i}", signal, float(RATE), microvolt_per_bit=1.0)
            writer.add(recording, patient_id=str(i), fold=i % folds)
        writer.finish()
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return write_store(tmp_path_factory.mktemp("stores") / "noise")


SETTINGS = {
    "data.seconds": 1.0,
    "model.width": 8,
    "model.layers": 1,
    "batch_size": 4,
    "epochs": 6,
    "log_every": 4,
    "checkpoint_every": 5,
}


def make_config(store: Path | str, **changes) -> ConfigDict:
    config = get_config()
    config.update_from_flattened_dict({"data.stores": str(store), **SETTINGS, **changes})
    return config


def start(store: Path, workdir: Path) -> subprocess.Popen[str]:
    arguments = {"data.stores": store, **SETTINGS}
    environment = {
        "JAX_PLATFORMS": "cpu",
        # Compile once, and not for speed.
        "ECGJAX_CACHE": str(workdir.parent / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    return subprocess.Popen(
        [
            sys.executable,
            *("-m", "ecgjax.main", "--config=configs/cpc_pretrain.py", f"--workdir={workdir}"),
            *(f"--config.{key}={value}" for key, value in arguments.items()),
        ],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_step(process: subprocess.Popen[str], workdir: Path, step: int) -> None:
    """Returns as soon as the run has logged a step."""
    file = workdir / "metrics.jsonl"
    while process.poll() is None:
        if file.exists() and any(f'"step": {s},' in file.read_text() for s in range(step, step + 8)):
            return
        time.sleep(0.002)
    raise AssertionError(f"ended before step {step}: {process.communicate()}")


def read_state(workdir: Path, slot: str = "last"):
    manager = ocp.CheckpointManager((workdir / "checkpoints" / slot).absolute())
    step = manager.latest_step()
    return step, manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore())).state


def test_killed_and_stopped_runs_end_like_an_uninterrupted_one(store, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    _, err = (process := start(store, whole)).communicate()
    assert process.returncode == 0, err

    process = start(store, broken)
    wait_for_step(process, broken, 8)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL

    process = start(store, broken)
    wait_for_step(process, broken, 20)
    process.terminate()
    out, err = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "continuing after step" in out
    assert "stopped by a signal and saved after step" in out
    assert "Traceback" not in err
    assert not (broken / "DONE").exists()
    saved = int(out.split("saved after step ")[1].split(";")[0])
    assert os.listdir(broken / "checkpoints" / "last") == [str(saved)]

    process = start(store, broken)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert f"continuing after step {saved}" in out

    for slot in ("last", "best"):
        (step, expected), (found_step, found) = read_state(whole, slot), read_state(broken, slot)
        assert found_step == step
        assert set(expected) == {"params", "rest", "optimiser", "step", "key", "sums"}
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        iterator = f"checkpoints/{slot}/{step}/iterator/metadata"
        assert (broken / iterator).read_text() == (whole / iterator).read_text()
    assert (broken / "weights/weights.safetensors").read_bytes() == (whole / "weights/weights.safetensors").read_bytes()
    lines = [read_metrics(workdir / "metrics.jsonl") for workdir in (broken, whole)]
    for line in (*lines[0], *lines[1]):
        del line["seconds"]
    assert lines[0] == lines[1]
    results = [json.loads((workdir / "results.json").read_text()) for workdir in (broken, whole)]
    for result in results:
        del result["records_per_second"]
    assert results[0] == results[1]


def test_a_run_from_start_to_weights(store, tmp_path, capsys):
    # Two stores as one; a validation each epoch, lines at multiples of log_every.
    other = write_store(tmp_path / "other", records=10, seed=1)
    config = make_config(f"{store},{other}", epochs=2, layerwise=True)
    pretrain.run(config, tmp_path / "run")
    out = capsys.readouterr().out
    assert "30 records" in out
    assert [line.split()[-1] for line in out.splitlines() if line.startswith(("head ", "predictor ", "encoder "))] == [
        "0.001",
        "0.0001",
        "1e-05",
    ]
    assert "synthetic" not in out
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines if "loss" in line] == [4, 8, 12, 14]
    assert [line["step"] for line in lines if "validation_loss" in line] == [7, 14]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["loss"] == lines[-2]["loss"]
    assert results["best"]["loss"] == min(line["validation_loss"] for line in lines if "validation_loss" in line)
    assert results["chance_loss"] == pytest.approx(106 * np.log(129))
    assert (tmp_path / "run" / "DONE").exists()
    model = ecgjax.load_model("ecg_cpc", weights=tmp_path / "run")
    assert model.encoder.arguments["l_max"] == 120
    _, state = read_state(tmp_path / "run")
    np.testing.assert_array_equal(
        model.variables["params"]["predictor"]["layer_0"]["C"], state["params"]["encoder"]["predictor"]["layer_0"]["C"]
    )
    np.testing.assert_array_equal(load_heads(tmp_path / "run")["ssl"]["kernel"], state["params"]["head"]["kernel"])

    pretrain.run(config, tmp_path / "run")
    assert "done already" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"holds a run of another config: config\.batch_size was 4 and is 5"):
        pretrain.run(make_config(f"{store},{other}", epochs=2, layerwise=True, batch_size=5), tmp_path / "run")


def test_a_full_disk_is_one_line_and_the_run_continues_later(store, tmp_path):
    config, whole, full = make_config(store, epochs=1), tmp_path / "whole", tmp_path / "full"
    pretrain.run(config, whole)
    largest = max(file.stat().st_size for file in (whole / "checkpoints").rglob("*") if file.is_file())
    with file_size_limit(largest // 2), pytest.raises(UserError, match="no space left") as error:
        pretrain.run(config, full)
    assert "\n" not in str(error.value)
    assert not list((full / "checkpoints").rglob("*tmp*"))
    pretrain.run(config, full)
    assert (full / "weights/weights.safetensors").read_bytes() == (whole / "weights/weights.safetensors").read_bytes()


@contextlib.contextmanager
def file_size_limit(size: int):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(store, tmp_path):
    config = make_config(store, epochs=4, learning_rate=1e30, checkpoint_every=1)
    with pytest.raises(UserError, match=r"the loss of step [23] is not finite; the checkpoint before it is kept"):
        pretrain.run(config, tmp_path)
    step, state = read_state(tmp_path)
    assert step in (1, 2)
    assert state["sums"]["nonfinite"] == -1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.stores": ""}, r"config\.data\.stores is empty"),
        ({"data.stores": "nowhere"}, "nowhere: not a store"),
        ({"batch_size": 100}, r"config\.batch_size is 100; expected at most the 24 training records"),
        ({"batch_size": 0}, r"config\.batch_size is 0; expected 1 or more"),
        ({"data.seconds": 3.0}, r"no training record of at least 3 s \(config\.data\.seconds\)"),
        ({"data.seconds": 0.1}, "12 tokens; expected more than the 14 steps"),
        ({"data.seconds": 0.0}, "expected at least one sample"),
        ({"data.placement": "cloud"}, "placement='cloud'"),
        ({"data.clip": -1.0}, r"config\.data\.clip is -1"),
        ({"schedule": "cosin"}, "schedule 'cosin' is unknown"),
        ({"model.width": 0}, "width is 0; expected a positive integer"),
        ({"learning_rate": float("nan")}, r"config\.learning_rate is nan"),
    ],
)
def test_unusable_input_is_one_clear_line(store, tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as error:
        pretrain.run(make_config(store, **changes), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "run").rglob("checkpoints/*/*"))


def test_a_damaged_shard_is_named(tmp_path):
    store = write_store(tmp_path / "store")
    shard = next(store.glob("signals-*.npy"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(UserError, match=rf"{shard.name}: damaged"):
        pretrain.run(make_config(store), tmp_path / "run")


def test_data_that_changed_under_a_run(store, tmp_path):
    config = make_config(store)
    RunDirectory.open(tmp_path, config).write_environment(seed=0, data={"noise": "as it was then"})
    with pytest.raises(UserError, match=r"was started on other data \(noise has changed since\)"):
        pretrain.run(config, tmp_path)


def test_one_fold_leaves_nothing_to_train_on(tmp_path):
    store = write_store(tmp_path / "store", records=5, folds=1)
    with pytest.raises(UserError, match=r"no training record.*the highest fold is test"):
        pretrain.run(make_config(store), tmp_path / "run")


def test_variants():
    paper = get_config("paper")
    assert (paper.model.width, paper.model.layers, paper.data.seconds, paper.batch_size, paper.epochs) == (
        512,
        4,
        10.0,
        64,
        200,
    )
    assert (paper.learning_rate, paper.weight_decay, paper.schedule, paper.layerwise) == (1e-3, 1e-3, "constant", False)
    with pytest.raises(ValueError, match="no such variant; expected reduced or paper"):
        get_config("big")
