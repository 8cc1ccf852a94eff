"""Which processes become one run, and what is said if they cannot."""

import jax
import pytest

from ecgjax import distributed
from ecgjax.distributed import Processes
from ecgjax.errors import UserError
from tests.distributed.launch import Run, free_port

STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    ("processes", "message"),
    [
        (Processes(coordinator="a:1"), "--processes and --process missing; expected --coordinator=HOST:PORT"),
        (Processes(count=2, index=0), "--coordinator missing"),
        (Processes(coordinator="a", count=2, index=0), "--coordinator=a; expected HOST:PORT"),
        (Processes(coordinator="a:99999", count=2, index=0), "--coordinator=a:99999; expected HOST:PORT"),
        (Processes(coordinator="a:1", count=0, index=0), "--processes=0; expected 1 or more"),
        (Processes(coordinator="a:1", count=2, index=2), "--process=2; expected 0 to 1"),
        (Processes(coordinator="a:1", count=2, index=-1), "--process=-1; expected 0 to 1"),
        (Processes("off", coordinator="a:1", count=2, index=0), "--distributed=off with --coordinator"),
        (Processes(start_timeout=0), "--start_timeout=0; expected seconds"),
    ],
)
def test_flags_that_cannot_be(processes, message, no_cluster):
    with pytest.raises(UserError, match="^" + message) as error, distributed.session("pretrain", processes):
        pass
    assert "\n" not in str(error.value)


@pytest.fixture
def no_cluster(monkeypatch):
    for name in (*STEP, "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "OMPI_MCA_orte_hnp_uri"):
        monkeypatch.delenv(name, raising=False)
    for name in ("KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX", "TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES"):
        monkeypatch.delenv(name, raising=False)


def test_no_cluster_where_one_is_asked_for(no_cluster, monkeypatch):
    def initialize(**arguments):
        raise ValueError("coordinator_address should be defined.")  # JAX's

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    message = "^--distributed=on: no Cloud TPU, SLURM step, Open MPI or Kubernetes job found; expected one, or --coord"
    with pytest.raises(UserError, match=message), distributed.session("pretrain", Processes("on")):
        pass


@pytest.mark.parametrize("job", ["evaluate", "sweep"])
@pytest.mark.parametrize("processes", [Processes("on"), Processes(coordinator="a:1", count=2, index=0)])
def test_other_jobs_run_in_one_process(job, processes):
    with pytest.raises(UserError, match=f"^job {job} runs in one process"), distributed.session(job, processes):
        pass


@pytest.mark.parametrize(
    ("job", "mode", "environment", "expected"),
    [
        ("pretrain", "auto", {}, False),
        ("pretrain", "auto", {**STEP, "SLURM_NTASKS": "2"}, True),
        ("pretrain", "off", {**STEP, "SLURM_NTASKS": "2"}, False),
        ("evaluate", "auto", {**STEP, "SLURM_NTASKS": "2"}, False),
        # A task of an array; a step of one task in a larger allocation; a batch script that starts no step.
        ("pretrain", "auto", {**STEP, "SLURM_NTASKS": "1", "SLURM_ARRAY_TASK_ID": "3"}, False),
        ("pretrain", "auto", {**STEP, "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "1"}, False),
        ("pretrain", "auto", {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8"}, False),
        ("pretrain", "auto", {"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ("pretrain", "auto", {"OMPI_COMM_WORLD_SIZE": "1"}, False),
        ("pretrain", "auto", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),
    ],
)
def test_what_is_started_together_is_one_run(job, mode, environment, expected, no_cluster, monkeypatch):
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **arguments: calls.append(arguments))
    monkeypatch.setattr(jax.distributed, "shutdown", lambda: None)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with distributed.session(job, Processes(mode)):
        assert len(calls) == expected
        assert not distributed.joined()


def test_one_process_is_a_run_of_its_own(tmp_path):
    with distributed.session("pretrain", Processes(coordinator="nowhere:1", count=1, index=0)):
        assert distributed.first()
        assert distributed.exchange({"a": 1}) == [{"a": 1}]
        distributed.require_same({"a": 1})


def test_faults_of_others_are_everyones(monkeypatch):
    monkeypatch.setattr(distributed, "joined", lambda: True)
    monkeypatch.setattr(distributed, "exchange", lambda mine: [mine, "nowhere: not a store"])
    with pytest.raises(UserError, match=r"^process 1: nowhere: not a store"), distributed.same_fate():
        pass
    monkeypatch.setattr(distributed, "exchange", lambda mine: [mine, {**mine, "data": 2}])
    with pytest.raises(UserError, match=r"^data is 1 in process 0 and 2 in process 1"):
        distributed.require_same({"data": 1, "config": 1})


def test_a_coordinator_that_nobody_reaches(tmp_path):
    flags = ["--config=configs/cpc_pretrain.py", f"--workdir={tmp_path / 'run'}", "--start_timeout=1"]
    flags += [f"--coordinator=127.0.0.1:{free_port()}", "--processes=2", "--process=1"]
    with Run([flags]) as run:
        ((status, out, err),) = run.wait()
    assert status == 2
    assert err.startswith("ecgjax: not all 2 processes met at the coordinator at 127.0.0.1:")
    assert err.count("\n") == 1
    assert out == ""
    assert not (tmp_path / "run").exists()
