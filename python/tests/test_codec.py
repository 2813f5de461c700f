"""The generated codec: the same as the contract, and exact to the byte."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

import vectors
from celeriac import _codec, _protobuf
from celeriac._codec import DecodeError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
import generate_codec


def test_the_committed_file_is_what_the_generator_writes() -> None:
    assert generate_codec.TARGET.read_text("utf-8") == generate_codec.generate(), (
        "run python tools/generate_codec.py and commit src/celeriac/_codec.py"
    )


@pytest.mark.parametrize("file_name", ["client.txt", "broker.txt"])
def test_every_vector_is_read_and_written_to_the_byte(file_name: str) -> None:
    cases = vectors.read(file_name)
    assert len(cases) > 40
    for case in cases:
        frame = vectors.frame_of(case.kind, case.text)
        assert frame.encode() == case.frame, case.name
        assert type(frame).decode(case.frame) == frame, case.name


def test_bytes_that_are_written_otherwise_mean_the_same() -> None:
    by_name = {case.name: case for case in vectors.read("broker.txt")}
    seen = 0
    for case in vectors.read("receive.txt"):
        wanted = case.about["then"].removeprefix("same as ")
        if wanted == case.about["then"]:
            continue
        seen += 1
        expected = _codec.ServerFrame.decode(by_name[wanted].frame)
        found = _codec.ServerFrame.decode(case.frame)
        if case.name == "welcome/features":
            assert isinstance(found.body, _codec.Welcome)
            found.body.features = []
        assert found == expected, case.name
    assert seen >= 9


def test_an_unknown_value_of_an_enum_is_kept_and_an_unknown_field_is_skipped() -> None:
    frame = _codec.ServerFrame.decode(bytes.fromhex("08 02 82 02 09 0a 07 08 e8 07 10 03 18 02"))
    assert isinstance(frame.body, _codec.SubmitReply)
    assert frame.body.outcomes[0].kind == 1000
    for case in vectors.read("receive.txt"):
        if case.name in ("unknown/push", "unknown/answer"):
            assert _codec.ServerFrame.decode(case.frame).body is None


def test_bytes_that_are_no_message_are_an_error_and_never_another_exception() -> None:
    seeds = [case.frame for case in vectors.read("broker.txt")]
    chance = random.Random(23537)
    refused = 0
    for _ in range(20_000):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        cut = bytes(data[: chance.randint(1, len(data))])
        try:
            _codec.ServerFrame.decode(cut)
        except DecodeError:
            refused += 1
    assert refused > 5_000


def test_every_end_that_is_cut_off_is_noticed_or_leaves_whole_fields() -> None:
    """A frame that is cut within a field must not pass for a shorter message."""
    for case in vectors.read("broker.txt"):
        whole = _codec.ServerFrame.decode(case.frame)
        # At each byte of a short frame, and at 500 places of a long one.
        for size in range(1, len(case.frame), 1 + len(case.frame) // 500):
            try:
                part = _codec.ServerFrame.decode(case.frame[:size])
            except DecodeError:
                continue
            assert part != whole, case.name
            assert part.encode() == case.frame[:size], case.name


@pytest.mark.parametrize(
    "data",
    ["00 00 de ad", "0a", "08 80", "08 ff ff ff ff ff ff ff ff ff ff 01", "0b", "0f 00", "0c"],
)
def test_broken_bytes_are_refused(data: str) -> None:
    for kind in (_codec.ServerFrame, _codec.TaskInfo, _codec.Welcome, _codec.Done):
        with pytest.raises(DecodeError):
            kind.decode(bytes.fromhex(data))


def test_an_unknown_group_is_skipped() -> None:
    group = bytes.fromhex("c3 3e 08 01 cb 3e cc 3e c4 3e")
    assert _codec.Done.decode(group) == _codec.Done()
    frame = _codec.ServerFrame.decode(b"\x08\x02" + group + b"\x92\x01\x00")
    assert frame == _codec.ServerFrame(request_id=2, body=_codec.Done())
    with pytest.raises(DecodeError):
        _codec.Done.decode(b"\xc3\x3e" * 100)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 2047, 2048, 16383, 16384, 2**32, 2**64 - 1])
def test_numbers_keep_their_value(value: int) -> None:
    data = _protobuf.number(value)
    assert _protobuf.any_number(data, 0) == (value, len(data))
    order = _codec.Delivery(id="a", lease=value)
    assert _codec.Delivery.decode(order.encode()) == order


def test_signed_numbers_and_doubles_keep_their_value() -> None:
    for value in (-1, -(2**63), 2**63 - 1, 0):
        info = _codec.TaskInfo(submitted_at_ms=value, eta_at_ms=value)
        assert _codec.TaskInfo.decode(info.encode()) == info
        reply = _codec.HeartbeatReply(server_time_ms=value)
        assert _codec.HeartbeatReply.decode(reply.encode()) == reply
    policy = _codec.RetryPolicy(factor=1.5, max_attempts=0)
    assert _codec.RetryPolicy.decode(policy.encode()) == policy


def test_the_token_is_not_in_the_text_of_a_message() -> None:
    hello = _codec.Hello(client_name="x", token="s3cret")
    frame = _codec.ClientFrame(request_id=1, body=hello)
    assert "s3cret" not in repr(frame)
    assert "client_name='x'" in repr(frame)
