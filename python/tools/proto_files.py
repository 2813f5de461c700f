"""Reads `.proto` files into plain objects, as far as the files of Celeriac need it.

The reader knows messages, enums, `oneof`, `optional`, `repeated` and `map`, and comments above
them. It refuses what it does not know, so that nothing is lost in silence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

SCALARS = frozenset(
    ("double", "int32", "int64", "uint32", "uint64", "bool", "string", "bytes"),
)

_TOKEN = re.compile(r'"[^"]*"|[A-Za-z_][\w.]*|\d+|[{}=;<>,\[\]-]')


@dataclass
class Field:
    """One field of a message."""

    name: str
    number: int
    kind: str
    """A scalar, or the Python name of a message or an enum."""
    is_repeated: bool = False
    is_optional: bool = False
    oneof: str = ""
    map_value: str = ""
    """The kind of the values of a map; its keys are strings."""


@dataclass
class Message:
    """One message. The name of a nested message begins with those around it."""

    name: str
    about: str
    fields: list[Field] = field(default_factory=list)


@dataclass
class Enum:
    """One enum, with its values in the order of the file."""

    name: str
    about: str
    values: list[tuple[str, int]] = field(default_factory=list)


@dataclass
class Contract:
    """All messages and enums of the files, in their order."""

    messages: list[Message] = field(default_factory=list)
    enums: list[Enum] = field(default_factory=list)


def read_folder(folder: Path) -> Contract:
    """Reads all `.proto` files of the folder, in the order of their names."""
    contract = Contract()
    for path in sorted(folder.glob("*.proto")):
        _File(path, contract).read()
    _resolve(contract)
    return contract


class _File:
    """Reads one file."""

    def __init__(self, path: Path, contract: Contract) -> None:
        self._path = path
        self._contract = contract
        self._tokens: list[tuple[str, str]] = []
        """Each token, and the comment that stands right above it."""
        self._at = 0

    def read(self) -> None:
        self._split()
        while self._at < len(self._tokens):
            word, about = self._next()
            if word in ("syntax", "package", "option", "import"):
                while self._next()[0] != ";":
                    pass
            elif word == "message":
                self._message("", about)
            elif word == "enum":
                self._enum("", about)
            else:
                raise self._unknown(word)

    def _split(self) -> None:
        about: list[str] = []
        for line in self._path.read_text("utf-8").splitlines():
            code, comment, text = line.partition("//")
            words = _TOKEN.findall(code)
            if re.sub(r"\s", "", code) != re.sub(r"\s", "", "".join(words)):
                raise self._unknown(line)
            if comment and not words:
                about.append(text.strip())
                continue
            if words:
                self._tokens.append((words[0], " ".join(about)))
                self._tokens += [(word, "") for word in words[1:]]
            about = []

    def _next(self) -> tuple[str, str]:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _expect(self, wanted: str) -> None:
        word, _ = self._next()
        if word != wanted:
            raise self._unknown(word)

    def _unknown(self, text: str) -> ValueError:
        return ValueError(f"{self._path.name}: the generator does not know {text!r} here")

    def _message(self, outer: str, about: str) -> None:
        message = Message(outer + self._next()[0], about)
        self._contract.messages.append(message)
        self._expect("{")
        oneof = ""
        while True:
            word, about = self._next()
            if word == "}":
                if not oneof:
                    return
                oneof = ""
            elif word == "oneof":
                oneof, _ = self._next()
                self._expect("{")
            elif word == "message":
                self._message(message.name, about)
            elif word == "enum":
                self._enum(message.name, about)
            elif word == "reserved":
                while self._next()[0] != ";":
                    pass
            else:
                message.fields.append(self._field(word, oneof))

    def _field(self, word: str, oneof: str) -> Field:
        read = Field("", 0, word, oneof=oneof)
        if word in ("optional", "repeated"):
            read.is_optional = word == "optional"
            read.is_repeated = word == "repeated"
            read.kind, _ = self._next()
        elif word == "map":
            self._expect("<")
            self._expect("string")
            self._expect(",")
            read.map_value, _ = self._next()
            self._expect(">")
            read.kind = "map"
        read.name, _ = self._next()
        self._expect("=")
        read.number = int(self._next()[0])
        self._expect(";")
        return read

    def _enum(self, outer: str, about: str) -> None:
        enum = Enum(outer + self._next()[0], about)
        self._contract.enums.append(enum)
        short = enum.name.removeprefix(outer)
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", short).upper() + "_"
        self._expect("{")
        while (word := self._next()[0]) != "}":
            self._expect("=")
            enum.values.append((word.removeprefix(prefix), int(self._next()[0])))
            self._expect(";")


def _resolve(contract: Contract) -> None:
    """Gives each field that names a message or an enum the Python name of it."""
    names = {kind.name for kind in (*contract.messages, *contract.enums)}
    for message in contract.messages:
        for each in message.fields:
            kind = each.map_value or each.kind
            if kind in SCALARS:
                continue
            found = [name for name in (message.name + kind, kind.replace(".", "")) if name in names]
            if not found or each.map_value:
                raise ValueError(f"{message.name}.{each.name} has the unknown type {kind}")
            each.kind = found[0]
