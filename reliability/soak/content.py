"""What travels: bytes that follow from a seed, so that whoever receives them can make them again; and WebSocket frames.

For both ends, also those that have no event loop.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import random
import socket
import struct
from typing import Any

BINARY, CLOSE = 0x2, 0x8  # opcodes
LIMIT = 30.0  # seconds after which a request counts as lost; nothing here takes one
MB = 1 << 20
FILE_SIZE = 2 * MB  # of the static file


def limit_buffers(sock: socket.socket) -> None:
    """Have the kernel buffer less than a client that does not read is sent: it would take megabytes by itself."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)


_names = itertools.count()


def local_name(number: int) -> str:
    """Return a name for the Unix socket of a client that puts in the fault of this number: it has no other address."""
    return f"\0soak-{os.getpid()}-{number}-{next(_names)}"


class Wrong(Exception):  # noqa: N818, it is not the program's
    """An answer came, and is not the right one."""


def content(seed: object, size: int) -> bytes:
    """Return that many bytes, the same ones for the same seed."""
    return random.Random(str(seed)).randbytes(size)


def digest(data: bytes) -> str:
    """Return what has to be equal where it is not worth the room to compare bytes."""
    return hashlib.sha256(data).hexdigest()


def same(found: Any, right: Any, what: str) -> None:
    """Raise Wrong unless both are equal."""
    if found == right:
        return
    if isinstance(found, bytes) and isinstance(right, bytes):
        at = next((at for at, (one, other) in enumerate(zip(found, right, strict=False)) if one != other), None)
        different = "the same as far as they go" if at is None else f"different from byte {at} on"
        raise Wrong(f"{what}: {len(found)} bytes for {len(right)}, {different}")
    raise Wrong(f"{what}: {found!s:.80} is not {right!s:.80}")


def get(path: str, *headers: str) -> bytes:
    """Return a request as bytes."""
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: soak", *headers, "", "")).encode()


def upgrade(key: bytes) -> bytes:
    """Return the request for a WebSocket."""
    text = base64.b64encode(key[:16]).decode()
    return get(
        "/ws", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {text}"
    )


def frame(data: bytes, mask: bytes, opcode: int = BINARY) -> bytes:
    """Return a whole message of a client as one frame."""
    size = len(data)
    if size < 126:
        head = struct.pack(">BB", 0x80 | opcode, 0x80 | size)
    elif size < 65536:
        head = struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack(">BBQ", 0x80 | opcode, 0x80 | 127, size)
    # Both as one number: a loop over the bytes would be the slowest part of the client.
    pad = (mask * (size // 4 + 1))[:size]
    masked = (int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")
    return head + mask + masked
