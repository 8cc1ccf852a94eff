"""What a torch pickle may make: tensors and plain containers. Everything else it names is data or is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from convert_weights.pickle_machine import Constructor
from convert_weights.pickle_values import Name, key
from convert_weights.tensors import DTYPES, Storage, Tensor, view
from ecgjax.errors import UserError

_STORAGES = {
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}
_DTYPE_ALIASES = {
    "half": "float16",
    "float": "float32",
    "double": "float64",
    "short": "int16",
    "int": "int32",
    "long": "int64",
}

# Tensors that are no dense array: named where somebody wants them, ignored in, say, an optimiser's state.
_UNREADABLE = {
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_sparse_csr_tensor": "a sparse tensor",
    "_rebuild_qtensor": "a quantised tensor",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_meta_tensor_no_storage": "a tensor without values (meta device)",
    "_rebuild_wrapper_subclass": "a tensor of a custom class",
    "_rebuild_device_tensor_from_numpy": "a tensor of a device that torch writes as a numpy pickle",
    "_rebuild_device_tensor_from_cpu_tensor": "a tensor of a custom device",
    "_load_from_bytes": "a torch file inside the torch file",
}

# No checkpoint needs these, even as data. Reading would not run them, but a file that names them means harm.
_REFUSED_PACKAGES = frozenset({"os", "importlib", "ctypes", "cffi", "multiprocessing", "pip", "dill", "cloudpickle"})
_REFUSED_MODULES = frozenset(
    "posix nt subprocess commands pty sys shutil socket imp runpy _ctypes marshal pickle _pickle cPickle code codeop "  # noqa: SIM905
    "pdb bdb timeit cProfile profile trace webbrowser".split()
)
_REFUSED_NAMES = {
    "builtins": frozenset(
        "eval exec execfile compile open file input raw_input __import__ breakpoint exit quit apply setattr delattr "  # noqa: SIM905
        "globals locals vars reload help".split()
    ),
    "types": frozenset({"CodeType", "FunctionType", "LambdaType", "MethodType", "ModuleType"}),
    "torch": frozenset({"load"}),
    "numpy": frozenset({"load", "fromfile", "memmap", "loadtxt", "genfromtxt"}),
}


@dataclass(frozen=True, eq=False, slots=True)
class Unreadable:
    """A tensor whose values cannot be read; `reason` says what it is."""

    reason: str


@dataclass(frozen=True, eq=False, slots=True)
class TypedStorage:
    """A storage and the element type that the pickle gives it."""

    storage: Storage
    dtype: np.dtype[Any] | None
    reason: str = ""


def admit(name: Name) -> None:
    """Refuses names that only an attack uses."""
    package, attribute = name.module.split(".", 1)[0], name.name.split(".", 1)[0]
    if (
        package in _REFUSED_PACKAGES
        or name.module in _REFUSED_MODULES
        or attribute in _REFUSED_NAMES.get(name.module, ())
    ):
        raise UserError(f"the file asks for {name}, which no checkpoint needs; refused, nothing of it was run")


def storage_type(name: object) -> tuple[np.dtype[Any] | None, int, str]:
    """Element type, element size in bytes and, where there is no such numpy type, what it is instead."""
    if not isinstance(name, Name) or name.module not in ("torch", "torch.storage", "torch.cuda"):
        raise UserError(f"the file has a storage of type {str(name)[:80]}; expected one of torch's")
    if name.name in _STORAGES:
        dtype = DTYPES[_STORAGES[name.name]]
        return dtype, dtype.itemsize, ""
    sizes = {
        "ComplexHalfStorage": 4,
        "QInt8Storage": 1,
        "QUInt8Storage": 1,
        "QInt32Storage": 4,
        "QUInt4x2Storage": 1,
        "QUInt2x4Storage": 1,
    }
    if name.name not in sizes:
        raise UserError(f"the file has a storage of type {str(name)[:80]}; expected one of torch's")
    return (
        None,
        sizes[name.name],
        "a tensor of half-precision complex numbers" if "Complex" in name.name else "a quantised tensor",
    )


def storage_id(value: object) -> tuple[Name, str, int]:
    """Type, key and element count out of torch's persistent id ("storage", type, key, device, count[, view])."""
    if not isinstance(value, tuple) or len(value) < 5 or value[0] != "storage":
        raise UserError("the pickle has a persistent id that is no torch storage; refused")
    kind, name, count = value[1], value[2], value[4]
    if not isinstance(kind, Name) or not isinstance(name, str):
        raise UserError("the pickle has a persistent id that is no torch storage; refused")
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count < 2**60:
        raise UserError(f"storage {name[:40]!r} claims {str(count)[:40]} elements; expected a number from 0")
    if len(value) > 5 and value[5] is not None:
        raise UserError(f"storage {name[:40]!r} is a view of another, as torch before 0.4 wrote; save the file anew")
    return kind, name, count


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor | Unreadable:
    if not isinstance(storage, TypedStorage):
        raise UserError("a tensor is built on something that is no storage; refused")
    if storage.dtype is None:
        return Unreadable(storage.reason)
    return view(storage.storage, storage.dtype, offset, shape, strides)


def _tensor_v3(
    storage: Any, offset: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> Tensor | Unreadable:
    if not isinstance(storage, TypedStorage) or not isinstance(dtype, Name) or dtype.module != "torch":
        raise UserError("a tensor is built on something that is no storage; refused")
    if dtype.name not in DTYPES and dtype.name not in _DTYPE_ALIASES:
        return Unreadable(f"a tensor of type {dtype}")
    return view(storage.storage, DTYPES[_DTYPE_ALIASES.get(dtype.name, dtype.name)], offset, shape, strides)


def _from_type(function: Any, _type: Any, arguments: Any, *_: Any) -> Any:
    """A tensor with a Python class or attributes around it: the tensor alone."""
    if not isinstance(function, Name) or function.module != "torch._utils" or not isinstance(arguments, tuple):
        return Unreadable("a tensor of a custom class")
    constructor = CONSTRUCTORS.get((function.module, function.name))
    return Unreadable("a tensor of a custom class") if constructor is None else constructor(*arguments)


def _dict(*arguments: Any) -> dict[Any, Any]:
    items = arguments[0] if arguments else ()
    if isinstance(items, dict):
        return dict(items)
    return {key(name): value for name, value in items}


def _set(items: Any = ()) -> set[Any]:
    if not isinstance(items, (list, tuple, set, frozenset)):
        raise TypeError
    return {key(item) for item in items}


def _sequence(items: Any = ()) -> tuple[Any, ...]:
    if not isinstance(items, (list, tuple)):
        raise TypeError
    return tuple(items)


def _unreadable(reason: str) -> Constructor:
    return lambda *_: Unreadable(reason)


CONSTRUCTORS: Mapping[tuple[str, str], Constructor] = {
    ("collections", "OrderedDict"): _dict,
    ("collections", "defaultdict"): lambda *_: {},
    ("builtins", "dict"): _dict,
    ("builtins", "set"): _set,
    ("builtins", "frozenset"): lambda items=(): frozenset(_set(items)),
    ("builtins", "list"): lambda items=(): list(_sequence(items)),
    ("builtins", "tuple"): _sequence,
    ("torch", "Size"): _sequence,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
    **{("torch._utils", name): _unreadable(reason) for name, reason in _UNREADABLE.items()},
    ("torch.storage", "_load_from_bytes"): _unreadable(_UNREADABLE["_load_from_bytes"]),
}
"""The constructors that give values, by module and name. None of them is looked up in an installed package."""
