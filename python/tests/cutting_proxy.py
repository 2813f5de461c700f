"""A network between a client and a broker that breaks at a chosen byte."""

from __future__ import annotations

import contextlib
import socket
import threading


class CuttingProxy:
    """Passes bytes on, and cuts the first connection after so many bytes up or down. All later
    connections are whole."""

    def __init__(self, port: int, *, up: int | None = None, down: int | None = None) -> None:
        self._target = port
        self._limits: tuple[int | None, int | None] = (up, down)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._frozen: set[socket.socket] = set()
        self.cuts = 0
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"celeriac://127.0.0.1:{self._listener.getsockname()[1]}"

    def freeze(self) -> None:
        """From now on the connections that are open pass on nothing, and stay open."""
        self._frozen.update(self._open)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                broker = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            self._open += [client, broker]
            up, down = self._limits
            self._limits = (None, None)
            self.accepted += 1
            for source, target, limit in ((client, broker, up), (broker, client, down)):
                threading.Thread(
                    target=self._pass_on, args=(source, target, limit), daemon=True
                ).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, limit: int | None) -> None:
        left = limit
        with contextlib.suppress(OSError):
            while left is None or left > 0:
                data = source.recv(65536 if left is None else left)
                if not data:
                    break
                if source in self._frozen:
                    continue
                target.sendall(data)
                if left is not None:
                    left -= len(data)
        if limit is not None and left is not None and left <= 0:
            self.cuts += 1
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> CuttingProxy:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for each in [self._listener, *self._open]:
            each.close()
