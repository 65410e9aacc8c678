"""pyzmq: request and reply, push and pull; the descriptor that it has watched is edge-triggered by itself."""

import asyncio

import zmq
import zmq.asyncio


async def main() -> None:
    context = zmq.asyncio.Context()
    server, client = context.socket(zmq.REP), context.socket(zmq.REQ)
    port = server.bind_to_random_port("tcp://127.0.0.1")
    client.connect(f"tcp://127.0.0.1:{port}")

    async def serve() -> None:
        for _ in range(500):
            await server.send(await server.recv())

    serving = asyncio.create_task(serve())
    for i in range(500):
        await client.send(b"%d" % i)
        assert await client.recv() == b"%d" % i
    await serving

    push, pull = context.socket(zmq.PUSH), context.socket(zmq.PULL)
    pull.bind("inproc://pipeline")
    push.connect("inproc://pipeline")
    for i in range(1000):
        await push.send(b"%d" % i)
    assert [await pull.recv() for _ in range(1000)] == [b"%d" % i for i in range(1000)]
    context.destroy(linger=0)
    print(type(asyncio.get_running_loop()).__module__)


asyncio.run(main())
