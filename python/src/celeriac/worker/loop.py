"""The loop of the driver's thread: waits for channels, for other threads, and for the time."""

from __future__ import annotations

import contextlib
import os
import selectors
from collections.abc import Callable

from celeriac.worker.channel import Channel


class Loop:
    """Waits until a channel can be read or written, or another thread calls `wake`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._channels: dict[Channel, tuple[int, Callable[[], None]]] = {}
        self._is_woken = False

    def wake(self) -> None:
        """Ends the present or the next wait. Any thread may call this."""
        if not self._is_woken:
            self._is_woken = True
            # A full pipe wakes the loop as well, and a closed one has no loop any more.
            with contextlib.suppress(OSError):
                os.write(self._wake_write, b"\0")

    def add(self, channel: Channel, on_readable: Callable[[], None]) -> None:
        """Has `on_readable` called whenever the channel can be read."""
        self._selector.register(channel.socket, channel.events, channel)
        self._channels[channel] = (channel.events, on_readable)

    def remove(self, channel: Channel) -> None:
        """Waits for the channel no longer. Call this before the channel is closed."""
        if self._channels.pop(channel, None) is not None:
            self._selector.unregister(channel.socket)

    def wait(self, seconds: float) -> None:
        """Waits at most this long, and serves the channels that are ready."""
        for channel, (events, on_readable) in self._channels.items():
            if channel.events != events:
                self._selector.modify(channel.socket, channel.events, channel)
                self._channels[channel] = (channel.events, on_readable)
        for key, ready in self._selector.select(max(seconds, 0.0)):
            if key.data is None:
                # First the flag, then the work: a wake in between is not missed.
                os.read(self._wake_read, 4096)
                self._is_woken = False
            else:
                self._serve(key.data, ready)

    def close(self) -> None:
        """Gives the descriptors back."""
        # A later `wake` must not write to a descriptor that is something else by then.
        self._is_woken = True
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _serve(self, channel: Channel, ready: int) -> None:
        if channel not in self._channels:
            # An earlier one of the same round has removed it.
            return
        if ready & selectors.EVENT_READ:
            self._channels[channel][1]()
        elif ready & selectors.EVENT_WRITE:
            channel.flush()
