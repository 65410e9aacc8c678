"""httpx: an asynchronous client, its pool of connections, against an asyncio.Protocol."""

import asyncio

import httpx


class Hello(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" * data.count(b"\r\n\r\n"))


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Hello, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(3):
            answers = await asyncio.gather(*[client.get(url) for _ in range(50)])
            assert [answer.text for answer in answers] == ["hello"] * 50
    server.close()
    await server.wait_closed()
    print(type(loop).__module__)


asyncio.run(main())
