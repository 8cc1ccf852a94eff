"""Our safetensors files against the format's own library."""

import json
import struct
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ecgjax.models import safetensors_file

RNG = np.random.default_rng(0)
TENSORS: dict[str, np.ndarray] = {
    "a/kernel": RNG.standard_normal((3, 5)).astype(np.float32),
    "a/transposed": RNG.standard_normal((4, 6)).astype(np.float32).T,
    "count": np.asarray(7, np.int64),
    "empty": np.zeros((0, 3), np.float16),
    "flags": np.array([True, False, True]),
    "half": RNG.standard_normal(5).astype(ml_dtypes.bfloat16),
}


def test_what_is_written_is_read_by_both(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    safetensors_file.write(path, TENSORS, {"model": "x"})
    ours, theirs = dict(safetensors_file.read(path)), load_file(path)
    assert ours.keys() == theirs.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert ours[name].dtype == value.dtype
        np.testing.assert_array_equal(ours[name], value)
        np.testing.assert_array_equal(theirs[name], value)


def test_files_of_the_formats_own_library_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({name: np.ascontiguousarray(value) for name, value in TENSORS.items() if name != "half"}, path)
    found = dict(safetensors_file.read(path, lambda name: name.startswith("a/")))
    assert found.keys() == {"a/kernel", "a/transposed"}
    np.testing.assert_array_equal(found["a/transposed"], TENSORS["a/transposed"])


def test_jax_takes_the_arrays_over_without_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    safetensors_file.write(path, {"x": np.ones((100, 101), np.float32), "y": np.ones(1, np.float32)})
    for _, array in safetensors_file.read(path):
        on_device = jax.device_put(array, may_alias=True)
        assert on_device.unsafe_buffer_pointer() == array.ctypes.data
        # Giving the buffer away leaves no trace in what was read.
        added = jax.jit(lambda x: x + 1, donate_argnums=0)(on_device)
        np.testing.assert_array_equal(added, array + 1)
        np.testing.assert_array_equal(array, 1)


def described(**entry: object) -> bytes:
    header = json.dumps({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **entry}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no header"),
        (b"12", "no header"),
        (struct.pack("<Q", 2**60) + b"{}", "no header"),
        (struct.pack("<Q", 2) + b"[]", "no header"),
        (struct.pack("<Q", 4) + b"\xff{}}", "decode"),
        (described()[:-1], "'x' lies outside the file"),
        (described(data_offsets=[0, 2**50]), "'x' lies outside the file"),
        (described(data_offsets=[8, 0]), "'x' lies outside the file"),
        (described(data_offsets=["0", "8"]), "'x' is not described"),
        (described(data_offsets=None), "'x' is not described"),
        (described(dtype="F31"), "'x' is not described"),
        (described(shape=[3]), "reshape"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        dict(safetensors_file.read(path))
