"""How arguments and results are written and read."""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import uuid

import pytest

from celeriac.errors import CeleriacError
from celeriac.payload import (
    DEPTH_MAX,
    JSON,
    NotDecodable,
    NotEncodable,
    codec_for,
    codec_of,
    from_json,
    to_json,
)


def nested(levels: int) -> list[object]:
    value: list[object] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_a_call_is_written_as_the_other_clients_write_it():
    assert JSON.encode_call((), {}) == b"[[],{}]"
    assert JSON.encode_call(("Dynamite",), {}) == b'[["Dynamite"],{}]'
    assert (
        JSON.encode_call((1, (2.5, None)), {"näme": True})
        == '[[1,[2.5,null]],{"näme":true}]'.encode()
    )


def test_a_call_is_read_as_the_other_clients_read_it():
    assert JSON.decode_call(b'[["a"], {"b": 1}]') == (["a"], {"b": 1})
    assert JSON.decode_call(b"[null,null]") == ((), {})
    assert JSON.decode_call(b" \n[ [1 , 2],{ }]\t\n") == ([1, 2], {})
    for wrong in (
        b"",
        b"{}",
        b"[1]",
        b"[{},[]]",
        b"[[],{},1]",
        b"[[NaN],{}]",
        b"\xff",
        b"garbage",
        b"[[],{}]x",
        b" ",
    ):
        with pytest.raises(NotDecodable):
            JSON.decode_call(wrong)


class Colour(str, enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        (math.nan, "$", "no number nan"),
        ([1.0, math.inf], "$[1]", "no number inf"),
        ({"a": [{1, 2}]}, "$.a[0]", "type set; write sorted(value)"),
        ({"at": datetime.datetime(2026, 1, 1)}, "$.at", "isoformat"),
        ([datetime.timedelta(1)], "$[0]", "total_seconds"),
        (decimal.Decimal("1.5"), "$", "str(value)"),
        (uuid.UUID(int=1), "$", "str(value)"),
        (b"x", "$", "codec='bytes'"),
        ({(1, 2): 3}, "$", "the key (1, 2) is not a text"),
        (["\ud800"], "$[0]", "surrogate"),
        (object(), "$", "type object; write it as texts"),
        (nested(DEPTH_MAX + 1), "$[0][0]", "at most 127 deep"),
    ],
)
def test_what_nobody_could_read_is_refused_with_its_place(value, path, words):
    with pytest.raises(NotEncodable) as caught:
        to_json(value)
    assert caught.value.path.startswith(path)
    assert words in caught.value.reason
    assert isinstance(caught.value, CeleriacError)
    assert not caught.value.retryable


def test_a_value_that_contains_itself_is_refused():
    value: list[object] = []
    value.append(value)
    with pytest.raises(NotEncodable):
        to_json(value)


def test_the_deepest_value_that_is_accepted_is_read_again():
    value = nested(DEPTH_MAX)
    assert from_json(to_json(value)) == value


def test_many_brackets_on_one_level_are_no_depth():
    assert from_json(to_json([[]] * 1000)) == [[]] * 1000


def test_texts_and_numbers_are_read_as_they_were_written():
    value = ['ä\U0001f600\n"', 0.1, -0.0, 1e300, 2**63, -(2**63), True, None, Colour.RED]
    assert from_json(to_json(value)) == [
        'ä\U0001f600\n"',
        0.1,
        -0.0,
        1e300,
        2**63,
        -(2**63),
        True,
        None,
        "red",
    ]


def test_the_place_of_a_wrong_argument_is_in_the_words_of_the_caller():
    with pytest.raises(NotEncodable, match=r"^args\[1\]\.a: "):
        JSON.encode_call((1, {"a": {2}}), {})
    with pytest.raises(NotEncodable, match=r"^kwargs\.b: "):
        JSON.encode_call((), {"b": {2}})


def test_json_that_is_nested_without_end_is_refused():
    with pytest.raises(NotDecodable):
        from_json(b"[" * 200_000)


def test_bytes_take_one_argument():
    codec = codec_of("bytes")
    assert codec.encode_call((b"ab",), {}) == b"ab"
    assert codec.decode_call(b"ab") == ((b"ab",), {})
    assert codec.encode_result(bytearray(b"c")) == b"c"
    for args, kwargs in [((), {}), ((b"a", b"b"), {}), (("text",), {}), ((b"a",), {"b": 1})]:
        with pytest.raises(NotEncodable):
            codec.encode_call(args, kwargs)


def test_msgpack_holds_bytes_and_says_what_it_cannot_hold():
    pytest.importorskip("msgpack")
    codec = codec_of("msgpack")
    assert codec.decode_call(codec.encode_call((b"a",), {"b": 1})) == ([b"a"], {"b": 1})
    assert codec_for("application/msgpack") is codec
    with pytest.raises(NotEncodable):
        codec.encode_result({1, 2})
    with pytest.raises(NotDecodable):
        codec.decode_call(b"\xc1")


def test_a_codec_is_one_of_the_known_ones_or_an_object():
    with pytest.raises(ValueError, match="never uses pickle"):
        codec_of("pickle")
    with pytest.raises(NotDecodable, match="x-unknown"):
        codec_for("application/x-unknown")
