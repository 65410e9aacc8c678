"""Twisted's asyncio reactor: web server and client, TCP, Unix sockets, UDP, processes, threads, asyncio beside it."""

import asyncio
import io
import socket
import tempfile
import warnings

from twisted.internet import asyncioreactor

import epoll_loop

asyncioreactor.install(epoll_loop.new_event_loop())

from twisted.internet import defer, endpoints, protocol, reactor, task, threads, utils  # noqa: E402
from twisted.web import client, resource, server  # noqa: E402

warnings.filterwarnings("ignore", "Using readBody", DeprecationWarning)  # it warns of its own pool
BLOB = bytes(range(256)) * 2**13  # 2 MiB


class Answers(resource.Resource):
    isLeaf = True  # noqa: N815

    def render_GET(self, request: server.Request) -> int:  # noqa: N802
        def answer() -> None:
            request.write(request.uri)
            request.finish()

        reactor.callLater(0.001, answer)
        return server.NOT_DONE_YET

    def render_PUT(self, request: server.Request) -> bytes:  # noqa: N802
        return request.content.read()


class Echo(protocol.Protocol):
    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.transport.write(data)


class EchoDatagrams(protocol.DatagramProtocol):
    def datagramReceived(self, data: bytes, address: tuple[str, int]) -> None:  # noqa: N802
        self.transport.write(data, address)


class Collector(protocol.Protocol):
    """Collects what comes, until there are `size` bytes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.data = b""
        self.complete: defer.Deferred[bytes] = defer.Deferred()
        self.lost: defer.Deferred[None] = defer.Deferred()

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.data += data
        if len(self.data) == self.size:
            self.complete.callback(self.data)

    def connectionLost(self, reason: object = None) -> None:  # noqa: N802
        self.lost.callback(None)


class Asker(protocol.ConnectedDatagramProtocol):
    def __init__(self) -> None:
        self.heard: defer.DeferredQueue[bytes] = defer.DeferredQueue()

    def datagramReceived(self, data: bytes, address: object = None) -> None:  # noqa: N802
        self.heard.put(data)


class Cat(protocol.ProcessProtocol):
    def __init__(self) -> None:
        self.output = b""
        self.ended: defer.Deferred[object] = defer.Deferred()

    def outReceived(self, data: bytes) -> None:  # noqa: N802
        self.output += data

    def processEnded(self, reason) -> None:  # type: ignore[no-untyped-def]  # noqa: N802
        self.ended.callback((reason.value.exitCode, reason.value.signal))


def together(coroutines) -> defer.Deferred:  # type: ignore[no-untyped-def, type-arg]
    return defer.gatherResults([defer.ensureDeferred(coroutine) for coroutine in coroutines], consumeErrors=True)


async def web() -> None:
    port = reactor.listenTCP(0, server.Site(Answers()), interface="127.0.0.1")
    base = b"http://127.0.0.1:%d" % port.getHost().port
    pool = client.HTTPConnectionPool(reactor)
    agent = client.Agent(reactor, pool=pool)

    async def get(path: bytes) -> bytes:
        return await client.readBody(await agent.request(b"GET", base + path))

    paths = [b"/%d" % i for i in range(100)]
    assert await together(get(path) for path in paths) == paths
    answer = await agent.request(b"PUT", base, bodyProducer=client.FileBodyProducer(io.BytesIO(BLOB)))
    assert await client.readBody(answer) == BLOB
    await pool.closeCachedConnections()
    await port.stopListening()


async def streams(folder: str) -> None:
    async def send(port, way: str) -> None:  # type: ignore[no-untyped-def]
        point = endpoints.clientFromString(reactor, way)
        collector = await endpoints.connectProtocol(point, Collector(len(BLOB)))
        collector.transport.write(BLOB)
        assert await collector.complete == BLOB
        collector.transport.loseConnection()
        await collector.lost

    factory = protocol.Factory.forProtocol(Echo)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        adopted = reactor.adoptStreamPort(listener.fileno(), socket.AF_INET, factory)
    unix = await endpoints.serverFromString(reactor, f"unix:{folder}/socket").listen(factory)
    for port, way in ((adopted, f"tcp:127.0.0.1:{adopted.getHost().port}"), (unix, f"unix:{folder}/socket")):
        await together(send(port, way) for _ in range(8))
        await port.stopListening()


async def datagrams() -> None:
    port = reactor.listenUDP(0, EchoDatagrams(), interface="127.0.0.1")
    asker = Asker()
    asker.startProtocol = lambda: asker.transport.connect("127.0.0.1", port.getHost().port)
    asking = reactor.listenUDP(0, asker, interface="127.0.0.1")
    for i in range(100):
        asker.transport.write(b"%d" % i)
        assert await asker.heard.get() == b"%d" % i
    await asking.stopListening()
    await port.stopListening()


async def processes() -> None:
    cats = [Cat() for _ in range(4)]
    for cat in cats:
        reactor.spawnProcess(cat, "cat", ["cat"]).write(BLOB)
        cat.transport.closeStdin()
    assert await defer.gatherResults([cat.ended for cat in cats]) == [(0, None)] * 4
    assert all(cat.output == BLOB for cat in cats)
    killed = Cat()
    reactor.spawnProcess(killed, "cat", ["cat"]).signalProcess("KILL")
    assert await killed.ended == (None, 9)
    assert await utils.getProcessOutput("sh", ["-c", "echo said"], env=None) == b"said\n"


async def clocks() -> None:
    order: list[str] = []
    for delay in (0.02, 0.01, 0):
        reactor.callLater(delay, order.append, str(delay))
    reactor.callLater(0, order.append, "never").cancel()
    ticks = task.LoopingCall(lambda: ticks.stop() if len(order) == 3 else None)
    await ticks.start(0.005)
    assert order == ["0", "0.01", "0.02"]
    assert await threads.deferToThread(sum, [1, 2]) == 3
    from_thread: defer.Deferred[int] = defer.Deferred()
    reactor.callInThread(reactor.callFromThread, from_thread.callback, 4)
    assert await from_thread == 4


async def beside() -> str:
    """What is asyncio's, in a task of the same loop."""
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    assert (await process.communicate(BLOB))[0] == BLOB
    loop = asyncio.get_running_loop()
    assert await task.deferLater(reactor, 0.001, lambda: "later").asFuture(loop) == "later"
    return type(loop).__module__


async def main(reactor) -> None:  # type: ignore[no-untyped-def]
    with tempfile.TemporaryDirectory() as folder:
        await streams(folder)
    for work in (web, datagrams, processes, clocks):
        await work()
    loop = await defer.Deferred.fromFuture(asyncio.ensure_future(beside()))
    reactor.addSystemEventTrigger("after", "shutdown", print, loop)


task.react(main)
