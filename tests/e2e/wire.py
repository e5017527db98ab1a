"""The cluster's own protocol as somebody else speaks it: frames with their checksums, and the handshake without a secret
(ARCHITECTURE.md, Frames and messages)."""

import json
import os
import re
import socket
import struct

MAGIC = 0x4D4C5243
VERSION = 1
MESSAGES_DEF = os.path.join(os.path.dirname(__file__), "..", "..", "common", "rpc", "messages.def")


def _crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC = _crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def messages():
    """{name: (number, kind, [(member, type, is optional)])}, from the table that the daemons are built with."""
    with open(MESSAGES_DEF) as f:
        rows = re.findall(r'^MESSAGE\((\w+),\s*(\d+),\s*(\w+),\s*"([^"]*)"\)', f.read(), re.M)
    members = {name: [(m.split(":")[0], m.split(":")[1].rstrip("?"), m.endswith("?")) for m in text.split()] for name, _, _, text in rows}
    return {name: (int(number), kind, members[name]) for name, number, kind, _ in rows}


NUMBERS = {name: row[0] for name, row in messages().items()}


def frame(kind, body=b""):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    number = NUMBERS[kind] if isinstance(kind, str) else kind
    return struct.pack("<IHHII", MAGIC, VERSION, number, len(body), crc32c(body)) + body


class Peer:
    """A connection that says the right words at first."""

    def __init__(self, port, role, greets=True, **hello):
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.socket.settimeout(10)
        if greets:
            self.read_frame()
            self.send("HELLO_CLIENT", dict(hello, role=role, nonce="0123456789abcdef" * 2, proof=""))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, kind, body=b""):
        """False: the other side has closed."""
        try:
            self.socket.sendall(frame(kind, body))
            return True
        except (ConnectionResetError, BrokenPipeError):
            return False

    def _read(self, length):
        data = b""
        while len(data) < length:
            piece = self.socket.recv(length - len(data))
            if not piece:
                return None
            data += piece
        return data

    def read_frame(self):
        """(number, body); None at the end."""
        try:
            head = self._read(16)
            if head is None:
                return None
            _, _, number, length, _ = struct.unpack("<IHHII", head)
            return number, self._read(length)
        except ConnectionResetError:
            return None

    def is_closed_within(self, seconds):
        """Reads on until the other side closes."""
        self.socket.settimeout(seconds)
        try:
            while self.read_frame() is not None:
                pass
            return True
        except TimeoutError:
            return False
