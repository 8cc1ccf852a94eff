"""Damaged files give one clear error or a valid result: never a crash, a hang or a large allocation."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convert_weights.reader import read_checkpoint
from convert_weights.tensors import Tensor
from ecgjax.errors import UserError
from tests.conftest import GOLDEN

FILES = sorted(
    path for path in (GOLDEN / "torch_files").iterdir() if path.suffix in (".pth", ".pt", ".ckpt", ".safetensors")
)
PICKLE_BYTES = st.sampled_from(list(b"\x80\x8a\x8b\x8e\x96\x8d\x85\x93\x81\x92\x94\x95()]}teusabcRQhqrjXK.0N012"))


@st.composite
def damage(draw: st.DrawFn, size: int) -> list[tuple[int, Any]]:
    """Changes to a file: bits flipped, bytes replaced by opcodes, stretches removed or repeated."""
    change = st.one_of(
        st.tuples(st.just("flip"), st.integers(0, 7)),
        st.tuples(st.just("put"), PICKLE_BYTES),
        st.tuples(st.just("put"), st.integers(0, 255)),
        st.tuples(st.just("remove"), st.integers(1, 40)),
        st.tuples(st.just("repeat"), st.integers(1, 40)),
        st.tuples(st.just("fill"), st.sampled_from([4, 8])),
    )
    return draw(st.lists(st.tuples(st.integers(0, size - 1), change), min_size=1, max_size=4))


def damaged(contents: bytes, changes: list[tuple[int, Any]]) -> bytes:
    data = bytearray(contents)
    for place, (kind, value) in changes:
        at = place % len(data)
        if kind == "flip":
            data[at] ^= 1 << value
        elif kind == "put":
            data[at] = value
        elif kind == "remove":
            del data[at : at + value]
        elif kind == "repeat":
            data[at:at] = data[at : at + value]
        else:
            data[at : at + value] = b"\xff" * value
        if not data:
            break
    return bytes(data)


def read_everything(path: Path) -> None:
    for group in read_checkpoint(path).groups.values():
        for tensor in group.values():
            if isinstance(tensor, Tensor) and tensor.nbytes < 2**20:
                np.array(tensor.numpy())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
@settings(max_examples=120, deadline=5000, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damaged_files(tmp_path_factory: pytest.TempPathFactory, path: Path, data: st.DataObject) -> None:
    contents = path.read_bytes()
    # The pickle and the directory are where damage matters; most of the rest is padding.
    written = tmp_path_factory.mktemp("fuzz") / "file"
    written.write_bytes(damaged(contents, data.draw(damage(len(contents)))))
    tracemalloc.start()
    try:
        read_everything(written)
    except UserError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        written.unlink()
    assert peak < 5_000_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_cut_short_anywhere(tmp_path: Path, path: Path) -> None:
    contents = path.read_bytes()
    for size in range(0, len(contents), 37):
        cut = tmp_path / f"cut{size}"
        cut.write_bytes(contents[:size])
        with pytest.raises(UserError):
            read_everything(cut)
        cut.unlink()
