"""Files that torch itself wrote, and files of every layout that the test's writer makes."""

import hashlib
import re
import subprocess
import sys
import zipfile
from collections import OrderedDict
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from convert_weights.groups import select
from convert_weights.pickle_values import Placeholder
from convert_weights.reader import Checkpoint, read_checkpoint
from convert_weights.tensors import Tensor
from ecgjax.errors import UserError
from tests.conftest import GOLDEN
from tests.convert_weights import torch_writer
from tests.convert_weights.torch_writer import Object, Parameter, Pickler, View, write_legacy, write_zip

FILES = GOLDEN / "torch_files"
# file -> (kind, group, prefix, names of its expected values)
GENUINE = {
    "zip_basic.pth": ("torch zip", "state_dict", "", "base"),
    "legacy_basic.pth": ("torch legacy", "state_dict", "", "base"),
    "zip_strided.pth": ("torch zip", "", "", "strided"),
    "legacy_strided.pth": ("torch legacy", "", "", "strided"),
    "lightning_omegaconf.ckpt": ("torch zip", "state_dict", "ts_encoder.", "base"),
    "fairseq_namespace.pt": ("torch zip", "model", "", "base"),
    "whole_module.pt": ("torch zip", "", "", "whole_module"),
    "basic.safetensors": ("safetensors", "", "", "base"),
}


def expected(section: str) -> dict[str, np.ndarray]:
    with np.load(FILES / "expected.npz") as stored:
        return {key.split("/", 1)[1]: stored[key] for key in stored.files if key.startswith(section + "/")}


def values(checkpoint: Checkpoint, group: str) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in checkpoint.groups[group].items()}


def assert_same(found: np.ndarray, wanted: np.ndarray) -> None:
    if found.dtype.name == "bfloat16" and wanted.dtype == np.float32:
        found = found.astype(np.float32)
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("file", GENUINE)
def test_genuine_files_give_their_values(file: str) -> None:
    kind, group, prefix, section = GENUINE[file]
    checkpoint = read_checkpoint(FILES / file)
    assert checkpoint.kind == kind
    wanted = expected(section)
    if kind == "safetensors":
        del wanted["complex"]
    found = values(checkpoint, group)
    assert found.keys() == {prefix + name for name in wanted}
    for name, value in wanted.items():
        assert_same(found[prefix + name], value)
        assert not found[prefix + name].flags.writeable


def test_objects_of_unknown_classes_are_inert_data() -> None:
    contents = read_checkpoint(FILES / "lightning_omegaconf.ckpt").contents
    parameters = contents["hyper_parameters"]
    assert isinstance(parameters, Placeholder)
    assert str(parameters.name) == "omegaconf.dictconfig.DictConfig"
    assert contents["epoch"] == 1
    assert "omegaconf" not in sys.modules


def test_tied_and_strided_tensors_stay_views_of_one_storage() -> None:
    tensors = read_checkpoint(FILES / "zip_strided.pth").groups[""]
    assert tensors["tied.a"].storage is tensors["tied.b"].storage is tensors["view.rows"].storage
    assert tensors["expanded"].strides[0] == 0


def test_the_writer_writes_what_torch_wrote() -> None:
    base = expected("base")
    state = OrderedDict((name, torch_writer.bfloat16(v) if name == "bf16" else v) for name, v in base.items())
    moment = np.array(read_checkpoint(FILES / "zip_basic.pth").groups["optimizer.state.0"]["exp_avg"].numpy())
    optimiser = {"state": {0: {"exp_avg": moment}}, "param_groups": [{"lr": 0.001, "params": [0]}]}
    assert genuine_program("zip_basic") == Pickler().dump({"state_dict": state, "epoch": 3, "optimizer": optimiser})
    assert genuine_program("zip_strided") == Pickler().dump(strided())


def test_the_writer_writes_legacy_files_that_torch_wrote(tmp_path: Path) -> None:
    write_legacy(tmp_path / "mine.pth", strided())
    genuine, mine = (FILES / "legacy_strided.pth").read_bytes(), (tmp_path / "mine.pth").read_bytes()
    # torch names storages by their address in memory.
    keys = [re.findall(rb"X\x0e\x00\x00\x00(9\d{13})", written)[-3:] for written in (genuine, mine)]
    for theirs, ours in zip(*keys, strict=True):
        mine = mine.replace(ours, theirs)
    assert mine == genuine


def genuine_program(name: str) -> bytes:
    with zipfile.ZipFile(FILES / f"{name}.pth") as archive:
        return archive.read(f"{name}/data.pkl")


def strided() -> OrderedDict[str, Any]:
    wanted = expected("strided")
    base, row = np.array(wanted["tied.a"]), np.array(wanted["expanded"][0])
    tied = View(base, (6, 8), (8, 1))
    return OrderedDict(
        {
            "view.rows": View(base, (2, 8), (8, 1), 16),
            "view.transposed": View(base, (8, 6), (1, 8)),
            "view.step": View(base, (6, 4), (8, 2)),
            "tied.a": tied,
            "tied.b": tied,
            "expanded": View(row, (3, 5), (0, 1)),
            "parameter": Parameter(np.array(wanted["parameter"])),
        }
    )


dtypes = st.sampled_from(sorted(torch_writer.STORAGES)).filter(lambda name: name != "bfloat16").map(np.dtype)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text("abc.", min_size=1, max_size=6),
        dtypes.flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0, max_side=4))),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)
def test_every_type_and_shape_is_read_back(tmp_path_factory: Any, state: dict[str, np.ndarray], legacy: bool) -> None:
    path = tmp_path_factory.mktemp("written") / "file.pth"
    (write_legacy if legacy else write_zip)(path, state)
    found = values(read_checkpoint(path), "")
    assert found.keys() == state.keys()
    for name, value in state.items():
        assert_same(found[name], value)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_view_is_what_numpy_says(tmp_path_factory: Any, data: st.DataObject) -> None:
    base = np.arange(data.draw(st.integers(1, 60)), dtype=np.float32)
    shape = tuple(data.draw(st.lists(st.integers(1, 4), max_size=3)))
    strides = tuple(data.draw(st.lists(st.integers(0, 5), min_size=len(shape), max_size=len(shape))))
    offset = data.draw(st.integers(0, 10))
    reach = offset + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    path = tmp_path_factory.mktemp("views") / "file.pth"
    write_zip(path, {"x": View(base, shape, strides, offset)})
    if reach >= base.size:
        with pytest.raises(UserError, match="reaches element"):
            read_checkpoint(path)
    else:
        wanted = np.lib.stride_tricks.as_strided(base[offset:], shape, tuple(4 * step for step in strides))
        np.testing.assert_array_equal(read_checkpoint(path).groups[""]["x"].numpy(), wanted)


def module(**parts: Any) -> Object:
    state = {"training": False, "_parameters": {}, "_buffers": {}, "_modules": {}, **parts}
    return Object("some.package", "Net", state)


def test_a_whole_module_gives_parameters_and_persistent_buffers(tmp_path: Path) -> None:
    weight, mean, mask = np.ones((2, 3), np.float32), np.zeros(2, np.float32), np.ones(4, np.float32)
    hidden = torch_writer.Call("__builtin__", "set", (["mask"],))
    inner = module(_parameters={"weight": Parameter(weight), "bias": None}, _buffers={"mean": mean})
    outer = module(_modules={"layer": inner}, _buffers={"mask": mask}, _non_persistent_buffers_set=hidden)
    write_zip(tmp_path / "net.pt", {"model": outer, "epoch": 3})
    groups = read_checkpoint(tmp_path / "net.pt").groups
    assert groups.keys() == {"model"}
    assert groups["model"].keys() == {"layer.weight", "layer.mean"}


def test_a_state_dict_with_metadata(tmp_path: Path) -> None:
    # torch's own state dicts carry `_metadata` as an attribute of the OrderedDict, which pickles as a BUILD.
    pickler = Pickler()
    program = pickler.dump(OrderedDict(x=np.ones(2, np.float32)))[:-1] + b"}X\x09\x00\x00\x00_metadata}sb."
    torch_writer.write_archive(
        tmp_path / "state.pth", {"data.pkl": program, **torch_writer.storage_entries(pickler.storages)}
    )
    assert read_checkpoint(tmp_path / "state.pth").groups[""].keys() == {"x"}


@pytest.mark.parametrize(
    ("contents", "group", "prefix"),
    [
        (lambda sd: sd, "", ""),
        (lambda sd: {"state_dict": {"model." + k: v for k, v in sd.items()}, "epoch": 1}, "state_dict", "model."),
        (lambda sd: {"model": {"module." + k: v for k, v in sd.items()}}, "model", "module."),
        (lambda sd: {"model": {"other": sd["a.weight"]}, "ecg_model": sd, "optimizer": {"state": {}}}, "ecg_model", ""),
        (
            lambda sd: [{"net": {"state": {"model.module." + k: v for k, v in sd.items()}}}],
            "0.net.state",
            "model.module.",
        ),
    ],
)
def test_wrappers_and_prefixes_are_found_by_the_names_inside(
    tmp_path: Path, contents: Any, group: str, prefix: str
) -> None:
    state = {"a.weight": np.ones(3, np.float32), "a.bias": np.zeros(1, np.float32)}
    write_zip(tmp_path / "file.pt", contents(state))
    selection = select(read_checkpoint(tmp_path / "file.pt").groups, state)
    assert (selection.group, selection.prefix) == (group, prefix)
    assert selection.tensors.keys() == state.keys()
    assert selection.alternatives == ()


def test_a_second_copy_of_the_model_is_told(tmp_path: Path) -> None:
    state = {"a.weight": np.ones(3, np.float32)}
    write_zip(
        tmp_path / "file.pt",
        {"model": state, "ema": {"module." + k: v for k, v in state.items()}, "x.y": state["a.weight"]},
    )
    selection = select(read_checkpoint(tmp_path / "file.pt").groups, state)
    assert (selection.group, selection.alternatives) == ("model", ("ema.module.",))


def test_names_outside_the_prefix_are_told(tmp_path: Path) -> None:
    weight = np.ones(3, np.float32)
    write_zip(tmp_path / "file.pt", {"ecg_encoder.a.weight": weight, "proj.weight": weight})
    selection = select(read_checkpoint(tmp_path / "file.pt").groups, ["a.weight"])
    assert (selection.prefix, selection.outside) == ("ecg_encoder.", ("proj.weight",))


def test_a_file_of_another_model_says_what_it_found(tmp_path: Path) -> None:
    write_zip(tmp_path / "file.pt", {"model": {"b": np.ones(3, np.float32)}})
    with pytest.raises(UserError, match=r"expected names such as a\.weight, found model\.b"):
        select(read_checkpoint(tmp_path / "file.pt").groups, ["a.weight"])


def test_many_tensors_use_the_long_memo(tmp_path: Path) -> None:
    state = {f"layer.{i}.weight": np.full(2, i, np.float32) for i in range(1500)}
    write_zip(tmp_path / "file.pt", state)
    found = values(read_checkpoint(tmp_path / "file.pt"), "")
    assert all(found[name].tolist() == value.tolist() for name, value in state.items())


def test_torch_reads_what_the_writer_writes(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    for write in (write_zip, write_legacy):
        write(tmp_path / "mine.pth", strided())
        found = torch.load(tmp_path / "mine.pth", weights_only=True)
        for name, wanted in expected("strided").items():
            np.testing.assert_array_equal(found[name].detach().numpy(), wanted)


def test_reading_imports_neither_torch_nor_pickle_machinery_of_others() -> None:
    code = (
        "import sys; from convert_weights.reader import read_checkpoint; "
        f"read_checkpoint({str(FILES / 'lightning_omegaconf.ckpt')!r}); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'jax', 'omegaconf')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_a_legacy_checkpoint_that_nobody_here_wrote() -> None:
    """The 39 MB generator in the package deepfake-ecg 1.1.2 (pip install --no-deps deepfake-ecg==1.1.2)."""
    spec = util.find_spec("deepfakeecg")
    if spec is None or spec.origin is None:
        pytest.skip("deepfake-ecg is not installed")
    checkpoint = read_checkpoint(Path(spec.origin).parent / "checkpoints" / "g_stat.pt")
    tensors = checkpoint.groups["stat_dict"]
    assert checkpoint.kind == "torch legacy"
    assert all(isinstance(tensor, Tensor) for tensor in tensors.values())
    found = values(checkpoint, "stat_dict")
    assert (len(found), sum(value.size for value in found.values())) == (40, 10_590_997)
    assert found["fc1.weight"].shape == (500, 100)
    # Of the bytes that torch 2.13 loads, in the order of the names.
    digest = hashlib.sha256(b"".join(found[name].tobytes() for name in sorted(found))).hexdigest()
    assert digest == "6584d0f0ece957f5a99a76d80aa9c13e47e60091eeadc32314f85f916e69324e"
