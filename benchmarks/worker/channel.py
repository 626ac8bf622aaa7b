"""The worker's end of the private channel: JSON lines on two descriptors, with blocking reads.

Standard library and the contract only.
"""

from __future__ import annotations

import os

from benchmarks.contract.message import MAX_MESSAGE_BYTES, Message, decode, encode


class Channel:
    """Messages over a pair of descriptors that no child process inherits."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        for descriptor in (read_fd, write_fd):
            os.set_inheritable(descriptor, False)
        self._reader = os.fdopen(read_fd, "rb")
        self._write_fd = write_fd

    def send(self, message: Message) -> None:
        """Write the whole message; when this returns, the parent can read it."""
        line = memoryview(encode(message))
        while line:
            line = line[os.write(self._write_fd, line) :]

    def receive(self) -> Message:
        """The next message; EOFError if the parent is gone, ValueError if it is no message."""
        line = self._reader.readline(MAX_MESSAGE_BYTES)
        if not line.endswith(b"\n"):
            raise EOFError("the channel to the parent is closed")
        return decode(line)
