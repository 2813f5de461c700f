"""Checks values before they are sent. Each error names the option, and what it takes."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

from celeriac.errors import InvalidArgument, WrongType

Span = int | float | timedelta
"""A span of time: a number of seconds, or a `timedelta`."""

NAME_BYTES_MAX = 255
UINT32_MAX = 0xFFFF_FFFF
UINT64_MAX = 0xFFFF_FFFF_FFFF_FFFF
SPAN_MS_MAX = 100 * 365 * 24 * 3600 * 1000
TIME_MS_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999."""
TAGS_MAX = 32
HEADERS_MAX = 256
HEADER_BYTES_MAX = 64 * 1024

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MILLISECOND = timedelta(milliseconds=1)
_T = TypeVar("_T")


def _wrong(option: str, value: object, wanted: str) -> WrongType:
    return WrongType(f"{option} is a {type(value).__name__}; it must be {wanted}")


def _bytes_of(option: str, value: object) -> bytes:
    if not isinstance(value, str):
        raise _wrong(option, value, "a text")
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{option} has a character that UTF-8 cannot hold") from None


def text(option: str, value: str) -> str:
    """A short text: at most 255 bytes, and perhaps empty."""
    if len(_bytes_of(option, value)) > NAME_BYTES_MAX:
        raise InvalidArgument(f"{option} has more than {NAME_BYTES_MAX} bytes")
    return value


def key(option: str, value: str) -> str:
    """An id or a name: 1 to 255 bytes."""
    if not 0 < len(_bytes_of(option, value)) <= NAME_BYTES_MAX:
        raise InvalidArgument(f"{option} must have 1 to {NAME_BYTES_MAX} bytes")
    return value


def keys(option: str, values: Iterable[str] | str) -> list[str]:
    """Some ids or names. One text alone is a list of one."""
    if isinstance(values, str):
        return [key(option, values)]
    if not isinstance(values, Iterable):
        raise _wrong(option, values, "a text, or a list of texts")
    return [key(option, value) for value in values]


def texts(option: str, values: Iterable[str]) -> tuple[str, ...]:
    """Tags: a list of short texts, none of them empty."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise _wrong(option, values, "a list of texts")
    found = tuple(key(option, value) for value in values)
    if len(found) > TAGS_MAX:
        raise InvalidArgument(f"{option} has {len(found)} texts, and {TAGS_MAX} are allowed")
    return found


def headers(values: Mapping[str, str | bytes]) -> dict[str, bytes]:
    """Headers: texts are encoded as UTF-8."""
    if not isinstance(values, Mapping):
        raise _wrong("headers", values, "a mapping of names to texts or bytes")
    found = {}
    size = 0
    for name, value in values.items():
        key("the name of a header", name)
        encoded = value if isinstance(value, bytes) else _bytes_of(f"the header {name!r}", value)
        found[name] = encoded
        size += len(name.encode()) + len(encoded)
    if len(found) > HEADERS_MAX or size > HEADER_BYTES_MAX:
        raise InvalidArgument(
            f"headers has {len(found)} entries of {size} bytes together; "
            f"{HEADERS_MAX} entries and {HEADER_BYTES_MAX} bytes are allowed"
        )
    return found


def whole(option: str, value: int | None, least: int, most: int) -> int | None:
    """A whole number within bounds. True and False are none."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(option, value, "a whole number")
    if not least <= value <= most:
        raise InvalidArgument(f"{option} is {value}; it must be {least} to {most}")
    return value


def real(option: str, value: float | None, least: float, most: float) -> float | None:
    """A number within bounds."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(option, value, "a number")
    if not least <= value <= most:
        raise InvalidArgument(f"{option} is {value}; it must be {least} to {most}")
    return float(value)


def flag(option: str, value: bool) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise _wrong(option, value, "True or False")
    return value


def data(option: str, value: Any) -> bytes:
    """Bytes of any kind."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise _wrong(option, value, "bytes")


def instance(option: str, value: _T, kind: type[_T]) -> _T:
    """An object of this class."""
    if not isinstance(value, kind):
        raise _wrong(option, value, f"a {kind.__name__}")
    return value


def member(option: str, value: Any, kind: type[enum.Enum]) -> int:
    """The number of a member of an enum, which may be given by its name."""
    if isinstance(value, str) and value.upper() in kind.__members__:
        value = kind[value.upper()]
    if isinstance(value, kind):
        return int(value.value)
    names = ", ".join(kind.__members__)
    if isinstance(value, str):
        raise InvalidArgument(f"{option} is {value!r}; it must be one of {names}")
    raise _wrong(option, value, f"a {kind.__name__}: one of {names}")


def span_ms(option: str, value: Span | None, least_ms: int = 0) -> int | None:
    """A span in milliseconds. A span above 0 counts as 1 ms at least."""
    if value is None:
        return None
    if isinstance(value, timedelta):
        milliseconds, rest = divmod(value, _MILLISECOND)
        milliseconds += bool(rest)
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(option, value, "a number of seconds or a timedelta")
    elif isinstance(value, int):
        milliseconds = value * 1000
    elif not math.isfinite(value):
        raise InvalidArgument(f"{option} is {value}; it must be a finite number of seconds")
    else:
        milliseconds = math.ceil(value * 1000 - 1e-6)
    if milliseconds < 0:
        raise InvalidArgument(f"{option} is negative")
    if milliseconds > SPAN_MS_MAX:
        raise InvalidArgument(f"{option} is longer than 100 years")
    if milliseconds < least_ms:
        raise InvalidArgument(f"{option} must be at least {least_ms} ms")
    return milliseconds


_to_aware: Callable[[datetime], datetime] = datetime.astimezone


def set_to_aware(to_aware: Callable[[datetime], datetime]) -> None:
    """From now on this function gives naive datetimes their time zone, in place of the local time
    of the process. A framework with a time zone of its own, such as Django, calls this."""
    global _to_aware
    _to_aware = to_aware


def time_ms(option: str, value: datetime | None) -> int | None:
    """A time in milliseconds since 1970. A naive datetime is local time."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise _wrong(option, value, "a datetime")
    try:
        aware = _to_aware(value) if value.utcoffset() is None else value
        milliseconds = (aware - EPOCH) // _MILLISECOND
    except (OverflowError, ValueError, OSError):
        milliseconds = -1
    if not 0 <= milliseconds <= TIME_MS_MAX:
        raise InvalidArgument(f"{option} must lie between the years 1970 and 9999")
    return milliseconds


def time_of(milliseconds: int | None) -> datetime | None:
    """The time in UTC. None when the broker names a time that Python cannot show."""
    if milliseconds is None:
        return None
    try:
        return EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None


def seconds(option: str, value: float | timedelta | None, default: float) -> float:
    """The time of a call, in seconds. `math.inf` is allowed."""
    if value is None:
        return default
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(option, value, "a number of seconds")
    if math.isnan(value) or value < 0:
        raise InvalidArgument(f"{option} is {value}; it must be 0 or more seconds")
    return float(value)
