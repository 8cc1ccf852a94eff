"""Files made to harm whoever opens them: nothing in them runs, and they cost little memory and time."""

import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert_weights.groups import select
from convert_weights.pickle_values import Placeholder
from convert_weights.reader import read_checkpoint
from ecgjax.errors import UserError
from tests.convert_weights import torch_writer
from tests.convert_weights.torch_writer import Call, Object, Pickler, View, storage_entries, write_archive, write_zip


class Reduce:
    """Pickles as a call, by Python's own pickler."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


def archive(path: Path, program: bytes, storages: list[np.ndarray] | None = None) -> Path:
    write_archive(path, {"data.pkl": program, **storage_entries(storages or [])})
    return path


def legacy(path: Path, program: bytes) -> Path:
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    header = b"".join(Pickler().dump(part) for part in (0x1950A86A20F9469CFC6C, 1001, system))
    path.write_bytes(header + program + Pickler().dump([]))
    return path


def calls(sentinel: Path) -> dict[str, tuple[str, str, tuple[Any, ...]]]:
    """Ways to make a file that touches `sentinel` when its calls are carried out."""
    touch, code = f"touch {sentinel}", f"open({str(sentinel)!r}, 'w')"
    return {
        "os.system": ("os", "system", (touch,)),
        "posix.system": ("posix", "system", (touch,)),
        "builtins.eval": ("builtins", "eval", (code,)),
        "builtins.exec": ("__builtin__", "exec", (code,)),
        "builtins.open": ("builtins", "open", (str(sentinel), "w")),
        "builtins.__import__": ("builtins", "__import__", ("os",)),
        "subprocess.Popen": ("subprocess", "Popen", (["touch", str(sentinel)],)),
        "importlib.import_module": ("importlib", "import_module", ("os",)),
        "runpy._run_code": ("runpy", "_run_code", (code, {})),
        "os.path.join": ("os.path", "join", ("a",)),
        "pty.spawn": ("pty", "spawn", ("touch",)),
        "torch.load": ("torch", "load", (str(sentinel),)),
        "types.FunctionType": ("types", "FunctionType", ()),
        "pip.main": ("pip", "main", (["install", "x"],)),
    }


@pytest.mark.parametrize("name", calls(Path()))
@pytest.mark.parametrize("make", [archive, legacy])
def test_calls_that_no_checkpoint_needs_are_refused_by_name(tmp_path: Path, make: Any, name: str) -> None:
    sentinel = tmp_path / "executed"
    program = Pickler().dump({"state_dict": {}, "x": [Call(*calls(sentinel)[name])]})
    path = make(tmp_path / "file.pth", program)
    with pytest.raises(UserError, match=rf"file\.pth: the file asks for {name.replace('.', '[.]')}.*refused"):
        read_checkpoint(path)
    assert not sentinel.exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pythons_own_pickles_of_calls_are_refused(tmp_path: Path, protocol: int) -> None:
    sentinel = tmp_path / "executed"
    program = pickle.dumps({"x": Reduce(eval, (f"open({str(sentinel)!r}, 'w')",))}, protocol)
    with pytest.raises(UserError, match=r"builtins\.eval"):
        read_checkpoint(archive(tmp_path / "file.pth", program))
    # The same file does harm where it is unpickled: this test can fail.
    pickle.loads(program)
    assert sentinel.exists()


def test_other_calls_become_data(tmp_path: Path) -> None:
    sentinel = tmp_path / "executed"
    write_zip(
        tmp_path / "file.pth",
        {
            "path": Call("pathlib", "PosixPath", ("/", "tmp")),
            "enum": Call("builtins", "getattr", (Call("some.module", "Colour", ("red",)), "RED")),
            "function": Call("some.module", "touch", (str(sentinel),)),
            "nested.name": Call("torch.serialization", "os.system", (f"touch {sentinel}",)),
            "x": np.ones(2, np.float32),
        },
    )
    contents = read_checkpoint(tmp_path / "file.pth").contents
    assert all(isinstance(contents[name], Placeholder) for name in ("path", "enum", "function", "nested.name"))
    assert not sentinel.exists()


def test_setstate_is_never_called(tmp_path: Path) -> None:
    # `logging.Handler` and the like run code in __setstate__; here the state is kept as data.
    handler = Object("logging", "FileHandler", {"baseFilename": str(tmp_path / "executed")})
    write_zip(tmp_path / "file.pth", {"x": handler})
    contents = read_checkpoint(tmp_path / "file.pth").contents
    assert contents["x"].state == handler.state
    assert list(tmp_path.iterdir()) == [tmp_path / "file.pth"]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"\x80\x02csome\nClass\n}X\x01\x00\x00\x00a\x88sb.", "asks to change some.Class itself"),
        (b"\x80\x02csome\nf\n)R)R.", "asks to call what some.f gives"),
        (b"\x80\x02X\x01\x00\x00\x00a)R.", "asks to call what a str gives"),
        (b"\x80\x02csome\nf\n)R)\x81.", "asks to make an object of something that is no class"),
        (b"\x80\x02X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93.", "asks for os.system"),
        (b"\x80\x02(ios\nsystem\n.", "uses opcode 'i'"),
        (b"\x80\x02(cos\nsystem\no.", "asks for os.system"),
        (b"\x80\x02(csome\nf\no.", "uses opcode 'o'"),
        (b"\x80\x02\x82\x01.", r"uses opcode '\\x82'"),
        (b"\x80\x02Pabc\n.", "uses opcode 'P'"),
        (b"\x80\x02X\x01\x00\x00\x00aQ.", "no torch storage"),
        (b"\x80\x02X\x07\x00\x00\x00storagecos\nsystem\n\x86Q.", "asks for os.system"),
        (
            b"\x80\x02(X\x07\x00\x00\x00storagecnumpy\nndarray\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ.",
            "storage of type numpy.ndarray",
        ),
        (
            b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
            b"X\x09\x00\x00\x00../../etcX\x03\x00\x00\x00cpuK\x01tQ.",
            "no entry",
        ),
        (
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(csome\nf\n)RK\x00))\x89NtR.",
            "built on something that is no storage",
        ),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "damaged near byte"),
        (b"\x80\x02ccollections\nOrderedDict\nK\x07\x85R.", "damaged near byte"),
        (b"\x80\x02]]s.", "damaged near byte"),
        (b"\x80\x02}]K\x01s.", "uses a list as a dictionary key"),
        (b"\x80\x02" + b")" * 50 + b"}" + b")" + b"\x85" * 50 + b"K\x01s.", "uses a tuple as a dictionary key"),
        (b"\x80\x02t.", "damaged near byte"),
        (b"\x80\x02h\x05.", "damaged near byte"),
        (b"\x80\x02.", "damaged near byte"),
        (b"\x80\x02}", "damaged near byte"),
        (b"", "damaged near byte"),
    ],
)
def test_pickles_that_are_not_data_are_refused(tmp_path: Path, program: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_checkpoint(archive(tmp_path / "file.pth", program))


BOMBS = {
    "memo": b"\x80\x02}r\xff\xff\xff\x7f.",  # Python's unpickler allocates 32 GB for these eight bytes
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b".",
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",
    "text": b"\x80\x02X\xff\xff\xff\xffabc.",
    "long text": b"\x80\x04\x8d" + struct.pack("<Q", 2**63) + b".",
    "integer": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "negative integer": b"\x80\x02\x8b\xff\xff\xff\xff.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"}.",
    "deep lists": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "deep tuples": b"\x80\x02)" + b"\x85" * 200_000 + b".",
    "deep dicts": b"\x80\x02" + b"}N" * 100_000 + b"}" + b"s" * 100_000 + b".",
    "deep objects": b"\x80\x02" + b"cA\nB\n" * 50_000 + b")R" + b"\x85R" * 49_999 + b".",
    "laughs": b"\x80\x02]q\x00"
    + b"".join(b"](" + b"h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(200))
    + b".",
    "itself": b"\x80\x02]q\x00h\x00a.",
    "dict of itself": b"\x80\x02}q\x00Nh\x00s.",
    "colliding keys": b"\x80\x02}("
    + b"".join(b"\x8a\x0a" + (i * (2**61 - 1)).to_bytes(10, "little") + b"N" for i in range(1, 20_000))
    + b"u.",
    "marks": b"\x80\x02" + b"(" * 200_000 + b".",
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("make", [archive, legacy])
def test_bombs_are_defused(tmp_path: Path, make: Any, bomb: str) -> None:
    path = make(tmp_path / "file.pth", BOMBS[bomb])
    tracemalloc.start()
    try:
        read_checkpoint(path)  # harmless structures may be read: what counts is the cost
    except UserError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2_000_000 + 200 * path.stat().st_size


def test_a_structure_with_more_paths_than_atoms_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nested beyond all use"):
        read_checkpoint(archive(tmp_path / "file.pth", BOMBS["laughs"]))


def test_endless_programs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convert_weights.pickle_machine._MOST_OPCODES", 1000)
    with pytest.raises(UserError, match="more than 1,000 steps"):
        read_checkpoint(archive(tmp_path / "file.pth", b"\x80\x02" + b"N0" * 1000 + b"N."))


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "message"),
    [
        ((10**12,), (1,), 0, "reaches element"),
        ((10**12,), (0,), 0, "would take 4,000,000,000,000 bytes"),
        ((2**40, 2**40), (0, 0), 0, "would take"),
        ((4,), (1,), 5, "reaches element"),
        ((-1,), (1,), 0, "expected a number from 0"),
        ((4,), (-1,), 3, "expected a number from 0"),
        ((2**70,), (0,), 0, "expected a number from 0"),
        ((4,), (1, 1), 0, "1 sizes and 2 strides"),
        ((1,) * 65, (1,) * 65, 0, "65 sizes"),
    ],
)
def test_tensors_that_claim_more_than_the_file_holds_are_refused(
    tmp_path: Path, shape: Any, strides: Any, offset: int, message: str
) -> None:
    write_zip(tmp_path / "file.pth", {"x": View(np.ones(4, np.float32), shape, strides, offset)})
    with pytest.raises(UserError, match=message):
        read_checkpoint(tmp_path / "file.pth")


def test_storages_that_claim_more_than_they_hold_are_refused(tmp_path: Path) -> None:
    pickler = Pickler()
    program = pickler.dump({"x": np.ones(4, np.float32)})
    short = archive(tmp_path / "short.pth", program, [np.ones(3, np.float32)])
    with pytest.raises(UserError, match="claims 4 elements of 4 bytes but has 12 bytes"):
        read_checkpoint(short)
    torch_writer.write_legacy(tmp_path / "legacy.pth", {"x": np.ones(4, np.float32)})
    whole = (tmp_path / "legacy.pth").read_bytes()
    for claimed in (2**40, -1, 3):
        (tmp_path / "legacy.pth").write_bytes(whole[:-24] + struct.pack("<q", claimed) + whole[-16:])
        with pytest.raises(UserError, match="which the file does not hold"):
            read_checkpoint(tmp_path / "legacy.pth")


def test_zip_bombs_are_refused(tmp_path: Path) -> None:
    pickler = Pickler()
    program = pickler.dump({"x": np.zeros(10**6, np.float32)})
    entries = {"data.pkl": program, **storage_entries(pickler.storages)}
    write_archive(tmp_path / "file.pth", entries, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match=r"entry 'file/data\.pkl' is compressed"):
        read_checkpoint(tmp_path / "file.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"byteorder": b"big"}, "byte order 'big'; expected 'little'"),
        ({"constants.pkl": b""}, "TorchScript archive"),
        ({"x/data.pkl": b""}, "2 entries named data.pkl"),
    ],
)
def test_archives_of_another_kind_are_refused(tmp_path: Path, change: dict[str, bytes], message: str) -> None:
    entries = {"data.pkl": Pickler().dump({}), **storage_entries([]), **change}
    write_archive(tmp_path / "file.pth", entries)
    with pytest.raises(UserError, match=message):
        read_checkpoint(tmp_path / "file.pth")


def test_entries_named_twice_are_refused(tmp_path: Path) -> None:
    pickler = Pickler()
    entries = {"data.pkl": pickler.dump({"x": np.ones(1, np.float32)}), **storage_entries(pickler.storages)}
    write_archive(tmp_path / "file.pth", entries)
    with zipfile.ZipFile(tmp_path / "file.pth", "a") as written, pytest.warns(UserWarning, match="Duplicate"):
        written.writestr("file/data/0", np.zeros(1, np.float32).tobytes())
    with pytest.raises(UserError, match="entry 'file/data/0' is there twice"):
        read_checkpoint(tmp_path / "file.pth")


def test_big_endian_legacy_files_are_refused(tmp_path: Path) -> None:
    header = b"".join(Pickler().dump(part) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": False}))
    (tmp_path / "file.pth").write_bytes(header)
    with pytest.raises(UserError, match="big-endian"):
        read_checkpoint(tmp_path / "file.pth")


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "HTML page"),
        (pickle.dumps({}), "a pickle, but not one that torch.save wrote"),
        (b"hello", "unknown kind"),
        (b"PK\x03\x04 not a zip", "damaged zip"),
        (struct.pack("<Q", 2**62) + b"{}", "unknown kind"),
        (struct.pack("<Q", 2) + b"{]", "header is damaged"),
        (struct.pack("<Q", 8 + 2) + b'{"x":[]}  ', "'x' has a damaged header entry"),
        (struct.pack("<Q", 200_000) + b'{"x":' + b"[" * 199_995, "header is damaged"),
    ],
)
def test_other_files_are_named(tmp_path: Path, contents: bytes, message: str) -> None:
    (tmp_path / "file").write_bytes(contents)
    with pytest.raises(UserError, match=message):
        read_checkpoint(tmp_path / "file")


def test_a_missing_file_or_a_folder_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(UserError, match="cannot be opened"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('{"dtype":"F32","shape":[2],"data_offsets":[0,4]}', "does not fit"),
        ('{"dtype":"F32","shape":[2],"data_offsets":[0,80]}', "does not fit"),
        ('{"dtype":"F32","shape":[1],"data_offsets":[4,8]}', "without holes or overlaps"),
        ('{"dtype":"F32","shape":[1],"data_offsets":[0,4]}', "describes 4 bytes where the file has 8"),
        ('{"dtype":"F31","shape":[2],"data_offsets":[0,8]}', "is of type 'F31'"),
        ('{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}', "damaged sizes"),
        ('{"dtype":"F32","shape":[1e3],"data_offsets":[0,8]}', "damaged sizes"),
        ('{"dtype":"F32","shape":2,"data_offsets":[0,8]}', "damaged sizes"),
        ('{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"x":{}', "names a tensor twice"),
    ],
)
def test_damaged_safetensors_headers_are_refused(tmp_path: Path, entry: str, message: str) -> None:
    header = f'{{"x":{entry}}}'.encode()
    (tmp_path / "file").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(UserError, match=message):
        read_checkpoint(tmp_path / "file")


def test_tensors_that_are_no_dense_array_are_named_when_wanted(tmp_path: Path) -> None:
    sparse = Call("torch._utils", "_rebuild_sparse_tensor", (1, 2))
    write_zip(tmp_path / "file.pth", {"model": {"a": np.ones(1, np.float32), "b": sparse}, "optimizer": {"c": sparse}})
    groups = read_checkpoint(tmp_path / "file.pth").groups
    with pytest.raises(UserError, match=r"model\.b is a sparse tensor; expected a dense tensor"):
        select(groups, ["a", "b"])
