"""Sending a file's bytes to a socket inside the kernel, in a thread while the client is fast."""

import os
import select
import socket
import time

_CHUNK = 4 * 1024 * 1024
_POLL_MILLISECONDS = 5
_SLICE_SECONDS = 0.5


class FileSender:
    """`count` bytes of a file on their way to a non-blocking socket; `sent` counts them."""

    def __init__(self, sock: socket.socket, file: int, offset: int, count: int) -> None:
        self._socket = sock
        self._file = file
        self._offset = offset
        self._count = count
        self.sent = 0

    def is_short(self, size: int) -> bool:
        return self._count <= size

    def try_once(self) -> bool:
        """Send what the socket takes now; True when all is sent. Raises OSError, EOFError."""
        try:
            size = os.sendfile(
                self._socket.fileno(),
                self._file,
                self._offset + self.sent,
                min(self._count - self.sent, _CHUNK),
            )
        except BlockingIOError:
            return False
        if size == 0:
            raise EOFError("the file is shorter than was promised")
        self.sent += size
        return self.sent == self._count

    def run(self) -> bool:
        """Send until all is sent (True), or the client pauses or the slice is over (False)."""
        until = time.monotonic() + _SLICE_SECONDS
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        while not self.try_once():
            if time.monotonic() > until or not poll.poll(_POLL_MILLISECONDS):
                return False
        return True
