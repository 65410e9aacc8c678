"""UDP addresses. Where the kernel has to refuse a datagram it is a Unix socket, whose queue is short."""

import asyncio
import contextlib
import errno
import socket

import pytest
from recording import LIMIT, Recording

import epoll_loop
from epoll_loop import Action, Address
from epoll_loop.serving.server import Serving

pytestmark = pytest.mark.usefixtures("no_descriptor_left")
UDP = "udp://127.0.0.1:0"


@contextlib.contextmanager
def dial(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(address)
        yield sock


async def receive(sock):
    async with asyncio.timeout(LIMIT):
        return await asyncio.get_running_loop().sock_recv(sock, 100_000)


async def turns():
    for _ in range(10):
        await asyncio.sleep(0)


async def test_empty_ones():
    """One that is written is sent, and one that comes is told of; returned, nothing is sent, as with a stream."""

    def data(peer, data):
        if data == b"write":
            peer.write(b"")
        return data if data == b"last" else b""

    events = Recording()
    events.instead["data"] = data
    async with await epoll_loop.start_serving(events, UDP) as server:
        with dial(server.addresses[0]) as sock:
            for each in (b"return", b"", b"write", b"last"):
                sock.send(each)
            assert [await receive(sock), await receive(sock)] == [b"", b"last"]
    assert events.told[1:] == [("data", b"return"), ("data", b""), ("data", b"write"), ("data", b"last")]


async def test_wake():
    events = Recording()
    peers = []
    events.instead["data"] = lambda peer, data: peers.append(peer) if data else b"woken"
    async with await epoll_loop.start_serving(events, UDP) as server:
        with dial(server.addresses[0]) as sock:
            sock.send(b"x")
            await events.until(lambda: peers)
            await asyncio.to_thread(peers[0].wake)
            assert await receive(sock) == b"woken"
        server.shutdown()
        peers[0].wake()  # in vain
        await turns()
    assert events.names() == ["serving", "data", "data"]


async def test_what_comes_before_serving_was_called(monkeypatch):
    """It is told of after that."""

    async def getaddrinfo(*args, **options):
        with dial(sock.getsockname()) as other:
            other.send(b"early")
        await turns()
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    events = Recording()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    server = Serving(events)
    await server.start([Address("udp"), Address("tcp", "elsewhere")], 10, [("name", [sock]), None])
    async with server:
        await events.until(lambda: "data" in events.names())
    assert events.names() == ["serving", "data"]


class Full:
    """A server with a peer that does not read, so that the kernel takes no more."""

    def __init__(self, folder, **options):
        self.events = Recording()
        self.options = options
        self.paths = [str(folder / name) for name in ("server", "peer")]

    async def __aenter__(self):
        ours, self.sock = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in self.paths)
        for sock, path in zip((ours, self.sock), self.paths, strict=True):
            sock.bind(path)
            sock.setblocking(False)
        self.server = Serving(self.events, **self.options)
        await self.server.start([Address("udp")], 10, [("name", [ours])])
        peers = []
        self.events.instead["data"] = lambda peer, data: peers.append(peer)
        self.say(b"hello")
        await self.events.until(lambda: peers)
        self.events.instead.clear()
        self.peer = peers[0]
        self.transport = self.peer._endpoint.transport
        while not self.transport.get_write_buffer_size():
            self.peer.write(bytes(1000))
            await asyncio.sleep(0)
        return self

    async def __aexit__(self, *exc):
        try:
            async with asyncio.timeout(LIMIT):
                await self.server.__aexit__(*exc)
        finally:
            self.sock.close()

    def say(self, data):
        self.sock.sendto(data, self.paths[0])


async def test_when_the_kernel_takes_no_more(tmp_path):
    """What is written then costs bounded memory, and what comes waits for better times."""
    async with Full(tmp_path) as full:
        for number in range(1000):
            full.peer.write(b"%06d" % number + bytes(994))
        assert 65536 < full.transport.get_write_buffer_size() < 65536 + 1008
        full.say(b"meanwhile")
        await turns()
        assert ("data", b"meanwhile") not in full.events.told
        found = []
        while b"meanwhile" not in found:
            found.append(await receive(full.sock))
        numbers = [int(data[:6]) for data in found[:-1] if data[0]]
        assert numbers == list(range(len(numbers)))
        assert 50 < len(numbers) < 100
        full.peer.write(b"again")
        assert await receive(full.sock) == b"again"


async def test_the_end_of_the_server_sends_what_waits(tmp_path):
    async with Full(tmp_path) as full:
        for _ in range(10):
            full.peer.write(b"queued")
        full.peer.write(b"the last")
        full.server.shutdown()
        await turns()
        waiting = asyncio.create_task(full.server.wait_closed())
        await turns()
        assert not waiting.done()
        while await receive(full.sock) != b"the last":
            pass
        async with asyncio.timeout(LIMIT):
            await waiting


async def test_the_end_of_the_server_has_a_deadline(tmp_path):
    async with Full(tmp_path, shutdown_timeout=0.05) as full:
        full.server.shutdown()
        async with asyncio.timeout(LIMIT):
            await full.server.wait_closed()
        assert full.transport.is_closing()


async def test_the_port_is_free_when_it_could_not_begin():
    """Of what was bound before the one that is busy."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        free = sock.getsockname()
    async with await epoll_loop.start_serving(Recording(), "tcp://127.0.0.1:0") as other:
        busy = f"tcp://127.0.0.1:{other.addresses[0][1]}"
        with pytest.raises(OSError, match="in use"):
            await epoll_loop.start_serving(Recording(), f"udp://127.0.0.1:{free[1]}", busy)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(free)


async def test_the_events_of_a_stream_serve_datagrams_as_well(reports):
    """There is nothing to be closed."""
    events = Recording()
    events.instead["data"] = lambda peer, data: (data, Action.CLOSE)
    async with await epoll_loop.start_serving(events, UDP) as server:
        with dial(server.addresses[0]) as sock:
            for data in (b"one", b"two"):
                sock.send(data)
                assert await receive(sock) == data
    assert not reports


async def test_one_that_is_too_long(reports):
    events = Recording()
    events.instead["data"] = lambda peer, data: bytes(70_000) if data == b"much" else data
    async with await epoll_loop.start_serving(events, UDP) as server:
        with dial(server.addresses[0]) as sock:
            sock.send(b"much")
            sock.send(b"little")
            assert await receive(sock) == b"little"
    assert [exc.errno for exc in reports] == [errno.EMSGSIZE]


async def test_the_port_is_free_when_it_has_ended():
    for _ in range(3):
        async with await epoll_loop.start_serving(Recording(), UDP) as server:
            port = server.addresses[0][1]
        async with await epoll_loop.start_serving(Recording(), f"udp://127.0.0.1:{port}"):
            pass


async def test_shutdown_by_a_datagram():
    events = Recording()
    events.instead["data"] = lambda peer, data: (data, Action.SHUTDOWN)
    server = await epoll_loop.start_serving(events, UDP)
    with dial(server.addresses[0]) as sock:
        sock.send(b"the last")
        assert await receive(sock) == b"the last"
        async with asyncio.timeout(LIMIT):
            await server.wait_closed()
