"""pyzmq by inproc, ipc and tcp. The descriptor that it gives out is edge-triggered itself: no message may be left."""

import asyncio
import tempfile

import zmq
import zmq.asyncio

BLOB = bytes(range(256)) * 2**12  # 1 MiB


async def asked(context: zmq.asyncio.Context, address: str) -> None:
    """REQ and REP, in turns."""
    with context.socket(zmq.REP) as server, context.socket(zmq.REQ) as client:
        server.bind(address)
        client.connect(server.last_endpoint)

        async def serve() -> None:
            for _ in range(501):
                await server.send(await server.recv())

        serving = asyncio.create_task(serve())
        for question in [b"%d" % i for i in range(500)] + [BLOB]:
            await client.send(question)
            assert await client.recv() == question
        await serving


async def crossed(context: zmq.asyncio.Context, address: str) -> None:
    """DEALER and DEALER: each sends and receives at once, and none of them waits for an answer."""
    with context.socket(zmq.DEALER) as left, context.socket(zmq.DEALER) as right:
        left.bind(address)
        right.connect(left.last_endpoint)

        async def send(socket: zmq.asyncio.Socket, name: bytes) -> None:
            for i in range(2000):
                await socket.send_multipart([name, b"%d" % i])

        async def receive(socket: zmq.asyncio.Socket, name: bytes) -> None:
            for i in range(2000):
                assert await socket.recv_multipart() == [name, b"%d" % i]

        await asyncio.gather(send(left, b"l"), send(right, b"r"), receive(left, b"r"), receive(right, b"l"))


async def pushed(context: zmq.asyncio.Context, address: str) -> None:
    """PUSH and PULL: more than the queues hold, to a receiver that begins late and is cancelled now and then."""
    with context.socket(zmq.PUSH) as push, context.socket(zmq.PULL) as pull:
        push.set_hwm(100)
        pull.set_hwm(100)
        pull.bind(address)
        push.connect(pull.last_endpoint)

        async def send() -> None:
            for i in range(3000):
                await push.send(b"%d" % i)

        assert not await pull.poll(1)
        waiting = asyncio.ensure_future(pull.recv())
        waiting.cancel()
        sending = asyncio.create_task(send())
        assert await pull.poll() == zmq.POLLIN
        for i in range(3000):
            if i % 100 == 0:
                assert await pull.poll() == zmq.POLLIN
            assert await pull.recv() == b"%d" % i
        await sending


async def published(context: zmq.asyncio.Context, address: str) -> None:
    """PUB and SUB."""
    with context.socket(zmq.XPUB) as publisher:
        publisher.set_hwm(0)
        publisher.bind(address)

        async def listen(topic: bytes) -> list[bytes]:
            with context.socket(zmq.SUB) as subscriber:
                subscriber.set_hwm(0)
                subscriber.subscribe(topic)
                subscriber.connect(publisher.last_endpoint)
                heard = []
                while (message := (await subscriber.recv_multipart())[1]) != b"end":
                    heard.append(message)
                return heard

        listeners = [asyncio.create_task(listen(topic)) for topic in (b"a", b"b", b"")]
        assert {await publisher.recv() for _ in listeners} == {b"\1a", b"\1b", b"\1"}
        for i in range(2000):
            await publisher.send_multipart([(b"a", b"b")[i % 2], b"%d" % i])
        for topic in (b"a", b"b"):
            await publisher.send_multipart([topic, b"end"])
        numbers = [b"%d" % i for i in range(2000)]
        assert await asyncio.gather(*listeners) == [numbers[::2], numbers[1::2], numbers]


async def main() -> None:
    with zmq.asyncio.Context() as context, tempfile.TemporaryDirectory() as folder:
        for address in ("inproc://{}", f"ipc://{folder}/{{}}", "tcp://127.0.0.1:*"):
            for work in (asked, crossed, pushed, published):
                await work(context, address.format(work.__name__))
    print(type(asyncio.get_running_loop()).__module__)


asyncio.run(main())
