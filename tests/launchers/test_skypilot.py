"""scripts/skypilot.yaml: its commands run here; SkyPilot reads it where it is installed (pip install skypilot)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "scripts/skypilot.yaml"


@pytest.fixture
def task():
    return yaml.safe_load(FILE.read_text())


@pytest.mark.parametrize(
    ("shard", "expected"), [({"SHARD": "2/3"}, "2/3"), ({"SKYPILOT_NODE_RANK": "2", "SKYPILOT_NUM_NODES": "3"}, "3/3")]
)
def test_its_command_runs_a_shard(task, tmp_path, shard, expected):
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").write_text(f'#!/bin/sh\ncd {ROOT} && exec {sys.executable} "$@"\n')
    (tmp_path / ".venv/bin/python").chmod(0o755)
    given = {"WORKDIR": str(tmp_path / "sweep"), "ARGS": "--config.dry_run=True --config.common.epochs=1", **shard}
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), **task["envs"], **given}
    made = subprocess.run(
        ["bash", "-c", task["run"]], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert made.returncode == 0, made.stderr
    assert f"in shard {expected}" in made.stdout


def test_its_set_up_is_that_of_any_machine(task):
    assert task["setup"].split()[:2] == ["bash", "scripts/machine.sh"]
    assert (ROOT / "scripts/machine.sh").exists()
    assert [key for key, value in task["envs"].items() if value is None] == ["WORKDIR"]  # what must be given


def test_skypilot_reads_it(task, monkeypatch):
    sky = pytest.importorskip("sky", reason="SkyPilot is not installed")
    from sky.utils import accelerator_registry

    # It would look the name up in a catalogue on the network.
    monkeypatch.setattr(accelerator_registry, "canonicalize_accelerator_name", lambda name, *_, **__: name)
    made = sky.Task.from_yaml_config(task, env_overrides=[("WORKDIR", "gs://bucket/sweep")])
    (resources,) = made.resources
    assert resources.use_spot
    assert made.envs["WORKDIR"] == "gs://bucket/sweep"
    with pytest.raises(ValueError, match="WORKDIR"):
        sky.Task.from_yaml_config(yaml.safe_load(FILE.read_text()))
