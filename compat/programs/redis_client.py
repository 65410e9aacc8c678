"""redis-py: its asyncio client and pipelines, against a small server of its protocol on asyncio streams."""

import asyncio

from redis.asyncio import Redis

store: dict[bytes, bytes] = {}


async def command(reader: asyncio.StreamReader) -> list[bytes]:
    words = []
    for _ in range(int((await reader.readline())[1:])):
        size = int((await reader.readline())[1:])
        words.append((await reader.readexactly(size + 2))[:-2])
    return words


def answer(words: list[bytes]) -> bytes:
    match words:
        case [b"SET", key, value]:
            store[key] = value
            return b"+OK\r\n"
        case [b"GET", key]:
            value = store.get(key)
            return b"$-1\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value)
        case [b"PING"]:
            return b"+PONG\r\n"
        case [b"CLIENT", *_]:
            return b"+OK\r\n"
    return b"-ERR unknown command\r\n"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            writer.write(answer(await command(reader)))
            await writer.drain()
    except (ValueError, asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Redis(port=port, protocol=2) as redis:
        assert await redis.ping()
        pipeline = redis.pipeline(transaction=False)
        for i in range(1000):
            pipeline.set(f"key{i}", i)
        assert await pipeline.execute() == [True] * 1000
        values = await asyncio.gather(*[redis.get(f"key{i}") for i in range(100)])
        assert values == [b"%d" % i for i in range(100)]
        await redis.set("big", b"x" * 2**20)
        assert await redis.get("big") == b"x" * 2**20
    server.close()
    await server.wait_closed()
    print(type(asyncio.get_running_loop()).__module__)


asyncio.run(main())
