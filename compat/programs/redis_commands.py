"""redis-py by TCP and Unix socket: pipelines, transactions, large values, publish and subscribe, pops that block."""

import asyncio

import redis_server
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import WatchError

BLOB = bytes(range(256)) * 2**12  # 1 MiB


async def pipelined(redis: Redis) -> None:
    async with redis.pipeline(transaction=False) as pipeline:
        for i in range(1000):
            pipeline.set(f"key{i}", i)
        assert await pipeline.execute() == [True] * 1000
    assert await asyncio.gather(*[redis.get(f"key{i}") for i in range(100)]) == [b"%d" % i for i in range(100)]
    blobs = [BLOB[i:] + BLOB[:i] for i in range(8)]
    await asyncio.gather(*[redis.set(f"blob{i}", blob) for i, blob in enumerate(blobs)])
    assert await redis.mget([f"blob{i}" for i in range(8)]) == blobs


async def counted(redis: Redis) -> None:
    """Twenty add one, each in a transaction that fails when another one was faster."""

    async def add() -> None:
        async with redis.pipeline() as pipeline:
            while True:
                try:
                    await pipeline.watch("count")
                    count = int(await pipeline.get("count") or 0)
                    pipeline.multi()
                    pipeline.set("count", count + 1)
                    return await pipeline.execute()
                except WatchError:
                    continue

    await asyncio.gather(*[add() for _ in range(20)])
    assert await redis.get("count") == b"20"


async def published(redis: Redis) -> None:
    async def listen(ready: asyncio.Event) -> list[bytes]:
        heard: list[bytes] = []
        async with redis.pubsub() as subscriber:
            await subscriber.subscribe("news")
            async for message in subscriber.listen():
                if message["type"] == "subscribe":
                    ready.set()
                    continue
                heard.append(message["data"])
                if heard[-1] == b"end":
                    break
        return heard

    ready = [asyncio.Event() for _ in range(5)]
    listeners = [asyncio.create_task(listen(event)) for event in ready]
    for event in ready:
        await event.wait()
    news = [b"%d" % i * 100 for i in range(500)] + [b"end"]
    for message in news:
        assert await redis.publish("news", message) == 5
    assert await asyncio.gather(*listeners) == [news] * 5


async def popped(redis: Redis) -> None:
    async def blocked(clients: int) -> None:
        while (await redis.info("clients"))["blocked_clients"] != clients:
            pass

    poppers = [asyncio.create_task(redis.blpop("queue")) for _ in range(10)]
    await blocked(10)
    for popper in poppers[:5]:
        popper.cancel()
    await asyncio.gather(*poppers[:5], return_exceptions=True)
    assert all(popper.cancelled() for popper in poppers[:5])
    await blocked(5)
    await redis.rpush("queue", *range(5))
    assert sorted(await asyncio.gather(*poppers[5:])) == [(b"queue", b"%d" % i) for i in range(5)]
    assert await redis.blpop("queue", timeout=0.01) is None


async def main(server: redis_server.Server) -> None:
    for way in ({"host": "127.0.0.1", "port": server.port}, {"unix_socket_path": server.path}):
        async with Redis(**way, max_connections=100) as redis:
            for work in (pipelined, counted, published, popped):
                await work(redis)
                await redis.flushall()
    pool = BlockingConnectionPool(host="127.0.0.1", port=server.port, max_connections=5, timeout=None)
    async with Redis.from_pool(pool) as redis:
        assert sorted(await asyncio.gather(*[redis.incr("n") for _ in range(500)])) == list(range(1, 501))
    print(type(asyncio.get_running_loop()).__module__)


with redis_server.server() as server:
    if server is None:
        print(redis_server.MISSING)
    else:
        asyncio.run(main(server))
