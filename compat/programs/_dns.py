"""A name server for the domain `test`, by UDP and TCP on one port of 127.0.0.1."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

A, TXT, AAAA = 1, 16, 28
LONG = [b"%03d" % i * 80 for i in range(100)]  # 24 kB: too long for UDP
RESPONSE, TRUNCATED, NO_SUCH_NAME = 0x8580, 0x200, 3


def records(name: str, kind: int) -> list[bytes] | None:
    """The data of the answers: a host `hN.test` has 10.0.0.N and fd00::N, and `long.test` a long text."""
    if name == "long.test" and kind == TXT:
        return [b"".join(bytes([len(part)]) + part for part in LONG)]
    if name.endswith(".test") and name[0] == "h" and kind in (A, AAAA):
        number = int(name[1:-5])
        return [bytes([10, 0, 0, number] if kind == A else [0xFD, *[0] * 14, number])]
    return None


def answer(query: bytes, limit: int) -> bytes | None:
    """The answer to a query, in `limit` bytes; None, and a client that waits, for the name `silent.test`."""
    end = query.index(0, 12)
    labels, at = [], 12
    while at < end:
        labels.append(query[at + 1 : at + 1 + query[at]].decode().lower())
        at += 1 + query[at]
    name = ".".join(labels)
    if name == "silent.test":
        return None
    (kind,) = struct.unpack_from("!H", query, end + 1)
    question = query[12 : end + 5]
    found = records(name, kind)
    flags = RESPONSE | (NO_SUCH_NAME if found is None else 0)
    body = b"".join(struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(data)) + data for data in found or ())
    if 12 + len(question) + len(body) > limit:
        return query[:2] + struct.pack("!HHHHH", flags | TRUNCATED, 1, 0, 0, 0) + question
    return query[:2] + struct.pack("!HHHHH", flags, 1, len(found or ()), 0, 0) + question + body


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        if (said := answer(data, 512)) is not None:
            self.transport.sendto(said, address)


async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            (size,) = struct.unpack("!H", await reader.readexactly(2))
            if (said := answer(await reader.readexactly(size), 2**16)) is not None:
                writer.write(struct.pack("!H", len(said)) + said)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """Yield the port."""
    # TCP first: of its ports, most are taken.
    async with await asyncio.start_server(stream, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, ("127.0.0.1", port))
        yield port
        transport.close()
