"""One pretraining over several real processes: the single process's curve, whatever stops it on the way."""

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.cpc_pretrain import get_config
from ecgjax.jobs import pretrain
from ecgjax.models.safetensors_file import read
from ecgjax.training.interrupt import Interrupt
from ecgjax.training.logging import read_metrics
from tests.distributed.launch import SETTINGS, Run, free_port
from tests.jobs.test_pretrain import write_store

STEPS = 6 * 3  # epochs of 24 records in batches of 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("distributed")
    write_store(folder / "noise")
    return folder


@pytest.fixture(scope="module")
def alone(folder) -> Path:
    """The run of a single process that all others must equal."""
    pretrain.run(make_config(folder), folder / "alone")
    return folder / "alone"


def make_config(folder: Path, **changes) -> ConfigDict:
    config = get_config()
    config.update_from_flattened_dict({"data.stores": str(folder / "noise"), **SETTINGS, **changes})
    return config


def arguments(folder: Path, workdir: Path, **changes) -> list[str]:
    fields = {"data.stores": folder / "noise", **SETTINGS, **changes}
    return [
        "--config=configs/cpc_pretrain.py",
        f"--workdir={workdir}",
        *(f"--config.{key}={value}" for key, value in fields.items()),
    ]


def assert_same_run(workdir: Path, expected: Path) -> None:
    assert (workdir / "DONE").exists()
    found, wanted = read_metrics(workdir / "metrics.jsonl"), read_metrics(expected / "metrics.jsonl")
    assert [line["step"] for line in found] == [line["step"] for line in wanted]
    for line, other in zip(found, wanted, strict=True):
        assert line.keys() == other.keys()
        for name in line.keys() - {"step", "seconds"}:
            # Accuracy counts predictions, of which rounding may turn a few that are close to a tie.
            tolerance = {"atol": 0.005, "rtol": 0} if "accuracy" in name else {"rtol": 1e-5}
            np.testing.assert_allclose(line[name], other[name], **tolerance, err_msg=f"{name} of step {line['step']}")
    tensors, others = (dict(read(path / "weights/weights.safetensors")) for path in (workdir, expected))
    assert tensors.keys() == others.keys()
    for name in tensors:
        np.testing.assert_allclose(tensors[name], others[name], rtol=1e-3, atol=1e-4, err_msg=name)


def stop_after(monkeypatch, step: int) -> None:
    class Stop(Interrupt):
        def stops_at(self, at: int) -> bool:
            self.signal = signal.SIGTERM
            return at >= step

    monkeypatch.setattr(pretrain, "Interrupt", Stop)


def test_started_by_one_process_continued_by_four_of_a_slurm_step(folder, alone, monkeypatch):
    workdir = folder / "four"
    with monkeypatch.context() as patched:
        stop_after(patched, 5)
        with pytest.raises(SystemExit):
            pretrain.run(make_config(folder), workdir)
    step = {
        "SLURM_JOB_ID": "1",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "4",
        "SLURM_STEP_NUM_TASKS": "4",
        "JAX_COORDINATOR_PORT": str(free_port()),
    }
    environments = [{**step, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in range(4)]
    with Run([arguments(folder, workdir)] * 4, environments=environments) as run:
        ended = run.wait()
    assert [status for status, _, _ in ended] == [0] * 4, ended
    assert "continuing after step 5" in ended[0][1]
    assert_same_run(workdir, alone)
    assert json.loads((workdir / "environment.json").read_text())["processes"] == 4
    # Process 0 speaks for all.
    for _, out, err in ended[1:]:
        assert [line for line in out.splitlines() if "Gloo" not in line] == []
        assert "pretraining" not in err


def test_stopped_and_killed_with_two_processes(folder, alone):
    workdir = folder / "two"
    with Run.of(2, arguments(folder, workdir)) as run:
        # As soon as they have met. JAX looks for the signal once a second, so that it meets the training's first steps.
        for _ in run.alive():
            if (workdir / "config.json").exists():
                break
        run.processes[1].send_signal(signal.SIGTERM)
        ended = run.wait()
    assert [status for status, _, _ in ended] == [128 + signal.SIGTERM] * 2, ended
    saved = re.search(r"stopped by a signal and saved after step (\d+)", ended[0][1])
    assert saved, ended
    step = int(saved[1])
    assert 0 < step < STEPS
    assert not (workdir / "DONE").exists()

    # Now with two devices each; one of them is killed.
    with Run.of(2, arguments(folder, workdir), devices=2) as run:
        for _ in run.alive():
            if lines_after(workdir, step):
                break
        run.processes[1].kill()
        (status, out, err), (killed, _, _) = run.wait()
    assert killed == -signal.SIGKILL
    assert f"continuing after step {step}" in out
    assert status not in (0, None)
    assert "another process of this run has ended" in err or "another task died" in err, err
    assert not (workdir / "DONE").exists()

    pretrain.run(make_config(folder), workdir)
    assert_same_run(workdir, alone)


def lines_after(workdir: Path, step: int) -> bool:
    lines = (workdir / "metrics.jsonl").read_text().splitlines() if (workdir / "metrics.jsonl").exists() else []
    return any(int(number) > step for line in lines for number in re.findall(r'^{"step": (\d+),', line))


def test_processes_of_different_configs_end_with_one_line_each(folder):
    workdir = folder / "differing"
    run = Run.of(2, arguments(folder, workdir))
    run._flags[1].append("--config.seed=1")
    with run:
        ended = run.wait()
    for status, _, err in ended:
        assert status == 2
        assert "ecgjax: config.seed is 0 in process 0 and 1 in process 1; expected the same in all" in err
        assert "Traceback" not in err
    assert not workdir.exists()
