"""Framing: bytes come in any parts, and only frames within the limit go on."""

from __future__ import annotations

import random

import pytest

from celeriac._wire import FrameFault, FrameReader, other_protocol


def frames_of(data: bytes, sizes: list[int], limit: int = 1 << 20) -> list[bytes]:
    reader = FrameReader(limit)
    found: list[bytes] = []
    at = 0
    for size in [*sizes, len(data)]:
        found += reader.feed(data[at : at + size])
        at += size
    assert not reader.is_within_a_frame
    return found


def test_frames_are_the_same_in_whatever_parts_they_come() -> None:
    chance = random.Random(1)
    wanted = [chance.randbytes(chance.choice([1, 2, 5, 300, 70_000])) for _ in range(40)]
    data = b"".join(len(each).to_bytes(4, "big") + each for each in wanted)
    for most in (1, 3, 1000, 1 << 20):
        rest, sizes = len(data), []
        while rest > 0:
            sizes.append(chance.randint(1, most))
            rest -= sizes[-1]
        assert frames_of(data, sizes) == wanted


@pytest.mark.parametrize("length", [0, 1025, 1 << 31, (1 << 32) - 1])
def test_a_length_of_0_or_over_the_limit_is_no_frame(length: int) -> None:
    with pytest.raises(FrameFault, match=str(length)):
        list(FrameReader(1024).feed(length.to_bytes(4, "big")))
    assert list(FrameReader(1024).feed(b"\0\0\4\0" + b"x" * 1024)) == [b"x" * 1024]


def test_the_limit_may_change_between_two_frames() -> None:
    reader = FrameReader(4)
    found = []
    for frame in reader.feed(b"\0\0\0\1a" + b"\0\0\0\5bcdef"):
        found.append(frame)
        reader.limit = 5
    assert found == [b"a", b"bcdef"]


def test_an_announced_length_takes_no_memory() -> None:
    tracemalloc = pytest.importorskip("tracemalloc", reason="PyPy has no tracemalloc")
    tracemalloc.start()
    reader = FrameReader(1 << 30)
    assert list(reader.feed((1 << 30).to_bytes(4, "big") + b"x")) == []
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 20
    assert reader.is_within_a_frame


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x28", "TLS"),
        (b"AMQP\x00\x00\x09\x01", "AMQP"),
        (b"-ERR unknown command", "Redis"),
        (b"SSH-2.0-OpenSSH", "SSH"),
        (b"\x00\x00\x00\x64\x08\x01", ""),
    ],
)
def test_other_protocols_are_recognised(data: bytes, name: str) -> None:
    assert other_protocol(data) == name
