"""Writes and reads the arguments and the results of tasks.

The default is JSON, and a payload is then `[args, kwargs]`, so that programs in Rust and Python
can call each other. A task may have another codec: `bytes`, `msgpack`, or an object of its own.
There is no pickle: whoever may submit a task could then run any code in the worker.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from celeriac.errors import CeleriacError

#: The content type of a payload or a result that names none.
JSON_TYPE = "application/json"

#: The content type of a result that an app of Celery has stored.
CELERY_TYPE = "application/vnd.celeriac.celery-meta"

#: The deepest nesting of lists and dicts that readers of JSON accept, the outermost included.
DEPTH_MAX = 127

#: The longest path in an error.
PATH_LENGTH_MAX = 200


class NotEncodable(CeleriacError, ValueError):
    """A value cannot be written by its codec. `path` is the place in the value: `$.scores[3]`."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class NotDecodable(CeleriacError, ValueError):
    """The bytes of a payload or a result are not what its content type says."""


@runtime_checkable
class Codec(Protocol):
    """What a codec of your own has. Give an instance as the `codec` of a task."""

    @property
    def content_type(self) -> str:
        """The content type that readers find beside the bytes."""
        ...

    def encode_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """The payload of a call."""
        ...

    def decode_call(self, data: bytes) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The arguments of a payload."""
        ...

    def encode_result(self, value: Any) -> bytes:
        """The result of a task."""
        ...

    def decode_result(self, data: bytes) -> Any:
        """The value of a result."""
        ...


def _refuse(value: object) -> Any:
    # json calls this for a value that it cannot write. `_fault` finds the place and the reason.
    raise TypeError(type(value).__name__)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")


# A value that contains itself ends as a RecursionError, so that the check for circles, which costs
# time at every list, is not needed.
_encoder = json.JSONEncoder(
    ensure_ascii=False,
    check_circular=False,
    allow_nan=False,
    separators=(",", ":"),
    default=_refuse,
)
_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def _text_encoder() -> Callable[[Any], str]:
    """What writes a value as JSON. `JSONEncoder.encode` makes its inner encoder anew at each call,
    which takes longer than a small value itself: one that was made before does the same."""
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    try:
        quoted = json.encoder.encode_basestring
        encode = make(None, _refuse, quoted, None, ":", ",", False, False, False)
        encode({"": [None]}, 0)
    except (AttributeError, TypeError):
        # Another Python than CPython, or one with another inner encoder.
        return _encoder.encode
    return lambda value: "".join(encode(value, 0))


def _scanned(text: str) -> Any:
    """The value of a JSON text. Nearly all texts have no space around the value."""
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        return _decoder.decode(text)
    return value if end == len(text) else _decoder.decode(text)


_encode_text = _text_encoder()
# PyPy has no encoder in C, and a decoder of its own behind `decode`.
_has_c = getattr(json.encoder, "c_make_encoder", None) is not None
_decode_text: Callable[[str], Any] = _scanned if _has_c else _decoder.decode
_scan: Callable[[str, int], tuple[Any, int]] = _decoder.scan_once  # type: ignore[attr-defined]


def to_json(value: Any) -> bytes:
    """Writes a value as JSON that every reader can read back, or raises `NotEncodable`."""
    try:
        text = _encode_text(value)
        data = text.encode()
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise (_fault(value) or NotEncodable("$", str(error) or type(error).__name__)) from None
    # There are at least as many brackets as levels. Only a value with many of them is walked.
    if text.count("[") + text.count("{") > DEPTH_MAX:
        fault = _fault(value)
        if fault is not None:
            raise fault
    return data


def from_json(data: bytes) -> Any:
    """Reads JSON, or raises `NotDecodable`."""
    try:
        return _decode_text(str(data, "utf-8"))
    except RecursionError:
        raise NotDecodable("the JSON is nested too deep") from None
    except ValueError as error:
        raise NotDecodable(f"the bytes are not JSON: {error}") from None


class JsonCodec:
    """The default: a payload is the JSON array `[args, kwargs]`, a result any JSON value."""

    content_type = JSON_TYPE

    def encode_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """The payload of a call."""
        if not args and not kwargs:
            return b"[[],{}]"
        try:
            return to_json((args, kwargs))
        except NotEncodable as error:
            raise NotEncodable(_argument_path(error.path), error.reason) from None

    def decode_call(self, data: bytes) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The arguments of a payload."""
        call = from_json(data)
        if type(call) is list and len(call) == 2:
            args, kwargs = call
            if (args is None or type(args) is list) and (kwargs is None or type(kwargs) is dict):
                return args or (), kwargs or {}
        raise NotDecodable("the payload is not [args, kwargs] in JSON")

    def encode_result(self, value: Any) -> bytes:
        """The result of a task."""
        return to_json(value)

    def decode_result(self, data: bytes) -> Any:
        """The value of a result."""
        return from_json(data)


class BytesCodec:
    """Bytes as they are: a call has one argument, of the type `bytes`, and so has the result."""

    content_type = "application/octet-stream"

    def encode_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """The payload of a call."""
        if len(args) != 1 or kwargs:
            raise NotEncodable("args", "a task with the codec `bytes` takes one argument, by place")
        return self._bytes("args[0]", args[0])

    def decode_call(self, data: bytes) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The arguments of a payload."""
        return (data,), {}

    def encode_result(self, value: Any) -> bytes:
        """The result of a task."""
        return b"" if value is None else self._bytes("$", value)

    def decode_result(self, data: bytes) -> Any:
        """The value of a result."""
        return data

    @staticmethod
    def _bytes(path: str, value: object) -> bytes:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        raise NotEncodable(path, f"a value of the type {_named(value)} is not bytes")


class MsgpackCodec:
    """MessagePack, with the same `[args, kwargs]`. It needs the package `msgpack`."""

    content_type = "application/msgpack"

    def __init__(self) -> None:
        try:
            import msgpack
        except ImportError:
            raise ImportError(
                "The codec `msgpack` needs the package msgpack: pip install msgpack"
            ) from None
        self._pack: Callable[..., Any] = msgpack.packb
        self._unpack: Callable[..., Any] = msgpack.unpackb

    def encode_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """The payload of a call."""
        return self.encode_result([list(args), dict(kwargs)])

    def decode_call(self, data: bytes) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The arguments of a payload."""
        call = self.decode_result(data)
        if isinstance(call, list) and len(call) == 2:
            args, kwargs = call
            if isinstance(args, list) and isinstance(kwargs, dict):
                return args, kwargs
        raise NotDecodable("the payload is not [args, kwargs] in MessagePack")

    def encode_result(self, value: Any) -> bytes:
        """The result of a task."""
        try:
            return bytes(self._pack(value))
        except (TypeError, ValueError, OverflowError) as error:
            raise NotEncodable("$", f"MessagePack cannot hold the value: {error}") from None

    def decode_result(self, data: bytes) -> Any:
        """The value of a result."""
        try:
            return self._unpack(data)
        except Exception as error:
            raise NotDecodable(f"the bytes are not MessagePack: {error}") from None


JSON = JsonCodec()
_BYTES = BytesCodec()
_by_type: dict[str, Codec] = {"": JSON, JSON_TYPE: JSON, _BYTES.content_type: _BYTES}


def codec_of(choice: str | Codec) -> Codec:
    """The codec of a `codec` option: one of the names `json`, `bytes`, `msgpack`, or an object.

    Results that come with the content type of an object are read with it from now on.
    """
    if choice == "json":
        return JSON
    if choice == "bytes":
        return _BYTES
    if choice == "msgpack":
        return codec_for(MsgpackCodec.content_type)
    if isinstance(choice, str) or not isinstance(choice, Codec):
        raise ValueError(
            f"codec is {choice!r}; it is 'json', 'bytes', 'msgpack', or an object with the methods "
            "of celeriac.payload.Codec. Celeriac never uses pickle."
        )
    _by_type[choice.content_type] = choice
    return choice


def codec_for(content_type: str) -> Codec:
    """The codec of this content type, or `NotDecodable`."""
    codec = _by_type.get(content_type)
    if codec is None and content_type == MsgpackCodec.content_type:
        codec = _by_type[content_type] = MsgpackCodec()
    if codec is None:
        raise NotDecodable(f"no codec of this program reads the content type {content_type!r}")
    return codec


def celery_value(data: bytes, task_id: str) -> Any:
    """The value in a result that an app of Celery has stored, which is JSON unless the app has
    another `result_serializer`."""
    try:
        return from_json(data)["result"]
    except (NotDecodable, KeyError, TypeError):
        raise NotDecodable(
            "an app of Celery has stored the result, with a result_serializer other than json or "
            f"with result_compression; read it in that app: app.AsyncResult({task_id!r}).get()"
        ) from None


def _fault(value: Any) -> NotEncodable | None:
    """Finds the first place in a value that JSON cannot hold."""
    todo: list[tuple[Any, str, int]] = [(value, "$", 1)]
    while todo:
        item, path, depth = todo.pop()
        if isinstance(item, (list, tuple)):
            parts = [(part, f"{path}[{place}]") for place, part in enumerate(item)]
        elif isinstance(item, dict):
            for key in item:
                if not isinstance(key, (str, int, float, bool, type(None))):
                    return NotEncodable(path, f"the key {key!r:.60} is not a text")
            parts = [(part, f"{path}.{key}") for key, part in item.items()]
        else:
            reason = _reason(item)
            if reason:
                return NotEncodable(path, reason)
            continue
        if depth > DEPTH_MAX:
            reason = f"lists and dicts inside each other are at most {DEPTH_MAX} deep"
            return NotEncodable(path[:PATH_LENGTH_MAX], reason)
        todo.extend((part, place, depth + 1) for part, place in reversed(parts))
    return None


def _reason(value: object) -> str:
    """Why JSON cannot hold a value that is neither a list nor a dict; empty when it can."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "the text has half of a surrogate pair, which UTF-8 cannot hold"
        return ""
    if isinstance(value, float):
        return "" if value - value == 0 else f"JSON has no number {value}"
    if value is None or isinstance(value, (bool, int)):
        return ""
    name = _named(value)
    hints = {
        "datetime.datetime": "write value.isoformat()",
        "datetime.date": "write value.isoformat()",
        "datetime.timedelta": "write value.total_seconds()",
        "decimal.Decimal": "write str(value)",
        "uuid.UUID": "write str(value)",
        "builtins.set": "write sorted(value)",
        "builtins.frozenset": "write sorted(value)",
        "builtins.bytes": "write value.decode(), or choose codec='bytes' or codec='msgpack'",
    }
    hint = hints.get(name, "write it as texts, numbers, lists and dicts")
    return f"JSON cannot hold a value of the type {name.removeprefix('builtins.')}; {hint}"


def _argument_path(path: str) -> str:
    """The place in a call, in the caller's words: `args[0].title`, `kwargs.limit`."""
    for prefix, word in (("$[0]", "args"), ("$[1]", "kwargs")):
        if path.startswith(prefix):
            return word + path[len(prefix) :]
    return path


def _named(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
