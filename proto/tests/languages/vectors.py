"""Reads vectors/*.txt as any client could, and holds them against what protobuf itself makes of them.

Run with the folder of the vectors, and with what protoc wrote for Python on PYTHONPATH.
"""

import sys
from pathlib import Path

from google.protobuf import text_format
from celeriac.v1 import frame_pb2


def records(path):
    """One dictionary for each record: `key: value`, or what is indented below `key:`."""
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        record, key = {}, None
        for line in block.splitlines():
            if line.startswith("  "):
                record[key] = record.get(key, "") + line + "\n"
            elif not line.startswith("#"):
                key, _, value = line.partition(":")
                if value:
                    record[key] = value.strip()
        if "name" in record:
            yield record


def message(record):
    """The bytes without the length in front, which has to be right."""
    frame = bytes.fromhex(record["bytes"])
    length = int.from_bytes(frame[:4], "big")
    assert length == len(frame) - 4, f"{record['name']}: {length} bytes are announced"
    return frame[4:]


def check(path, kind):
    """Bytes and text say the same, and protobuf writes the same bytes."""
    known = {}
    for record in records(path):
        read = kind.FromString(message(record))
        assert read == text_format.Parse(record[kind.__name__], kind()), f"{record['name']}: text and bytes differ"
        assert read.SerializeToString(deterministic=True) == message(record), f"{record['name']}: other bytes"
        known[record["name"]] = read
    return known


def check_received(path, known):
    """What means the same as another frame is read as that one, once what nobody knows is dropped."""
    same = 0
    for record in records(path):
        if record["then"].startswith("same as "):
            read = frame_pb2.ServerFrame.FromString(message(record))
            read.DiscardUnknownFields()
            if read.HasField("welcome"):
                read.welcome.ClearField("features")
            expected = known[record["then"].removeprefix("same as ")]
            assert read == expected, f"{record['name']}: not the same as {record['then']}"
            same += 1
    return same


def main(folder):
    clients = check(folder / "client.txt", frame_pb2.ClientFrame)
    broker = check(folder / "broker.txt", frame_pb2.ServerFrame)
    same = check_received(folder / "receive.txt", broker)
    assert len(clients) > 30 and len(broker) > 30 and same > 5, "the vectors are found"
    print(f"{len(clients)} frames of clients, {len(broker)} of the broker, {same} in other bytes")


main(Path(sys.argv[1]))
