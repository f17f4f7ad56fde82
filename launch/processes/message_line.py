"""A connection between two processes that carries lines of JSON."""

import contextlib
import json
import socket
import time
from typing import Any

# Bytes of a message; what is larger is none of ours.
_LONGEST = 1 << 24


class Line:
    """A connection to one process. timeout: seconds for what is sent to leave."""

    def __init__(self, connection: socket.socket, timeout: float):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(timeout)
        self.socket, self._received = connection, b""

    def send(self, message: dict[str, Any]) -> None:
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, timeout: float) -> dict[str, Any]:
        """The next message. Raises TimeoutError; EOFError where the process has left, or sends no such thing."""
        self.socket.settimeout(timeout)
        while (message := self._first()) is None:
            self._read()
        return message

    def receive_part(self) -> dict[str, Any] | None:
        """Reads what there is. → the message, once it is whole. Raises EOFError as `receive`."""
        self._read()
        return self._first()

    def close(self, timeout: float) -> None:
        """Lets the process read all that was sent: a socket closed on unread data would take it back."""
        deadline = time.monotonic() + timeout
        with self.socket, contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
            while (left := deadline - time.monotonic()) > 0:
                self.socket.settimeout(left)
                if not self.socket.recv(1 << 16):
                    break

    def _read(self) -> None:
        part = self.socket.recv(1 << 16)
        self._received += part
        if not part or len(self._received) > _LONGEST:
            raise EOFError

    def _first(self) -> dict[str, Any] | None:
        line, newline, rest = self._received.partition(b"\n")
        if not newline:
            return None
        self._received = rest
        try:
            message = json.loads(line)
        except ValueError:
            raise EOFError from None
        if not isinstance(message, dict):
            raise EOFError
        return message
