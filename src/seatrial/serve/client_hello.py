"""The first message of a client of TLS: collected from its records until it is whole.

OpenSSL answers it where it reads its last byte, which takes most of a handshake's time. So whoever
chooses that moment has to know where the message ends, however it was cut.
"""

from __future__ import annotations

HANDSHAKE, CLIENT_HELLO = 22, 1  # types of a record, and of a message in such records
RECORD_BYTES, MESSAGE_BYTES = 5, 4  # of their heads
# Most have 0.5 to 2 KB. It is the length of the records together.
HELLO_BYTES = 16 * 1024


class ClientHello:
    """Collects one message.

    Attributes:
        data: All that came.
        whole: Whether the message is there, with the record in which it ends.
        other: Whether what came is something else, or longer than `HELLO_BYTES`.

    Source: RFC 8446, 4 and 5.1.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.whole = self.other = False
        self._at = 0  # where the next record begins
        self._head = bytearray()  # of the message
        self._taken_bytes = 0  # of the message

    def add(self, piece: bytes) -> None:
        """Take what came: each record is looked at once, whatever the pieces are.

        Args:
            piece: Any number of bytes.
        """
        self.data += piece
        while self._next_record():
            pass
        wanted = self._message_bytes
        if not self.whole and max(len(self.data), wanted or 0) >= HELLO_BYTES:
            self.other = True

    @property
    def _message_bytes(self) -> int | None:
        """Length of the message with its head; None while that is not there."""
        if len(self._head) < MESSAGE_BYTES:
            return None
        return MESSAGE_BYTES + int.from_bytes(self._head[1:])

    def _next_record(self) -> bool:
        """Take the next record, if it is there and more of the message is wanted."""
        if self.whole or self.other or len(self.data) == self._at:
            return False
        content = self._at + RECORD_BYTES
        begins = not self._head and len(self.data) > content
        if self.data[self._at] != HANDSHAKE or (begins and self.data[content] != CLIENT_HELLO):
            self.other = True
            return False
        length = int.from_bytes(self.data[self._at + 3 : content])
        if len(self.data) < content + length or len(self.data) < content:
            return False
        self._head += self.data[content : content + min(length, MESSAGE_BYTES - len(self._head))]
        self._taken_bytes += length
        self._at = content + length
        wanted = self._message_bytes
        self.whole = wanted is not None and self._taken_bytes >= wanted
        return True
