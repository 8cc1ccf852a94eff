"""scripts/slurm_array.sbatch on a real slurmctld and slurmd with one node: this machine."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue")
missing = [name for name in PROGRAMS if shutil.which(name) is None]
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_min_interval=100000
MinJobAge=300
KillWait=30
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="module")
def slurm():
    """Environment of a cluster's commands."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not found: apt install slurmctld slurmd slurm-client munge")
    if os.geteuid() != 0:
        pytest.skip("slurmd and munged are started as root only")
    folder = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))
    (folder / "key").write_bytes(os.urandom(128))
    (folder / "key").chmod(0o400)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().partition(".")[0]
    (folder / "slurm.conf").write_text(CONFIG.format(host=host, folder=folder, ports=_free_ports(2)))
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    munge = [f"--{name}={folder}/{file}" for name, file in MUNGE_FILES.items()]
    started = []

    def start(*command):
        with open(folder / f"{command[0]}.out", "w") as out:
            started.append(subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT))

    try:
        start("munged", "--foreground", "--force", *munge)
        _until(lambda: (folder / "munge.socket").exists(), started)
        start("slurmctld", "-D")
        start("slurmd", "-D", "-N", host)
        _until(lambda: "idle" in _output(environment, "sinfo", "--noheader", "--format=%t"), started)
        yield environment
    finally:
        _output(environment, "scancel", "--user=root", "--signal=KILL", "--full")
        for process in reversed(started):
            process.terminate()
        for process in reversed(started):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


MUNGE_FILES = {
    "key-file": "key",
    "socket": "munge.socket",
    "pid-file": "munged.pid",
    "log-file": "munged.log",
    "seed-file": "munged.seed",
}


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def _output(environment, *command):
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60).stdout


def _until(condition, processes=(), seconds=300, state=lambda: ""):
    """Waits for what is true in the end; while it waits, none of the processes may end."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        ended = [process.args for process in processes if process.poll() is not None]
        assert not ended, ended
        assert time.monotonic() < end, f"waited too long\n{state()}"
        time.sleep(0.1)
    return found


class Array:
    """A submitted job array over a small sweep, which has three units of work in each of its two shards."""

    def __init__(self, slurm, folder):
        self.slurm, self.workdir, self.logs = slurm, folder / "sweep", folder
        environment = {
            **slurm,
            "PYTHON": sys.executable,
            "JAX_PLATFORMS": "cpu",
        }
        sbatch = ["sbatch", "--parsable", "--array=1-2", "--cpus-per-task=1", f"--output={folder}/%a.log"]
        sweep = ["--config=tests/launchers/sweep_seeds.py", f"--workdir={self.workdir}"]
        made = subprocess.run(
            [*sbatch, "scripts/slurm_array.sbatch", *sweep],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert made.returncode == 0, made.stderr
        self.job = made.stdout.strip()

    def until(self, condition):
        return _until(condition, state=self.state)

    def queued(self):
        return _output(self.slurm, "squeue", "--noheader", f"--jobs={self.job}", "--format=%i %T")

    def shown(self, task):
        return _output(self.slurm, "scontrol", "show", "job", f"{self.job}_{task}")

    def status(self, task):
        file = self.workdir / f"status-{task}-of-2.json"
        return json.loads(file.read_text()) if file.exists() else {"running": [], "state": "none"}

    def done(self):
        return {path.parent.name: path.stat().st_mtime_ns for path in self.workdir.glob("cells/*/DONE")}

    def log(self, task="*"):
        return "\n".join(path.read_text() for path in sorted(self.logs.glob(f"{task}.log")))

    def state(self):
        return "\n".join([self.queued(), self.shown(1), self.shown(2), self.log()])


STOPPED = "left; start the same command again"


def test_an_array_is_cut_submitted_again_and_finishes_the_sweep(slurm, tmp_path):
    first = Array(slurm, tmp_path)
    # As before a time limit: a signal to the script of one task only, with cells behind the one it runs. It saves, and
    # is queued again.
    task = first.until(lambda: next((i for i in (1, 2) if first.status(i)["running"]), None))
    _output(slurm, "scancel", "--batch", "--signal=USR1", f"{first.job}_{task}")
    first.until(lambda: "Restarts=1" in first.shown(task) or "RUNNING" not in first.shown(task))
    assert "Restarts=1" in first.shown(task), first.state()
    assert f"{first.job}_{task}: the time limit is near; queued again" in first.log(task), first.state()
    assert STOPPED in first.log(task), first.state()
    # The other went on, and is cancelled with cells to do.
    other = 3 - task
    first.until(lambda: first.done() or not first.queued())
    _output(slurm, "scancel", first.job)
    first.until(lambda: not first.queued())
    assert STOPPED in first.log(other), first.state()
    before = first.done()
    assert 0 < len(before) < 6
    # Again: what was done stays as it was, the rest is done.
    second = Array(slurm, tmp_path)
    second.until(lambda: not second.queued())
    done = second.done()
    assert before.items() <= done.items()
    assert done.keys() == json.loads((second.workdir / "plan.json").read_text())["cells"].keys(), second.log()
    states = [second.status(i) for i in (1, 2)]
    assert [state["state"] for state in states] == ["done"] * 2
    assert sum(state["cells"]["done"] for state in states) == len(done) == 6
    # tests/sweep/test_smoke.py runs such a command.
    *_, command = re.findall("a report +python (.*)", second.log())
    assert command == f"-m ecgjax.main --config=configs/report.py --config.runs={second.workdir}"


@pytest.mark.parametrize("moment", ["before the start", "while Python starts"])
def test_a_time_limit_at_the_very_start_queues_the_task_again(tmp_path, moment):
    (tmp_path / "scontrol").write_text('#!/bin/sh\necho "scontrol $*"\n')
    # hostname runs before Python does.
    (tmp_path / "hostname").write_text("#!/bin/sh\n" + ("kill -USR1 $PPID\n" if moment == "before the start" else ""))
    (tmp_path / "python").write_text("#!/bin/sh\nkill -USR1 $PPID\nexec sleep 60\n")
    for name in ("scontrol", "hostname", "python"):
        (tmp_path / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHON": str(tmp_path / "python"),
        "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "2",
        "SLURM_ARRAY_TASK_COUNT": "2",
    }
    script = ["bash", "scripts/slurm_array.sbatch"]
    made = subprocess.run(script, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert made.returncode == 143, made
    assert "scontrol requeue 7_2" in made.stdout


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "not a task of a job array"),
        ({"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "3"}, "task 0 of 3 shards"),
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "2"}, "expected --array=1-N, or SHARDS=N"),
    ],
)
def test_what_is_no_array_from_1_is_refused(variables, message):
    environment = {**os.environ, **variables, "SLURM_ARRAY_JOB_ID": "1"}
    made = subprocess.run(
        ["bash", "scripts/slurm_array.sbatch"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert made.returncode == 2
    assert message in made.stderr
