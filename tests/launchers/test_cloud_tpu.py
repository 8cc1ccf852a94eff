"""scripts/cloud_tpu.sh with a gcloud that records and plays states: no cloud can be reached from here."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = """\
#!/usr/bin/env bash
# A host's Python: makes .venv of itself, and records what else it is asked for.
case "$1 $2" in
  "-c "*) exit 0 ;;
  "--version "*) echo "Python 3.11" ;;
  "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  *)
    printf '%s|' "$@" >> "$FAKE/python" && echo >> "$FAKE/python"
    [ "$2" != "$(cat "$FAKE/failing" 2>/dev/null)" ] || exit 3
    ;;
esac
"""


class Cloud:
    def __init__(self, folder):
        self.folder = folder / "fake"
        self.bin, self.repository = folder / "bin", folder / "repository"
        shutil.copytree(ROOT / "scripts", self.repository / "scripts")
        for name in ("pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.repository)
        identity = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
        for command in (("init", "--quiet"), ("add", "."), (*identity, "commit", "--quiet", "--message=all")):
            subprocess.run(["git", *command], cwd=self.repository, check=True)
        (self.folder / "home").mkdir(parents=True)
        self.bin.mkdir()
        shutil.copy(Path(__file__).parent / "fake_gcloud.sh", self.bin / "gcloud")
        (self.bin / "python3").write_text(PYTHON)
        for path in self.bin.iterdir():
            path.chmod(0o755)
        self.say("states", "-")
        self.say("states-created", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")

    def say(self, name, *lines):
        (self.folder / name).write_text("".join(f"{line}\n" for line in lines))

    def run(self, *arguments, **variables):
        environment = {"FAKE": str(self.folder), "ZONE": "z", "TPU": "ecg", "POLL": "0.01", **variables}
        environment["PATH"] = f"{self.bin}:{os.environ['PATH']}"
        command = [self.repository / "scripts/cloud_tpu.sh", *arguments]
        return subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
        )

    def calls(self):
        """Words of each call behind `gcloud compute tpus`, but descriptions."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [line.split()[2:] for line in lines if "describe" not in line]

    def names(self):
        return [words[1] for words in self.calls()]


@pytest.fixture
def cloud(tmp_path):
    return Cloud(tmp_path)


def test_create_asks_once_and_waits(cloud):
    made = cloud.run("create", SPOT="1", PROJECT="p", ACCELERATOR="v6e-8", RUNTIME="v2-alpha-tpuv6e")
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines() == ["ecg: WAITING_FOR_RESOURCES", "ecg: PROVISIONING", "ecg: ACTIVE"]
    (words,) = cloud.calls()
    assert words == [
        *("queued-resources", "create", "ecg", "--zone=z", "--project=p", "--node-id=ecg"),
        *("--accelerator-type=v6e-8", "--runtime-version=v2-alpha-tpuv6e", "--spot"),
    ]
    assert cloud.run("create").stdout == "ecg: ACTIVE\n"
    assert len(cloud.calls()) == 1


def test_on_demand_is_without_spot(cloud):
    cloud.run("create")
    assert "--spot" not in cloud.calls()[0]


def test_a_refused_request_is_said_and_an_old_one_replaced(cloud):
    cloud.say("states", "FAILED")
    cloud.say("states-created", "WAITING_FOR_RESOURCES", "FAILED")
    made = cloud.run("create")
    assert made.returncode == 1
    assert "error: the request for ecg is FAILED" in made.stderr
    assert cloud.names() == ["delete", "create"]


def test_all_sets_up_runs_copies_back_and_deletes(cloud):
    results = cloud.folder / "home/ecgjax/runs/a b"
    results.mkdir(parents=True)
    (results / "results.json").write_text("{}")
    arguments = ["--config=configs/sweep_smoke.py", "--workdir=runs/a b", "--config.note=it's $HOME"]
    made = cloud.run("all", *arguments)
    assert made.returncode == 0, made.stderr
    assert cloud.names() == ["create", "scp", "ssh", "ssh", "scp", "delete"]
    assert cloud.calls()[1][-2:] == ["--zone=z", "--worker=all"]
    assert (cloud.folder / "home/ecgjax/pyproject.toml").exists()  # the last commit
    *_, install, run = (line.split("|") for line in (cloud.folder / "python").read_text().splitlines())
    assert install[:3] == ["-m", "pip", "install"]
    assert ".[tpu]" in install
    assert run[:-1] == ["-m", "ecgjax.main", *arguments]
    assert (cloud.repository / "runs/a b/results.json").exists()
    # Set up and copied once more: installed already, and the copy is renewed, not nested.
    cloud.say("states", "ACTIVE")
    (results / "results.json").write_text("{1: 2}")
    assert cloud.run("all", *arguments).returncode == 0
    assert (cloud.repository / "runs/a b/results.json").read_text() == "{1: 2}"
    assert (cloud.folder / "python").read_text().count("|pip|") == 1


@pytest.mark.parametrize(
    ("failing", "code", "names"),
    [("ecgjax.main", 3, ["create", "scp", "ssh", "ssh", "delete"]), ("pip", 1, ["create", "scp", "ssh", "delete"])],
)
def test_all_gives_the_code_of_a_failed_run_and_deletes(cloud, failing, code, names):
    cloud.say("failing", failing)
    made = cloud.run("all", "--config=x.py", "--workdir=gs://bucket/x")
    assert made.returncode == code
    assert cloud.names() == names


def test_a_kept_tpu_is_not_deleted(cloud):
    assert cloud.run("all", "--config=x.py", "--workdir=gs://bucket/x", KEEP="1").returncode == 0
    assert "delete" not in cloud.names()


def test_a_preempted_tpu_is_asked_for_again_if_results_are_in_a_bucket(cloud):
    cloud.say("states-run", "SUSPENDED", "ACTIVE")
    made = cloud.run("all", "--config=x.py", "--workdir=gs://bucket/x", SPOT="1")
    assert made.returncode == 0, made.stderr
    assert cloud.names() == ["create", "scp", "ssh", "ssh", "delete", "create", "scp", "ssh", "ssh", "delete"]
    assert "results are in gs://bucket/x" in made.stdout


def test_a_preempted_tpu_without_a_bucket_is_an_error(cloud):
    cloud.say("states-run", "SUSPENDED")
    made = cloud.run("all", "--config=x.py", "--workdir=runs/x", SPOT="1")
    assert made.returncode == 1
    assert "what ran is lost with it; expected --workdir=gs://BUCKET/..." in made.stderr
    assert cloud.names()[-1] == "delete"


def test_delete_of_none_is_fine_and_a_failing_one_is_loud(cloud):
    cloud.say("delete-error", "ERROR: (gcloud) NOT_FOUND: no such queued resource")
    made = cloud.run("delete")
    assert (made.returncode, made.stdout) == (0, "ecg: not there\n")
    cloud.say("delete-error", "ERROR: (gcloud) PERMISSION_DENIED")
    made = cloud.run("delete")
    assert made.returncode == 1
    assert "ecg may still be there, and cost" in made.stderr


def test_without_command_or_zone_it_says_what_it_takes(cloud):
    made = cloud.run()
    assert made.returncode == 2
    assert "queued resources" in made.stdout
    made = cloud.run("create", ZONE="")
    assert made.returncode == 2
    assert "ZONE is not set" in made.stderr
    assert not (cloud.folder / "calls").exists()
