"""A run directory belongs to one config and one data content."""

import json

import pytest
from ml_collections import ConfigDict

from ecgjax.errors import UserError
from ecgjax.training.run_directory import RunDirectory


def make_config(**changes):
    config = {
        "job": "pretrain",
        "seed": 0,
        "log_every": 10,
        "model": {"width": 8, "layers": (1, 2)},
        "figures": True,
    }
    return ConfigDict({**config, **changes})


def test_files_and_done(tmp_path):
    workdir = tmp_path / "a" / "b"
    directory = RunDirectory.open(workdir, make_config())
    assert json.loads((workdir / "config.json").read_text())["model"] == {"width": 8, "layers": [1, 2]}
    directory.write_environment(seed=7, data={"store": "abc"})
    environment = json.loads((workdir / "environment.json").read_text())
    assert environment["seed"] == 7
    assert environment["data"] == {"store": "abc"}
    assert {"jax", "flax", "orbax-checkpoint", "ecgjax", "python"} <= set(environment["versions"])
    assert environment["backend"] == "cpu"
    directory.write_json("results.json", {"loss": float("nan")})
    assert json.loads((workdir / "results.json").read_text()) == {"loss": None}
    assert not directory.done
    directory.finish()
    assert RunDirectory.open(workdir, make_config()).done


def test_another_config_names_the_fields(tmp_path):
    RunDirectory.open(tmp_path, make_config())
    with pytest.raises(UserError) as error:
        RunDirectory.open(tmp_path, make_config(seed=1, model={"width": 8, "layers": (1, 3), "new": 1}))
    message = str(error.value)
    assert "config.seed was 0 and is 1" in message
    assert "config.model.layers was [1, 2] and is [1, 3]" in message
    assert "config.model.new was absent and is 1" in message
    assert "width" not in message
    assert "\n" not in message


def test_what_does_not_change_the_result_may_differ(tmp_path):
    RunDirectory.open(tmp_path, make_config())
    RunDirectory.open(tmp_path, make_config(log_every=3, figures=False))


def test_other_data_is_refused(tmp_path):
    directory = RunDirectory.open(tmp_path, make_config())
    directory.write_environment(seed=0, data={"one": "abc", "two": "def"})
    directory.write_environment(seed=0, data={"one": "abc", "two": "def"})
    with pytest.raises(UserError, match="other data \\(two has changed"):
        directory.write_environment(seed=0, data={"one": "abc", "two": "xyz"})


@pytest.mark.parametrize(
    ("make", "match"), [(None, "--workdir is missing"), ("file", "is a file"), ("below", "file is a file")]
)
def test_unusable_workdir(tmp_path, make, match):
    (tmp_path / "file").write_text("")
    workdir = {None: None, "file": tmp_path / "file", "below": tmp_path / "file" / "run"}[make]
    with pytest.raises(UserError, match=match):
        RunDirectory.open(workdir, make_config())


def test_damaged_config(tmp_path):
    (tmp_path / "config.json").write_text('{"job": ')
    with pytest.raises(UserError, match=r"config\.json: not readable as JSON"):
        RunDirectory.open(tmp_path, make_config())


def test_a_refused_start_leaves_the_directory_to_a_corrected_one(tmp_path):
    for workdir in (tmp_path / "new", tmp_path):
        directory = RunDirectory.open(workdir, {"seed": 1})
        with pytest.raises(UserError, match="no such store"), directory.setting_up():
            raise UserError("no such store")
        assert not (workdir / "config.json").exists()
        RunDirectory.open(workdir, {"seed": 2})
    again = RunDirectory.open(tmp_path, {"seed": 2})
    with pytest.raises(UserError), again.setting_up():
        raise UserError("a store that has gone since")
    assert (tmp_path / "config.json").exists()
