"""Reads pickles without running anything from them.

A pickle is a program for a stack machine. This is that machine with its hands tied: it knows the opcodes of protocols
2 to 5, imports nothing and calls nothing. A class or function that the file names becomes a `Name`, "calling" one gives
an inert `Placeholder` that keeps the arguments and state as data, and only the few constructors in a caller's table
(torch's tensors, plain containers) give values. Memory stays in proportion to the bytes read, which Python's own
unpickler does not promise: nine bytes can make it allocate gigabytes.

Reference: the opcode list in the documentation of Python's `pickletools`.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any

from convert_weights.pickle_values import Name, Placeholder, key, pairs
from ecgjax.errors import UserError

_MOST_OPCODES = 5_000_000
_LONGEST_NAME = 1024
_LONGEST_INTEGER = 255  # bytes; torch's own are at most 10


Constructor = Callable[..., Any]


def unpickle(
    data: memoryview,
    start: int,
    constructors: Mapping[tuple[str, str], Constructor],
    persistent: Callable[[Any], Any],
    admit: Callable[[Name], None],
) -> tuple[Any, int]:
    """Reads one pickle.

    Args:
        data: the bytes it lies in.
        start: where it begins.
        constructors: what to call for a (module, name); everything else gives a `Placeholder`.
        persistent: gives the value of a persistent id (torch's storages).
        admit: sees every name and raises `UserError` for one that no data file needs.

    Returns:
        The value and the position behind the pickle.

    Raises:
        UserError: a damaged pickle, an opcode or a name that is refused.
    """
    machine = _Machine(data, start, constructors, persistent, admit)
    try:
        return machine.run(), machine.position
    except UserError:
        raise
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, struct.error, RecursionError) as error:
        raise UserError(f"the pickle is damaged near byte {machine.position}; expected a whole torch file") from error


class _Machine:
    def __init__(
        self,
        data: memoryview,
        start: int,
        constructors: Mapping[tuple[str, str], Constructor],
        persistent: Callable[[Any], Any],
        admit: Callable[[Name], None],
    ) -> None:
        self.data = data
        self.position = start
        self.constructors = constructors
        self.persistent = persistent
        self.admit = admit
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        opcodes = _OPCODES
        for _ in range(_MOST_OPCODES):
            opcode = self.data[self.position]
            self.position += 1
            if opcode == _STOP:
                return self.stack.pop()
            action = opcodes.get(opcode)
            if action is None:
                raise UserError(f"the pickle uses opcode {chr(opcode)!a}, which torch never writes; refused")
            action(self)
        raise UserError(f"the pickle has more than {_MOST_OPCODES:,} steps; expected a checkpoint's few thousand")

    # Reading the program.

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise UserError(
                f"the pickle claims {count:,} bytes where {len(self.data) - self.position:,} are left; cut short?"
            )
        taken = bytes(self.data[self.position : end])
        self.position = end
        return taken

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def text(self, layout: str) -> str:
        return self.take(self.number(layout)).decode("utf-8", "backslashreplace")

    def line(self) -> str:
        ahead = bytes(self.data[self.position : self.position + _LONGEST_NAME])
        end = ahead.index(b"\n")
        self.position += end + 1
        return ahead[:end].decode("utf-8", "backslashreplace")

    def integer(self, layout: str) -> int:
        count = self.number(layout)
        if not 0 <= count <= _LONGEST_INTEGER:
            raise UserError(f"the pickle holds a number of {count:,} bytes; refused")
        return int.from_bytes(self.take(count), "little", signed=True)

    # Working the stack.

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def pop(self) -> None:
        # As in the original: nothing left above the mark means that the mark itself goes.
        if self.stack:
            self.stack.pop()
        else:
            self.stack = self.marks.pop()

    def last(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise IndexError
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        return items

    def remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    # Filling containers.

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Placeholder):
            raise TypeError

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            target.update(pairs(items))
        elif not isinstance(target, Placeholder):
            raise TypeError

    def add_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, set):
            target.update(key(item) for item in items)
        elif not isinstance(target, Placeholder):
            raise TypeError

    # Names, and what the file would have done with them.

    def name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError
        # Pickles of protocol 2 spell builtins as Python 2 did.
        found = Name("builtins" if module == "__builtin__" else module, name)
        self.admit(found)
        self.push(found)

    def stack_name(self) -> None:
        module, name = self.last(2)
        self.name(module, name)

    def call(self, target: Any, arguments: Any) -> None:
        if not isinstance(target, Name):
            what = target.name if isinstance(target, Placeholder) else f"a {type(target).__name__}"
            raise UserError(f"the file asks to call what {what} gives; refused, expected data only")
        if not isinstance(arguments, tuple):
            raise TypeError
        constructor = self.constructors.get((target.module, target.name))
        self.push(Placeholder(target, arguments) if constructor is None else constructor(*arguments))

    def make(self, target: Any, arguments: Any) -> None:
        if not isinstance(target, Name) or not isinstance(arguments, tuple):
            raise UserError(
                "the file asks to make an object of something that is no class; refused, expected data only"
            )
        self.push(Placeholder(target, arguments))

    def build(self, state: Any) -> None:
        target = self.stack[-1]
        if isinstance(target, Name):
            raise UserError(f"the file asks to change {target} itself; refused, expected data only")
        if isinstance(target, Placeholder):
            for part in state if isinstance(state, tuple) else (state,):
                if isinstance(part, dict):
                    target.state.update(part)
        # Attributes set on a dict or a tensor (a state dict's `_metadata`, say) are none of a weight's business.

    def frozen(self, items: list[Any]) -> None:
        self.push(frozenset(key(item) for item in items))


def _swap_call(machine: _Machine) -> None:
    target, arguments = machine.last(2)
    machine.call(target, arguments)


def _swap_make(machine: _Machine, with_keywords: bool) -> None:
    target, arguments = machine.last(3)[:2] if with_keywords else machine.last(2)
    machine.make(target, arguments)


_STOP = ord(".")
_OPCODES: dict[int, Callable[[_Machine], None]] = {
    code[0]: action
    for code, action in {
        b"\x80": lambda m: m.take(1),  # PROTO
        b"\x95": lambda m: m.take(8),  # FRAME: a reading hint
        b"(": lambda m: m.mark(),
        b"0": lambda m: m.pop(),
        b"1": lambda m: m.since_mark(),
        b"2": lambda m: m.push(m.stack[-1]),
        b"N": lambda m: m.push(None),
        b"\x88": lambda m: m.push(True),
        b"\x89": lambda m: m.push(False),
        b"J": lambda m: m.push(m.number("<i")),
        b"K": lambda m: m.push(m.number("<B")),
        b"M": lambda m: m.push(m.number("<H")),
        b"\x8a": lambda m: m.push(m.integer("<B")),
        b"\x8b": lambda m: m.push(m.integer("<i")),
        b"G": lambda m: m.push(m.number(">d")),
        b"U": lambda m: m.push(m.text("<B")),  # strings of Python 2
        b"T": lambda m: m.push(m.text("<I")),
        b"X": lambda m: m.push(m.text("<I")),
        b"\x8c": lambda m: m.push(m.text("<B")),
        b"\x8d": lambda m: m.push(m.text("<Q")),
        b"C": lambda m: m.push(m.take(m.number("<B"))),
        b"B": lambda m: m.push(m.take(m.number("<I"))),
        b"\x8e": lambda m: m.push(m.take(m.number("<Q"))),
        b"\x96": lambda m: m.push(m.take(m.number("<Q"))),
        b")": lambda m: m.push(()),
        b"]": lambda m: m.push([]),
        b"}": lambda m: m.push({}),
        b"\x8f": lambda m: m.push(set()),
        b"t": lambda m: m.push(tuple(m.since_mark())),
        b"l": lambda m: m.push(m.since_mark()),
        b"d": lambda m: m.push(pairs(m.since_mark())),
        b"\x91": lambda m: m.frozen(m.since_mark()),
        b"\x85": lambda m: m.push(m.last(1)),
        b"\x86": lambda m: m.push(m.last(2)),
        b"\x87": lambda m: m.push(m.last(3)),
        b"a": lambda m: m.append(list(m.last(1))),
        b"e": lambda m: m.append(m.since_mark()),
        b"s": lambda m: m.set_items(list(m.last(2))),
        b"u": lambda m: m.set_items(m.since_mark()),
        b"\x90": lambda m: m.add_items(m.since_mark()),
        b"h": lambda m: m.push(m.memo[m.number("<B")]),
        b"j": lambda m: m.push(m.memo[m.number("<I")]),
        b"q": lambda m: m.remember(m.number("<B")),
        b"r": lambda m: m.remember(m.number("<I")),
        b"\x94": lambda m: m.remember(len(m.memo)),
        b"c": lambda m: m.name(m.line(), m.line()),
        b"\x93": lambda m: m.stack_name(),
        b"R": _swap_call,
        b"\x81": lambda m: _swap_make(m, False),
        b"\x92": lambda m: _swap_make(m, True),
        b"b": lambda m: m.build(m.stack.pop()),
        b"Q": lambda m: m.push(m.persistent(m.stack.pop())),
    }.items()
}
