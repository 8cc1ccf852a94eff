"""The job: its table, compile_check.json, going on where it was, and refusals. Programs are compiled for this CPU."""

import json
from pathlib import Path
from typing import Any

import jax
import pytest

import ecgjax
from configs import compile_check as settings
from ecgjax import chips
from ecgjax.compilation import measure, targets
from ecgjax.compilation.measure import Compiled
from ecgjax.compilation.targets import Target
from ecgjax.errors import UserError
from ecgjax.jobs import compile_check
from ecgjax.reporting import compile_table

V5E = chips.find("TPU v5e")
assert V5E


def config(**changes: Any) -> Any:
    """Of one program that compiles in less than a second."""
    found = settings.get_config()
    found.models, found.pretraining, found.topology = (), False, "v5e:2x2"
    found.update(changes)
    return found


@pytest.fixture
def slice_of_cpus(monkeypatch: pytest.MonkeyPatch) -> Target:
    target = Target("v5e:2x2", "cpu", jax.local_devices(), V5E, False)
    monkeypatch.setattr(targets, "open_target", lambda name: target)
    return target


def content(workdir: Path) -> dict[str, Any]:
    return json.loads((workdir / compile_check.FILE).read_text())


def test_a_program_of_this_machine_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compile_check.run(config(topology="local"), tmp_path / "new")
    found = content(tmp_path / "new")
    assert found["topology"] == "local"
    assert found["versions"]["jax"] == jax.__version__
    (row,) = found["programs"]
    assert row["name"] == "bootstrap block"
    assert row["fits"]
    assert row["error"] is None
    assert row["measured"] > 0
    assert row["processor_seconds"] > 0
    assert row["memory"] == row["arguments"] + row["temporaries"] + row["outputs"]
    # Resampling weights of 2,201 records, 128 replicates, a byte each, and no more than a few arrays of the scores.
    assert 2201 * 128 < row["arguments"] < 2201 * 128 + 100_000
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("local: 1 of this processor")
    assert lines[3].split()[:2] == ["program", "GFLOP"]
    assert lines[4].startswith("bootstrap block ")
    assert lines[-1] == str(tmp_path / "new" / compile_check.FILE)


def test_goes_on_where_it_was(
    tmp_path: Path, slice_of_cpus: Target, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compiled = []
    original = measure.compile_for

    def counted(lowered: measure.Lowered, *arguments: Any, **options: Any) -> Compiled:
        compiled.append(lowered.program.name)
        return original(lowered, *arguments, **options)

    monkeypatch.setattr(measure, "compile_for", counted)
    compile_check.run(config(), tmp_path)
    first, table = content(tmp_path), capsys.readouterr().out
    compile_check.run(config(), tmp_path)
    assert content(tmp_path) == first
    assert capsys.readouterr().out == table
    assert len(compiled) == 1
    # Another program of that name, as after a change of the code.
    changed = {**first, "programs": [{**first["programs"][0], "program": "other", "flops": 1.0}]}
    (tmp_path / compile_check.FILE).write_text(json.dumps(changed))
    compile_check.run(config(), tmp_path)
    assert len(compiled) == 2
    assert content(tmp_path)["programs"][0]["flops"] == first["programs"][0]["flops"]
    # Other settings, and a file that is none.
    compile_check.run(config(effort=0.0), tmp_path)
    (tmp_path / compile_check.FILE).write_text("{")
    compile_check.run(config(), tmp_path)
    assert len(compiled) == 4


def test_rows_are_kept_program_by_program(
    tmp_path: Path, slice_of_cpus: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap = compile_check.wanted(config(), compile_check.programs.place(slice_of_cpus.devices, 64))
    (block,) = bootstrap
    monkeypatch.setattr(
        compile_check, "wanted", lambda config, where: iter([block, block._replace(name="broken", function=None)])
    )
    with pytest.raises(TypeError):
        compile_check.run(config(), tmp_path)
    assert [row["name"] for row in content(tmp_path)["programs"]] == ["bootstrap block"]


def test_what_does_not_fit_is_the_exit_status(
    tmp_path: Path, slice_of_cpus: Target, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = slice_of_cpus._replace(chip=V5E.__class__(**{**vars(V5E), "memory": 1000.0}))
    monkeypatch.setattr(targets, "open_target", lambda name: small)
    with pytest.raises(SystemExit) as stopped:
        compile_check.run(config(), tmp_path)
    assert stopped.value.code == 1
    found = capsys.readouterr()
    assert found.err == "does not fit: bootstrap block\n"
    assert found.out.splitlines()[4].endswith("DOES NOT FIT")
    assert content(tmp_path)["programs"][0]["fits"] is False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ("s4", "s5")}, "config.models has 's5'; expected of ecg_cpc, "),
        ({"steps": ("train",)}, "config.steps has 'train'; expected of features, linear, fused, finetune"),
        ({"dtype": "float16"}, "config.dtype has 'float16'; expected of float32, bfloat16"),
        ({"batch_size": 0}, "config.batch_size is 0; expected 1 or more"),
        ({"effort": -2.0}, "config.effort is -2.0; expected a number from -1 to 1"),
        ({"topology": "h100"}, "config.topology is 'h100'; expected a TPU slice such as v5e:2x2"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        compile_check.run(config(**changes), tmp_path / "new")
    assert str(refused.value).startswith(message)
    assert not (tmp_path / "new").exists()


def test_no_directory() -> None:
    with pytest.raises(UserError, match="--workdir is missing"):
        compile_check.run(config(), None)


def row(**changes: Any) -> dict[str, Any]:
    found = Compiled("s4 finetune", 64, 71.1e9, 1577e6, 12_400_000, 3_490_000_000, 5, {"all-reduce": 2}, 177.0, 103.04)
    return compile_check.as_json(found._replace(fits=True, bound=0.00217, limit="compute", **changes), "abc")


def test_lines_of_the_table() -> None:
    text = compile_table.line(row())
    words = ["s4", "finetune", "71", "1,577", "12", "3,490", "2.17", "ms", "compute", "103.0", "2", "all-reduce"]
    assert text.split() == words
    assert compile_table.line(row(measured=0.0123)).split() == [*words[:-2], "12.3", "ms", *words[-2:]]
    assert compile_table.line({**row(), "largest_batch": 1024}).endswith("largest batch on one chip 1,024")
    assert compile_table.line({**row(), "fits": False}).endswith("2 all-reduce  DOES NOT FIT")
    unknown = compile_table.line(row(flops=None, bytes=None))
    assert unknown.split()[2:4] == ["-", "-"]
    failed = row(error="out of memory: 20G exceeds available HBM (15.75G)")
    assert compile_table.line(failed).split(maxsplit=2)[2] == "out of memory: 20G exceeds available HBM (15.75G)"


def test_tables_of_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    about = compile_check._about(config(), Target("v5e:2x2", "tpu", [], V5E, False), 4)
    failed = row(error="out of memory: 20G exceeds available HBM (15.75G)")
    rows = [row(), {**row(), "largest_batch": 1024}, {**failed, "name": "s4 fused"}]
    path = tmp_path / compile_check.FILE
    path.write_text(json.dumps({**about, "programs": rows}))
    monkeypatch.setattr("sys.argv", ["compile_table", str(path)])
    compile_table.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        f"**v5e:2x2**: 4 of TPU v5e, batch of 64 over all of them, float32, effort -1; ecgjax {ecgjax.__version__}"
    )
    table = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert table[2] == ("| s4 finetune | 71 | 1,577 | 3,502 | 20% | 2.17 ms | compute | 103 | 2 all-reduce | |")
    assert table[3].endswith("| 1,024 |")
    assert table[4].startswith("| s4 fused | out of memory: 20G exceeds available HBM (15.75G) |")


def test_table_of_largest_batches() -> None:
    about = compile_check._about(config(effort=0.0), Target("v5e:2x2", "tpu", [], V5E, False), 4)
    one = {**about, "programs": [{**row(), "largest_batch": 1024}, {**row(), "name": "bootstrap block"}]}
    other = {**about, "remat": True, "programs": [{**row(), "name": "s4 features", "largest_batch": 8}]}
    lines = compile_table.largest([one, {**about, "programs": [row()]}, other]).splitlines()
    assert lines == [
        "| largest batch on one chip | TPU v5e, float32 | TPU v5e, float32, blocks computed again |",
        "|---|---:|---:|",
        "| s4 finetune | 1,024 | - |",
        "| s4 features | - | 8 |",
    ]


@pytest.mark.parametrize(("seconds", "text"), [(12.34, "12.3 s"), (0.00217, "2.17 ms"), (3e-6, "3 us")])
def test_durations(seconds: float, text: str) -> None:
    assert compile_table.duration(seconds) == text
