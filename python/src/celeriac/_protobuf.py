"""The parts of protobuf's encoding that `_codec` needs: numbers, unknown fields, errors, and the
messages that are encoded by a table of their fields."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

MASK64 = 0xFFFF_FFFF_FFFF_FFFF
MASK32 = 0xFFFF_FFFF
_SIGN64 = 1 << 63
_SIGN32 = 1 << 31
_GROUPS_MAX = 32

_WIRE_NUMBER, _WIRE_EIGHT, _WIRE_BYTES, _WIRE_GROUP, _WIRE_END, _WIRE_FOUR = range(6)


class DecodeError(ValueError):
    """The bytes are no message of this kind."""


def _varint(value: int) -> bytes:
    # Numbers of two and of three bytes, as most leases have, need no loop.
    if 127 < value < 1 << 14:
        return bytes((value & 127 | 128, value >> 7))
    if 127 < value < 1 << 21:
        return bytes((value & 127 | 128, value >> 7 & 127 | 128, value >> 14))
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


# Most numbers are short lengths. A look into a table is several times faster than a loop.
TABLE = tuple(_varint(value) for value in range(2048))
TABLE_SIZE = len(TABLE)


def number(value: int) -> bytes:
    """The bytes of an unsigned number."""
    return TABLE[value] if 0 <= value < TABLE_SIZE else _varint(value & MASK64)


def long_number(data: bytes, at: int, first: int) -> tuple[int, int]:
    """The rest of a number whose first byte, already read, says that more bytes follow. The second
    item is the place after it."""
    byte = data[at]
    if byte < 128:
        return first & 127 | byte << 7, at + 1
    value = first & 127 | (byte & 127) << 7
    byte = data[at + 1]
    if byte < 128:
        return value | byte << 14, at + 2
    # Most numbers have ended by now.
    value |= (byte & 127) << 14
    byte = data[at + 2]
    at += 3
    shift = 21
    while byte > 127:
        value |= (byte & 127) << shift
        shift += 7
        if shift > 63:
            raise DecodeError("a number has more than ten bytes")
        byte = data[at]
        at += 1
    return (value | byte << shift) & MASK64, at


def any_number(data: bytes, at: int) -> tuple[int, int]:
    """The number at this place, and the place after it."""
    first = data[at]
    return (first, at + 1) if first < 128 else long_number(data, at + 1, first)


def signed64(value: int) -> int:
    """The signed number that has the bits of this unsigned one."""
    return value - (1 << 64) if value & _SIGN64 else value


def signed32(value: int) -> int:
    """The same for the lower 32 bits: enums are signed numbers of 32 bits."""
    value &= MASK32
    return value - (1 << 32) if value & _SIGN32 else value


def numbers(data: bytes, at: int, end: int) -> list[int]:
    """The packed numbers from one place to another."""
    found = []
    while at < end:
        value, at = any_number(data, at)
        found.append(value)
    if at != end:
        raise DecodeError("a number is cut short")
    return found


def packed(values: list[int]) -> bytes:
    """The bytes of packed numbers, without the length in front."""
    return b"".join([number(value) for value in values])


def skip(data: bytes, at: int, key: int, depth: int = 0) -> int:
    """The place after an unknown field whose key was read."""
    wire = key & 7
    if not key >> 3:
        raise DecodeError("a field has the number 0")
    if wire == _WIRE_NUMBER:
        return any_number(data, at)[1]
    if wire == _WIRE_BYTES:
        size, at = any_number(data, at)
        return at + size
    if wire == _WIRE_EIGHT:
        return at + 8
    if wire == _WIRE_FOUR:
        return at + 4
    if wire == _WIRE_GROUP and depth < _GROUPS_MAX:
        while True:
            inner, at = any_number(data, at)
            if inner & 7 == _WIRE_END:
                if inner >> 3 != key >> 3:
                    raise DecodeError("a group ends that did not begin")
                return at
            at = skip(data, at, inner, depth + 1)
    raise DecodeError(f"a field has the wire type {wire}")


FAULTS = (IndexError, ValueError, struct.error)
"""What a decoder raises when the bytes are no message of its kind."""

_M = TypeVar("_M", bound="Message")


class Message:
    """What all messages of `_codec` have in common.

    The messages that a program sends and reads by the thousand have code of their own. All others
    are encoded and decoded by `FIELDS`: that is slower, and the code is a tenth as long.
    """

    __slots__: tuple[str, ...] = ()

    FIELDS: ClassVar[tuple[tuple[int, str, str, str], ...]] = ()
    """For each field its number, its name, its kind, and `optional`, `repeated` or nothing. The
    kind is a scalar, `enum`, or the name of a message."""

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        # The token is a secret, and messages may be logged.
        shown = [
            f"{name}={'***' if name == 'token' else repr(value)}"
            for name in self.__slots__
            if (value := getattr(self, name)) not in (None, "", b"", 0, [], {})
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def encode(self) -> bytes:
        """The bytes of the message."""
        out: list[bytes] = []
        for place, name, kind, label in self.FIELDS:
            value = getattr(self, name)
            if value is None or (not value and label != "optional" and kind in SCALARS):
                continue
            if label != "repeated":
                _put(out, place, kind, value)
            elif kind in NUMBERS:
                _put(out, place, "bytes", packed(value))
            else:
                for item in value:
                    _put(out, place, kind, item)
        return b"".join(out)

    @classmethod
    def read(cls: type[_M], data: bytes, at: int, end: int) -> _M:
        """The message from one place to another. Raises one of `FAULTS`."""
        return read_by_table(cls, data, at, end)

    @classmethod
    def decode(cls: type[_M], data: bytes) -> _M:
        """The message that these bytes are. Raises `DecodeError`."""
        try:
            return cls.read(data, 0, len(data))
        except FAULTS as fault:
            raise DecodeError(f"the bytes are no {cls.__name__}: {fault}") from fault


NUMBERS = frozenset(("enum", "bool", "int32", "int64", "uint32", "uint64"))
SCALARS = NUMBERS | {"double", "string", "bytes"}


def _put(out: list[bytes], place: int, kind: str, value: Any) -> None:
    """Appends one field."""
    if kind in NUMBERS:
        out += (number(place << 3 | _WIRE_NUMBER), number(value))
    elif kind == "double":
        out += (number(place << 3 | _WIRE_EIGHT), struct.pack("<d", value))
    else:
        data = value if kind == "bytes" else value.encode()
        out += (number(place << 3 | _WIRE_BYTES), number(len(data)), data)


def _bool(value: int) -> bool:
    return value != 0


def _uint32(value: int) -> int:
    return value & MASK32


_OF_NUMBER: dict[str, Callable[[int], int]] = {
    "enum": signed32,
    "int32": signed32,
    "int64": signed64,
    "uint32": _uint32,
    "uint64": int,
    "bool": _bool,
}

_Plan = dict[int, tuple[str, str, bool]]
_plans: dict[type[Message], _Plan] = {}
"""For each class the key of a field, and its name, its kind, and whether it is repeated."""


def _plan_of(cls: type[Message]) -> _Plan:
    plan = _plans.get(cls)
    if plan is None:
        plan = {}
        for place, name, kind, label in cls.FIELDS:
            if kind in NUMBERS:
                plan[place << 3 | _WIRE_NUMBER] = (name, kind, label == "repeated")
                if label == "repeated":
                    plan[place << 3 | _WIRE_BYTES] = (name, "packed " + kind, True)
            elif kind == "double":
                plan[place << 3 | _WIRE_EIGHT] = (name, kind, label == "repeated")
            else:
                plan[place << 3 | _WIRE_BYTES] = (name, kind, label == "repeated")
        _plans[cls] = plan
    return plan


def read_by_table(cls: type[_M], data: bytes, at: int, end: int) -> _M:
    """The message from one place to another."""
    message = cls()
    plan = _plan_of(cls)
    while at < end:
        key, at = any_number(data, at)
        found = plan.get(key)
        if found is None:
            at = skip(data, at, key)
            continue
        name, kind, is_repeated = found
        value, at = _value(cls, kind, data, at)
        if not is_repeated:
            setattr(message, name, value)
        elif kind.startswith("packed"):
            getattr(message, name).extend(value)
        else:
            getattr(message, name).append(value)
    if at != end:
        raise DecodeError("a field is cut short")
    return message


def _value(cls: type[Message], kind: str, data: bytes, at: int) -> tuple[Any, int]:
    """The value of a field, and the place after it."""
    if kind == "double":
        return struct.unpack_from("<d", data, at)[0], at + 8
    value, at = any_number(data, at)
    convert = _OF_NUMBER.get(kind)
    if convert is not None:
        return convert(value), at
    stop = at + value
    if kind == "string":
        return data[at:stop].decode(), stop
    if kind == "bytes":
        return data[at:stop], stop
    if kind.startswith("packed"):
        return list(map(_OF_NUMBER[kind[7:]], numbers(data, at, stop))), stop
    inner: type[Message] = getattr(sys.modules[cls.__module__], kind)
    return inner.read(data, at, stop), stop
