"""Opens a checkpoint of any supported kind: what it holds, and its tensors by name, all still in the file."""

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert_weights import legacy_format, safetensors_format, zip_format
from convert_weights.groups import Groups, tensor_groups
from ecgjax.errors import UserError

_OTHER_KINDS = (
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself (git lfs pull)"),
    (b"<!doctype", "an HTML page; the download went wrong"),
    (b"<html", "an HTML page; the download went wrong"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x1f\x8b", "a gzip file; unpack it first"),
    (b"7z\xbc\xaf", "a 7z file; unpack it first"),
    (b"Rar!", "a rar file; unpack it first"),
    (b"\x93NUMPY", "a numpy array"),
    (b"\x80", "a pickle, but not one that torch.save wrote"),
)


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        path: the file.
        kind: "torch zip", "torch legacy" or "safetensors".
        nbytes: the file's size.
        contents: the object in it: plain containers and numbers, `Tensor`s, and `Placeholder`s for everything else.
        groups: the tensors by name for each dict or module that holds any, by its dotted path ("" is the top).
    """

    path: Path
    kind: str
    nbytes: int
    contents: Any
    groups: Groups


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Opens a checkpoint without torch and without running anything from it.

    Args:
        path: a torch file (zip or older; state dict, training checkpoint or whole module) or a safetensors file.

    Returns:
        Its contents. Tensors are views of the memory-mapped file: nothing is read until it is used.

    Raises:
        UserError: no such file, another kind of file, a damaged one, or one that asks for more than data.
    """
    path = Path(path)
    try:
        with open(path, "rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            if size == 0:
                raise UserError(f"{path}: is empty; expected a checkpoint")
            file = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path}: cannot be opened ({getattr(error, 'strerror', None) or error}); expected a checkpoint"
        ) from error
    try:
        kind, contents = _read(path, file)
        return Checkpoint(path, kind, size, contents, tensor_groups(contents))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _read(path: Path, file: memoryview) -> tuple[str, Any]:
    start = bytes(file[:64])
    if start.startswith(b"PK\x03\x04"):
        return "torch zip", zip_format.read(path, file)
    if start.startswith(legacy_format.START):
        return "torch legacy", legacy_format.read(file)
    if safetensors_format.looks_like(file):
        return "safetensors", safetensors_format.read(file)
    what = next(
        (what for head, what in _OTHER_KINDS if start.lower().startswith(head.lower())), "a file of an unknown kind"
    )
    raise UserError(f"{what}; expected a checkpoint written by torch.save, or safetensors")
