"""httpx: a pool of connections, a large body as a stream, an answer cut short, against an asyncio.Protocol."""

import asyncio
import os

import httpx

BIG = os.urandom(2**16)
PIECES = 64


class Server(asyncio.Protocol):
    connections = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        Server.connections += 1
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        *requests, self.received = (self.received + data).split(b"\r\n\r\n")
        for request in requests:
            match request.split()[1]:
                case b"/":
                    self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
                case b"/big":
                    self.transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    for _ in range(PIECES):
                        self.transport.write(b"%x\r\n%b\r\n" % (len(BIG), BIG))
                    self.transport.write(b"0\r\n\r\n")
                case b"/short":
                    self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
                    self.transport.close()


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0)
    limits = httpx.Limits(max_connections=10)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=30.0, trust_env=False) as client:
        for _ in range(3):
            answers = await asyncio.gather(*[client.get("/") for _ in range(100)])
            assert [answer.text for answer in answers] == ["hello"] * 100
        assert Server.connections <= 10

        async def stream() -> None:
            async with client.stream("GET", "/big") as answer:
                assert b"".join([piece async for piece in answer.aiter_bytes()]) == BIG * PIECES

        await asyncio.gather(*[stream() for _ in range(5)])
        (short,) = await asyncio.gather(client.get("/short"), return_exceptions=True)
        assert isinstance(short, httpx.RemoteProtocolError)
        assert (await client.get("/")).text == "hello"
    server.close()
    await server.wait_closed()
    print(type(loop).__module__)


asyncio.run(main())
