"""Writes `src/celeriac/_codec.py` from the `.proto` files of the contract.

    python tools/generate_codec.py            # writes the file
    python tools/generate_codec.py --print    # prints it

Run it after each change of the `.proto` files and commit what it writes. A test compares the file
with the output of this program.

The code of the messages in `FAST` is long and has few calls, because a call costs more than the
work in it. Their decoders have one test for each field, in the order of the numbers. A broker
writes the fields in that order, so a message passes each test once. All other messages have a
table, which `_protobuf` reads.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from proto_files import Contract, Field, Message, read_folder

ROOT = Path(__file__).resolve().parents[2]
PROTO_FOLDER = ROOT / "proto" / "celeriac" / "v1"
TARGET = ROOT / "python" / "src" / "celeriac" / "_codec.py"

HEAD = '''\
"""The messages of the protocol. `python/tools/generate_codec.py` writes this file from the `.proto`
files; change those, and run it again."""
# fmt: off
# ruff: noqa

from __future__ import annotations

from enum import IntEnum
from struct import pack as _pack, unpack_from as _unpack
from typing import Any, Callable

from celeriac._protobuf import (
    MASK32 as _MASK32,
    TABLE as _TABLE,
    TABLE_SIZE as _TABLE_SIZE,
    DecodeError as DecodeError,
    Message as Message,
    long_number as _long,
    number as _number,
    numbers as _numbers,
    packed as _packed,
    signed32 as _signed32,
    signed64 as _signed64,
    skip as _skip,
)

_new = object.__new__
'''

FAST = frozenset(
    (
        "ClientFrame",
        "Complete",
        "Deliver",
        "Delivery",
        "Report",
        "ReportOutcome",
        "ReportReply",
        "ServerFrame",
        "Submit",
        "SubmitOutcome",
        "SubmitReply",
        "Task",
        "TaskInfo",
        "TaskReport",
    )
)

PYTHON_TYPES = {
    "double": "float",
    "bool": "bool",
    "string": "str",
    "bytes": "bytes",
    "int32": "int",
    "int64": "int",
    "uint32": "int",
    "uint64": "int",
}
DEFAULTS = {"double": "0.0", "bool": "False", "string": '""', "bytes": 'b""'}
NUMBER, EIGHT, BYTES = 0, 1, 2


class Writer:
    """Writes the Python code of a contract."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._enums = {enum.name for enum in contract.enums}
        self._lines: list[str] = []
        for message in contract.messages:
            self._loosen(message)

    def write(self) -> str:
        self._lines = HEAD.splitlines()
        for enum in self._contract.enums:
            self._add(0, "", "", f"class {enum.name}(IntEnum):")
            self._docstring(enum.about)
            for name, value in enum.values:
                self._add(1, f"{name} = {value}")
        for message in self._contract.messages:
            self._message(message)
        self._lines += ENTRY.splitlines()
        for message in self._contract.messages:
            self._oneof_tables(message)
        return "\n".join(self._lines) + "\n"

    def _loosen(self, message: Message) -> None:
        """Makes the members of a `oneof` of texts or numbers attributes that may be absent: their
        types do not tell one from another. The broker checks that one of them is set."""
        for oneof in {field.oneof for field in message.fields if field.oneof}:
            members = [field for field in message.fields if field.oneof == oneof]
            kinds = [field.kind for field in members]
            if len(set(kinds)) != len(kinds) or not set(kinds).isdisjoint(PYTHON_TYPES):
                for field in members:
                    field.oneof, field.is_optional = "", True

    def _add(self, depth: int, *lines: str) -> None:
        self._lines += ["    " * depth + line if line else "" for line in lines]

    def _docstring(self, about: str) -> None:
        sentence = re.split(r"(?<=[.:]) ", about)[0].replace("\\", "")
        if not sentence:
            return
        if len(sentence) + 10 <= 100:
            self._add(1, f'"""{sentence}"""', "")
            return
        cut = sentence.rfind(" ", 0, 90)
        self._add(1, f'"""{sentence[:cut]}', f'{sentence[cut + 1 :]}"""', "")

    def _message(self, message: Message) -> None:
        self._add(0, "", "", f"class {message.name}(Message):")
        self._docstring(message.about)
        attributes = self._attributes(message)
        slots = ", ".join(f'"{name}"' for name, _, _ in attributes) + ("," if attributes else "")
        self._wrapped(1, "__slots__: tuple[str, ...] = (", slots, ")")
        is_fast = self._is_fast(message)
        if not is_fast and message.fields:
            self._table(message)
        if attributes:
            self._init(attributes)
        if is_fast:
            self._encode(message)
            self._add(0, "", "    @classmethod")
            self._add(1, f"def read(cls, data: bytes, at: int, end: int) -> {message.name}:")
            self._add(2, f"return _read_{snake(message.name)}(data, at, end)")
            self._decode(message)

    def _is_fast(self, message: Message) -> bool:
        """A table knows no maps and no `oneof`."""
        has_more = any(field.oneof or field.kind == "map" for field in message.fields)
        return message.name in FAST or has_more

    def _table(self, message: Message) -> None:
        self._add(1, "FIELDS = (")
        for field in sorted(message.fields, key=lambda each: each.number):
            kind = "enum" if field.kind in self._enums else field.kind
            label = "optional" * field.is_optional + "repeated" * field.is_repeated
            self._add(2, f'({field.number}, "{field.name}", "{kind}", "{label}"),')
        self._add(1, ")")

    def _reader(self, kind: str) -> str:
        """How the message of this name is read."""
        message = next(each for each in self._contract.messages if each.name == kind)
        return f"_read_{snake(kind)}" if self._is_fast(message) else f"{kind}.read"

    def _wrapped(self, depth: int, before: str, words: str, after: str) -> None:
        """Breaks a list of words over several lines where one is too long."""
        if len(before + words + after) + 4 * depth <= 100:
            self._add(depth, before + words + after)
            return
        self._add(depth, before)
        line = ""
        for word in words.rstrip(",").split(", "):
            if len(line) + len(word) + 2 + 4 * (depth + 1) > 100:
                self._add(depth + 1, line.rstrip())
                line = ""
            line += word + ", "
        self._add(depth + 1, line.rstrip(), *())
        self._add(depth, after)

    def _attributes(self, message: Message) -> list[tuple[str, str, str]]:
        """The name, the type and the default of each attribute. A `oneof` is one attribute."""
        found: list[tuple[str, str, str]] = []
        for field in message.fields:
            if not field.oneof:
                found.append((field.name, self._type(field), self._default(field)))
            elif field.oneof not in [name for name, _, _ in found]:
                kinds = [each.kind for each in message.fields if each.oneof == field.oneof]
                found.append((field.oneof, " | ".join(kinds) + " | None", "None"))
        return found

    def _type(self, field: Field) -> str:
        if field.kind == "map":
            return f"dict[str, {PYTHON_TYPES[field.map_value]}]"
        kind = "int" if field.kind in self._enums else PYTHON_TYPES.get(field.kind, field.kind)
        if field.is_repeated:
            return f"list[{kind}]"
        return f"{kind} | None" if self._is_nullable(field) else kind

    def _default(self, field: Field) -> str:
        if field.kind == "map":
            return "{}"
        if field.is_repeated:
            return "[]"
        return "None" if self._is_nullable(field) else DEFAULTS.get(field.kind, "0")

    def _is_message(self, field: Field) -> bool:
        return not (field.kind == "map" or field.kind in PYTHON_TYPES or field.kind in self._enums)

    def _is_nullable(self, field: Field) -> bool:
        return field.is_optional or self._is_message(field)

    def _wire(self, field: Field) -> int:
        if field.kind == "double":
            return EIGHT
        if field.kind in ("string", "bytes", "map") or self._is_message(field):
            return BYTES
        return NUMBER

    def _init(self, attributes: list[tuple[str, str, str]]) -> None:
        self._add(1, "", "def __init__(", "    self,", "    *,")
        for name, kind, default in attributes:
            is_shared = default in ("[]", "{}")
            nullable = f"{kind} | None" if is_shared else kind
            self._add(2, *split_type(name, nullable, "None" if is_shared else default))
        self._add(1, ") -> None:")
        for name, kind, default in attributes:
            if default in ("[]", "{}"):
                self._add(2, f"self.{name} = {default} if {name} is None else {name}")
            elif len(kind) < 60:
                self._add(2, f"self.{name}: {kind} = {name}")
            else:
                self._add(2, f"self.{name} = {name}")

    def _encode(self, message: Message) -> None:
        self._add(1, "", "def encode(self) -> bytes:")
        if not message.fields:
            self._add(2, 'return b""')
            return
        self._add(2, "out: list[bytes] = []")
        seen = set()
        for field in sorted(message.fields, key=lambda each: each.number):
            if not field.oneof:
                self._encode_field(field)
            elif field.oneof not in seen:
                seen.add(field.oneof)
                self._encode_oneof(message, field.oneof)
        self._add(2, 'return b"".join(out)')

    def _encode_oneof(self, message: Message, oneof: str) -> None:
        table = f"_{snake(message.name).upper()}_{oneof.upper()}_KEYS"
        self._add(
            2,
            f"if self.{oneof} is not None:",
            f"    key = {table}[type(self.{oneof})]",
            f"    value = self.{oneof}.encode()",
            "    out += (key, _number(len(value)), value)",
        )

    def _encode_field(self, field: Field) -> None:
        name = f"self.{field.name}"
        key = key_bytes(field.number, self._wire(field))
        size = "_TABLE[size] if size < _TABLE_SIZE else _number(size)"
        put = ["size = len(value)", f"out += ({key}, {size}, value)"]
        packed_key = key_bytes(field.number, BYTES)
        if field.kind == "map":
            self._add(2, f"for key, item in {name}.items():")
            text = ".encode()" if field.map_value == "string" else ""
            self._add(
                3,
                "value = key.encode()",
                f"entry = item{text}",
                "both = (b'\\n', _number(len(value)), value, b'\\x12', _number(len(entry)), entry)",
                "value = b''.join(both)",
                *put,
            )
        elif field.is_repeated and self._wire(field) == NUMBER:
            self._add(2, f"if {name}:", f"    value = _packed({name})")
            self._add(3, put[0], put[1].replace(key, packed_key))
        elif field.is_repeated:
            each = snake(field.kind) if self._is_message(field) else field.kind
            self._add(2, f"for a_{each} in {name}:")
            self._add(3, f"value = a_{each}{self._bytes_of(field)}")
            self._add(3, *put)
        else:
            given = f"{name} is not None" if self._is_nullable(field) else name
            self._add(2, f"if {given}:")
            if field.kind == "double":
                self._add(3, f'out += ({key}, _pack("<d", {name}))')
            elif self._wire(field) == NUMBER:
                self._add(3, f"out += ({key}, _number({name}))")
            else:
                self._add(3, f"value = {name}{self._bytes_of(field)}", *put)

    def _bytes_of(self, field: Field) -> str:
        return "" if field.kind == "bytes" else ".encode()"

    def _decode(self, message: Message) -> None:
        function = f"_read_{snake(message.name)}"
        head = f"def {function}(data: bytes, at: int, end: int) -> {message.name}:"
        self._add(0, "", "", head, f"    m = _new({message.name})")
        for name, _, default in self._attributes(message):
            self._add(1, f"m.{name} = {default}")
        next_key = ["key = data[at]", "at += 1", "if key > 127:"]
        next_key.append("    key, at = _long(data, at, key)")
        self._add(1, "if at >= end:", "    if at > end:")
        self._add(1, "        raise DecodeError('a field is cut short')", "    return m")
        self._add(1, *next_key, "while True:")
        fields = sorted(message.fields, key=lambda each: each.number)
        plain = [field for field in fields if not field.oneof]
        for field in plain:
            self._decode_field(field, next_key)
        known = [key for field in plain for key in self._keys(field)]
        self._decode_rest(message, known, next_key)
        self._add(1, "if at != end:", '    raise DecodeError("a field is cut short")', "return m")
        self._known(message)

    def _keys(self, field: Field) -> list[int]:
        keys = [field.number << 3 | self._wire(field)]
        if field.is_repeated and self._wire(field) == NUMBER:
            keys.append(field.number << 3 | BYTES)
        return keys

    def _decode_field(self, field: Field, next_key: list[str]) -> None:
        keys = self._keys(field)
        loop = "while" if field.is_repeated or field.kind == "map" else "if"
        for key in keys:
            self._add(2, f"{loop} key == {key}:")
            self._decode_value(field, key)
            if loop == "while":
                self._add(3, "if at >= end:", "    key = 0", "    break", *next_key)
                self._add(2, "if not key:", "    break")
            else:
                self._add(3, "if at >= end:", "    break", *next_key)

    def _decode_value(self, field: Field, key: int) -> None:
        put = f"m.{field.name}.append({{}})" if field.is_repeated else f"m.{field.name} = {{}}"
        wire = key & 7
        if wire == EIGHT:
            self._add(3, put.format('_unpack("<d", data, at)[0]'), "at += 8")
            return
        name = "size" if wire == BYTES else "value"
        self._add(3, f"{name} = data[at]", "at += 1", f"if {name} > 127:")
        self._add(4, f"{name}, at = _long(data, at, {name})")
        if wire == BYTES:
            self._add(3, "stop = at + size", *self._decode_bytes(field, put), "at = stop")
            return
        if field.kind in self._enums or field.kind == "int32":
            self._add(4, "value = _signed32(value)")
        elif field.kind == "int64":
            self._add(4, "value = _signed64(value)")
        elif field.kind == "uint32":
            self._add(4, "value &= _MASK32")
        self._add(3, put.format("value != 0" if field.kind == "bool" else "value"))

    def _decode_bytes(self, field: Field, put: str) -> list[str]:
        if field.kind == "string":
            return [put.format("data[at:stop].decode()")]
        if field.kind == "bytes":
            return [put.format("data[at:stop]")]
        if field.kind == "map":
            decoded = ".decode()" if field.map_value == "string" else ""
            return [
                "name, item = _read_entry(data, at, stop)",
                f"m.{field.name}[name] = item{decoded}",
            ]
        if self._is_message(field):
            return [put.format(f"{self._reader(field.kind)}(data, at, stop)")]
        if field.kind in self._enums or field.kind == "int32":
            return [f"m.{field.name} += map(_signed32, _numbers(data, at, stop))"]
        if field.kind == "uint32":
            return [f"m.{field.name} += [value & _MASK32 for value in _numbers(data, at, stop)]"]
        if field.kind == "uint64":
            return [f"m.{field.name} += _numbers(data, at, stop)"]
        raise ValueError(f"the generator does not know repeated fields of {field.kind}")

    def _decode_rest(self, message: Message, known: list[int], next_key: list[str]) -> None:
        """What no test took: a member of a `oneof`, an unknown field, or a field out of order. For
        the last, the tests begin again with the same key."""
        oneofs = dict.fromkeys(field.oneof for field in message.fields if field.oneof)
        if len(oneofs) > 1:
            raise ValueError(f"{message.name} has more than one oneof")
        test = f"if key not in _{snake(message.name).upper()}_KNOWN:" if known else "if True:"
        if not oneofs:
            self._add(2, test, "    at = _skip(data, at, key)")
            self._add(3, "if at >= end:", "    break", *next_key)
            return
        [oneof] = oneofs
        table = f"_{snake(message.name).upper()}_{oneof.upper()}_READERS"
        self._add(2, f"read = {table}.get(key)", "if read is not None:")
        self._add(3, "size = data[at]", "at += 1", "if size > 127:")
        self._add(4, "size, at = _long(data, at, size)")
        self._add(3, "stop = at + size", f"m.{oneof} = read(data, at, stop)", "at = stop")
        self._add(3, "if at >= end:", "    break", *next_key)
        self._add(2, "el" + test, "    at = _skip(data, at, key)")
        self._add(3, "if at >= end:", "    break", *next_key)

    def _known(self, message: Message) -> None:
        plain = [field for field in message.fields if not field.oneof]
        known = ", ".join(str(key) for field in plain for key in self._keys(field))
        if known:
            self._add(0, "", "")
            name = f"_{snake(message.name).upper()}_KNOWN"
            self._wrapped(0, f"{name} = frozenset((", known + ",", "))")

    def _oneof_tables(self, message: Message) -> None:
        """These stand at the end of the file, because they name classes that come later."""
        members = [field for field in message.fields if field.oneof]
        if not members:
            return
        table = f"_{snake(message.name).upper()}_{members[0].oneof.upper()}"
        self._add(0, "", f"{table}_KEYS: dict[type[Message], bytes] = {{")
        for field in members:
            self._add(1, f"{field.kind}: {key_bytes(field.number, BYTES)},")
        self._add(0, "}")
        self._add(0, f"{table}_READERS: dict[int, Callable[[bytes, int, int], Any]] = {{")
        for field in members:
            self._add(1, f"{field.number << 3 | BYTES}: {field.kind}.read,")
        self._add(0, "}")


ENTRY = """

def _read_entry(data: bytes, at: int, end: int) -> tuple[str, bytes]:
    name, item = "", b""
    while at < end:
        key, at = _long(data, at + 1, data[at]) if data[at] > 127 else (data[at], at + 1)
        if key not in (10, 18):
            at = _skip(data, at, key)
            continue
        size, at = _long(data, at + 1, data[at]) if data[at] > 127 else (data[at], at + 1)
        if key == 10:
            name = str(data[at:at + size], "utf-8")
        else:
            item = data[at:at + size]
        at += size
    if at != end:
        raise DecodeError("an entry of a map is cut short")
    return name, item
"""


def snake(name: str) -> str:
    """`SubmitReply` as `submit_reply`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def key_bytes(number: int, wire: int) -> str:
    """The key of a field as Python's text for bytes."""
    value, parts = number << 3 | wire, []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return repr(bytes([*parts, value]))


def split_type(name: str, kind: str, default: str) -> list[str]:
    """A parameter, over several lines where its type is a long union."""
    line = f"{name}: {kind} = {default},"
    if len(line) <= 90:
        return [line]
    lines = [f"{name}: ("]
    for part in kind.split(" | "):
        lines.append(f"    {'| ' if len(lines) > 1 else ''}{part}")
    return [*lines, f") = {default},"]


def generate() -> str:
    """The text of `_codec.py`."""
    return Writer(read_folder(PROTO_FOLDER)).write()


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        print(generate(), end="")
    else:
        TARGET.write_text(generate(), "utf-8")
