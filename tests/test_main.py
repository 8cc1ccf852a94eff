import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = """
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict({"job": "no_such_job", "batch_size": 64})
"""


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ecgjax.main", *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.py"
    path.write_text(CONFIG)
    return f"--config={path}"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "--config is missing"),
        (["{config}", "stray"], "unexpected argument 'stray'"),
        (["{config}", "--workdri=x"], "workdri"),
        (["{config}"], "config.job is 'no_such_job'; expected one of pretrain"),
        (["{config}", "--config.batchsize=3"], "no such config field: 'batchsize' Did you mean \"batch_size\""),
        (["{config}", "--config.batch_size=many"], "batch_size"),
        (["--config=configs/cpc_pretrain.py:big"], "cpc_pretrain.py:big: no such variant; expected reduced or paper"),
        (["--config=nowhere.py"], "nowhere.py: no such file"),
        (["--config=nowhere.py", "--config.seed=1"], "nowhere.py: no such file"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_two(arguments: list[str], expected: str, config: str) -> None:
    result = command(*(argument.format(config=config) for argument in arguments))
    assert result.returncode == 2
    assert expected in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_debug_shows_the_traceback(config: str) -> None:
    result = command(config, "--debug")
    assert result.returncode != 0
    assert "Traceback" in result.stderr
    assert "UserError" in result.stderr
