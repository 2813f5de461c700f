"""Reads the files of `proto/vectors` and protobuf's text format, as far as they use it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

from celeriac import _codec

FOLDER = Path(__file__).resolve().parents[2] / "proto" / "vectors"
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\w.+-]+|[{}\[\]:,]')


@dataclass
class Vector:
    """One case: its header lines by their names, the message as text, and the bytes."""

    name: str
    about: dict[str, str] = field(default_factory=dict)
    kind: str = ""
    text: str = ""
    data: bytes = b""

    @property
    def frame(self) -> bytes:
        """The bytes without the length in front."""
        return self.data[4:]


def read(file_name: str) -> list[Vector]:
    """All cases of one file."""
    found: list[Vector] = []
    part = ""
    for line in (FOLDER / file_name).read_text("utf-8").splitlines():
        if line.startswith("#") or not line:
            continue
        if not line.startswith(" "):
            key, _, value = line.partition(":")
            part = key
            if key == "name":
                found.append(Vector(value.strip()))
            elif key in ("ClientFrame", "ServerFrame"):
                found[-1].kind = key
            else:
                found[-1].about[key] = value.strip()
        elif part == "bytes":
            found[-1].data += bytes.fromhex(line)
        else:
            found[-1].text += line + "\n"
    return found


def frame_of(kind: str, text: str) -> Any:
    """The frame that the text format describes."""
    return _Text(text).frame(kind)


class _Text:
    """Reads protobuf's text format. What a key means follows from the message around it."""

    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.findall(text)
        self._at = 0

    def frame(self, kind: str) -> Any:
        frame = getattr(_codec, kind)()
        while self._at < len(self._tokens):
            self._field(frame)
        return frame

    def _take(self) -> str:
        self._at += 1
        return str(self._tokens[self._at - 1])

    def _peek(self) -> str:
        return str(self._tokens[self._at])

    def _field(self, message: _codec.Message) -> None:
        name = self._take()
        if self._peek() == ":":
            self._take()
        kind = _kinds(message).get(name)
        if kind is None:
            raise ValueError(f"{type(message).__name__} has no field {name}")
        target, label, of = kind
        if label == "map":
            getattr(message, target).update(self._entries())
        elif self._peek() == "[":
            getattr(message, target).extend(self._list(of))
        elif label == "repeated":
            getattr(message, target).append(self._value(of))
        else:
            setattr(message, target, self._value(of))

    def _list(self, of: str) -> list[Any]:
        found = []
        self._take()
        while self._peek() != "]":
            found.append(self._value(of))
            if self._peek() == ",":
                self._take()
        self._take()
        return found

    def _entries(self) -> dict[str, bytes]:
        entries = {}
        self._take()
        while self._take() == "{":
            words = [self._take() for _ in range(6)]
            entries[json.loads(words[2])] = _bytes(words[5])
            self._take()
            if self._peek() == ",":
                self._take()
        return entries

    def _value(self, of: str) -> Any:
        if of == "bytes":
            return _bytes(self._take())
        if of == "string":
            return _bytes(self._take()).decode()
        if of == "double":
            return float(self._take())
        if of in ("number", "bool"):
            word = self._take()
            if word in ("true", "false"):
                return word == "true"
            return int(word) if re.fullmatch(r"-?\d+", word) else _enum_value(word)
        message = getattr(_codec, of)()
        self._take()
        while self._peek() != "}":
            self._field(message)
        self._take()
        return message


def _bytes(word: str) -> bytes:
    """A text in quotes with the escapes of C."""
    out = bytearray()
    for part in re.findall(rb"\\[0-7]{1,3}|\\x[0-9a-fA-F]{2}|\\.|[^\\]", word[1:-1].encode()):
        if part.startswith(b"\\x"):
            out.append(int(part[2:], 16))
        elif part[:1] == b"\\" and part[1:2].isdigit():
            out.append(int(part[1:], 8))
        elif part[:1] == b"\\":
            out += {b"n": b"\n", b"t": b"\t", b"r": b"\r"}.get(part[1:], part[1:])
        else:
            out += part
    return bytes(out)


def _enum_value(word: str) -> int:
    """Nested enums have values of the same name, such as KIND_CREATED: the right one is the only
    one that ends so in its class, so the classes are asked in turn with their prefix."""
    for enum in _enums():
        short = word.removeprefix(_prefix(enum.__name__))
        if short in enum.__members__ and short != word:
            return int(enum[short])
    raise ValueError(f"no enum has the value {word}")


def _enums() -> list[Any]:
    return [each for each in vars(_codec).values() if _is_enum(each)]


def _is_enum(each: Any) -> bool:
    return isinstance(each, type) and issubclass(each, IntEnum) and each is not IntEnum


def _prefix(name: str) -> str:
    for nested in ("Kind", "Mode"):
        if name.endswith(nested):
            return nested.upper() + "_"
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper() + "_"


def _kinds(message: _codec.Message) -> dict[str, tuple[str, str, str]]:
    """For each name of the text format: the attribute, the label, and the kind of its values."""
    return KINDS[type(message).__name__]


def _all_kinds() -> dict[str, dict[str, tuple[str, str, str]]]:
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
    from generate_codec import PROTO_FOLDER, PYTHON_TYPES
    from proto_files import read_folder

    contract = read_folder(PROTO_FOLDER)
    enums = {enum.name for enum in contract.enums}
    kinds: dict[str, dict[str, tuple[str, str, str]]] = {}
    for message in contract.messages:
        named = kinds.setdefault(message.name, {})
        for each in message.fields:
            label = "map" if each.kind == "map" else "repeated" if each.is_repeated else ""
            of = each.kind
            if of in enums or PYTHON_TYPES.get(of) in ("int", "bool"):
                of = "number"
            named[each.name] = (each.oneof or each.name, label, of)
    return kinds


KINDS = _all_kinds()
