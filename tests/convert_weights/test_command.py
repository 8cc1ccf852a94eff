"""`python -m convert_weights`, from torch files of the released layout to features and back."""

import json
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import ecgjax
from convert_weights import conversion, known_files
from convert_weights.__main__ import main
from ecgjax.models import safetensors_file
from ecgjax.models import weights as weights_io
from tests import kit
from tests.conftest import GOLDEN, load_golden
from tests.convert_weights.torch_writer import Call, Object, View, write_legacy, write_zip

FILES = GOLDEN / "torch_files"


@pytest.fixture(scope="session")
def released() -> tuple[OrderedDict[str, Any], dict[str, Any], dict[str, np.ndarray]]:
    """The golden ECG-CPC weights under the names of the released file, its broadcast buffers with stride 0."""
    manifest, arrays = load_golden("ecg_cpc")
    state = OrderedDict(kit.tensors(manifest, arrays))
    for name, value in state.items():
        if name.endswith(("kernel.w", "kernel.P", "kernel.B")) and (value == value[..., :1, :, :]).all():
            row = np.ascontiguousarray(value[..., 0, :, :].reshape(-1, 2))
            strides = (0, 2, 1) if value.ndim == 3 else (0, 0, 2, 1)
            state[name] = View(row.reshape(-1), value.shape, strides)
    assert sum(isinstance(value, View) for value in state.values()) == 12
    state["ts_encoder.head_ssl.proj.0.weight"] = np.eye(512, dtype=np.float32)
    return state, manifest, arrays


def lightning(state: OrderedDict[str, Any]) -> dict[str, Any]:
    return {
        "epoch": 7,
        "state_dict": state,
        "hyper_parameters": Object("omegaconf.dictconfig", "DictConfig", {"_content": {}}),
        "callbacks": {"ModelCheckpoint": {"dirpath": Call("pathlib", "PosixPath", ("/", "runs"))}},
    }


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory, released: Any) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("converted")
    write_zip(folder / "last.ckpt", lightning(released[0]))
    assert main(["ecg_cpc", str(folder / "last.ckpt"), f"--out={folder / 'weights'}"]) == 0
    return folder / "last.ckpt", folder / "weights"


def test_converted_weights_give_the_golden_features(converted: tuple[Path, Path], released: Any) -> None:
    _, manifest, arrays = released
    model = ecgjax.load_model("ecg_cpc", converted[1])
    x = kit.make_input(tuple(manifest["input"]["shape"]), manifest["seed"]).transpose(0, 2, 1)
    pooled = np.asarray(model.features(x).pooled)
    wanted = arrays["pooled_features"]
    assert np.linalg.norm(pooled - wanted) <= 2e-5 * np.linalg.norm(wanted)


def test_the_card_says_where_the_weights_come_from(converted: tuple[Path, Path]) -> None:
    source, weights = converted
    card = json.loads((weights / "card.json").read_text())
    assert card["model"] == "ecg_cpc"
    assert card["source"]["sha256"] == conversion._sha256(source)
    assert (card["source"]["file"], card["source"]["group"], card["source"]["tensors"]) == (
        "last.ckpt",
        "state_dict",
        77,
    )
    assert card["licence"] == ecgjax.load_model("ecg_cpc").spec.licence
    assert card["ecgjax"] == ecgjax.__version__
    assert len(card["self_check"]["pooled"]) == 8
    assert card["source"]["known_as"] is None


def test_export_gives_the_authors_names_and_values(converted: tuple[Path, Path], released: Any, tmp_path: Path) -> None:
    out = tmp_path / "back" / "x.safetensors"
    assert main(["ecg_cpc", str(converted[1]), "--to=torch", f"--out={out}"]) == 0
    found = load_file(out)
    manifest, arrays = released[1:]
    wanted = {**kit.tensors(manifest, arrays), "ts_encoder.head_ssl.proj.0.weight": np.eye(512, dtype=np.float32)}
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if name.endswith((".omega", ".z", "num_batches_tracked")):
            assert found[name].shape == value.shape  # made anew: they follow from other tensors
        elif name.endswith(".Q"):
            np.testing.assert_allclose(found[name], value, atol=1e-6)
        else:
            assert found[name].tobytes() == value.tobytes(), name


def test_an_export_converts_to_the_same_weights(converted: tuple[Path, Path], tmp_path: Path) -> None:
    assert main(["ecg_cpc", str(converted[1]), "--to=torch", f"--out={tmp_path / 'x.safetensors'}"]) == 0
    assert main(["ecg_cpc", str(tmp_path / "x.safetensors"), f"--out={tmp_path / 'again'}"]) == 0
    assert weights_io.load_card(tmp_path / "again")["sha256"] == weights_io.load_card(converted[1])["sha256"]


@pytest.mark.parametrize(
    ("wrap", "write", "group", "prefix"),
    [
        (lambda state: state, write_zip, "", ""),
        (
            lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
            write_legacy,
            "model",
            "module.",
        ),
        (
            lambda state: {"state_dict": {f"model.{name}": value for name, value in state.items()}},
            write_zip,
            "state_dict",
            "model.",
        ),
    ],
)
def test_wrapped_files_give_the_same_weights(
    converted: tuple[Path, Path], released: Any, tmp_path: Path, wrap: Any, write: Any, group: str, prefix: str
) -> None:
    write(tmp_path / "file.pt", wrap(released[0]))
    card = conversion.convert("ecg_cpc", tmp_path / "file.pt", tmp_path / "weights")
    assert (card["source"]["group"], card["source"]["prefix"]) == (group, prefix)
    assert card["sha256"] == weights_io.load_card(converted[1])["sha256"]


def test_verify(converted: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, weights = converted
    assert main(["ecg_cpc", str(weights), "--verify"]) == 0
    assert "features of the fixed input are those on the card" in capsys.readouterr().out
    changed = tmp_path / "changed"
    changed.mkdir()
    (changed / "weights.safetensors").write_bytes((weights / "weights.safetensors").read_bytes())
    card = json.loads((weights / "card.json").read_text())
    card["self_check"]["pooled"][0] += 0.1
    (changed / "card.json").write_text(json.dumps(card))
    assert main(["ecg_cpc", str(changed), "--verify"]) == 2
    assert "features of the fixed input differ by" in capsys.readouterr().err
    del card["self_check"]
    (changed / "card.json").write_text(json.dumps(card))
    assert main(["ecg_cpc", str(changed), "--verify"]) == 2
    assert "the card has no self-check" in capsys.readouterr().err


def test_known_files_are_named(
    converted: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, _ = converted
    known = known_files.KnownFile("ecg_cpc", "the released file")
    monkeypatch.setitem(known_files.KNOWN, conversion._sha256(source), known)
    assert main(["ecg_cpc", str(source), f"--out={tmp_path / 'weights'}"]) == 0
    assert "the released file" in capsys.readouterr().out
    assert weights_io.load_card(tmp_path / "weights")["source"]["known_as"] == "the released file"
    assert main(["s4", str(source), f"--out={tmp_path / 's4'}"]) == 2
    assert "is the released file; expected a checkpoint of s4" in capsys.readouterr().err


def test_inspect_lists_wrappers_and_tensors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--inspect", str(FILES / "lightning_omegaconf.ckpt")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("lightning_omegaconf.ckpt: torch zip, 6,752 bytes")
    assert "  state_dict: dict of 13" in lines
    assert "  hyper_parameters: omegaconf.dictconfig.DictConfig (an object, kept closed)" in lines
    assert any(line.split() == ["ts_encoder.bf16", "bfloat16", "[3,", "2]"] for line in lines)


def test_inspect_shows_no_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_zip(tmp_path / "file.pt", {"a\x1b[31m\nb": np.ones(1, np.float32), "sub\x07": {"x": 1}})
    assert main(["--inspect", str(tmp_path / "file.pt")]) == 0
    assert set(capsys.readouterr().out) & set("\x1b\x07\r") == set()


def test_inspect_needs_no_jax_and_loads_nothing() -> None:
    code = (
        "import sys; from convert_weights.__main__ import main; "
        f"main(['--inspect', {str(FILES / 'zip_basic.pth')!r}]); "
        "sys.exit('jax' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected MODEL FILE --out=DIR"),
        (["ecg_cpc"], "expected MODEL FILE --out=DIR"),
        (["ecg_cpc", "file", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["ecg_cpc", "file"], "--out is missing"),
        (["ecg_cpd", "file", "--out=x"], "did you mean 'ecg_cpc'?); expected one of"),
        (["ecg_cpc", "nowhere", "--out=x"], "nowhere: cannot be opened"),
        (["ecg_cpc", str(FILES / "zip_basic.pth"), "--out=x"], "holds none of the model's tensors"),
        (["ecg_cpc", str(FILES / "expected.npz"), "--out=x"], "0 entries named data.pkl"),
        (["ecg_cpc", "file", "--out=x", "--verify"], "--verify takes MODEL DIR and nothing else"),
        (["ecg_cpc", "nowhere", "--verify"], "no card.json"),
        (["ecg_cpc", "nowhere", "--to=torch", "--out=x"], "expected a file *.safetensors"),
        (["ecg_cpc", "nowhere", "--to=torch", "--out=x.safetensors"], "no card.json"),
        (["ecg_cpc", "nowhere", "--to=onnx", "--out=x"], "invalid choice: 'onnx'"),
        (["ecg_cpc", "--inspect", "file"], "--inspect takes a file and nothing else"),
        (["--inspect", "nowhere"], "nowhere: cannot be opened"),
    ],
)
def test_mistakes_give_one_line_and_leave_nothing(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("ecgjax: ")
    assert error.count("\n") == 1
    assert message in error
    assert list(tmp_path.iterdir()) == []


def test_a_missing_tensor_is_named_and_leaves_nothing(
    released: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = OrderedDict(released[0])
    state["ts_encoder.encoder.layers.0.0.wieght"] = state.pop("ts_encoder.encoder.layers.0.0.weight")
    write_zip(tmp_path / "file.pt", state)
    assert main(["ecg_cpc", str(tmp_path / "file.pt"), f"--out={tmp_path / 'weights'}"]) == 2
    error = capsys.readouterr().err
    assert (
        "'ts_encoder.encoder.layers.0.0.weight' is missing (closest: 'ts_encoder.encoder.layers.0.0.wieght')" in error
    )
    assert [path.name for path in tmp_path.iterdir()] == ["file.pt"]


def test_a_failing_self_check_leaves_the_old_weights(
    converted: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = converted
    conversion.convert("ecg_cpc", source, tmp_path / "weights")
    before = {path.name: path.read_bytes() for path in (tmp_path / "weights").iterdir()}

    def fails(model: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("convert_weights.self_check.compute", fails)
    with pytest.raises(KeyboardInterrupt):
        conversion.convert("ecg_cpc", source, tmp_path / "weights")
    assert {path.name: path.read_bytes() for path in (tmp_path / "weights").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_weights_of_another_model_are_not_overwritten(
    converted: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    source, _ = converted
    (tmp_path / "card.json").write_text(json.dumps({"model": "s4", "arguments": {}, "sha256": ""}))
    assert main(["ecg_cpc", str(source), f"--out={tmp_path}"]) == 2
    assert "holds weights of 's4'" in capsys.readouterr().err


def test_written_safetensors_are_what_the_formats_own_library_reads(tmp_path: Path) -> None:
    tensors = {
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "repeated": np.broadcast_to(np.float64(2), (3, 2)),
        "scalar": np.array(3, np.int64),
        "empty": np.zeros((0, 4), np.float16),
        "flag": np.array([True, False, True]),
    }
    safetensors_file.write(tmp_path / "x.safetensors", tensors, {"format": "pt"})
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(found[name], value)
