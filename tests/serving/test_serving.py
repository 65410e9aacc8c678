"""start_serving(): what the events are told of connections, and what comes of what they return."""

import asyncio
import socket
import threading

import pytest
import tls
from recording import LIMIT, Recording

import epoll_loop
from epoll_loop import Action

pytestmark = pytest.mark.usefixtures("no_descriptor_left")
TCP = "tcp://127.0.0.1:0"


async def test_an_echo(connect):
    events = Recording()
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        assert await client.say(b"hello") == b"hello"
        client.writer.close()
        await events.until(lambda: "closed" in events.names())
    assert events.names() == ["serving", "opened", "data", "closed"]
    assert events.told[0] == ("serving", server.addresses)
    assert events.told[3] == ("closed", None)


async def test_many_addresses_on_one_loop(connect, tmp_path):
    seen = []

    class Events(Recording):
        def data(self, conn, data):
            seen.append((conn.address_index, conn.local_address, bool(conn.remote_address)))
            return data

    path = str(tmp_path / "socket")
    addresses = [TCP, "tcp6://[::1]:0", f"unix://{path}", "udp://127.0.0.1:0"]
    async with await epoll_loop.start_serving(Events(), *addresses) as server:
        assert server.addresses[2] == path
        for address in server.addresses[:3]:
            client = await connect(address)
            assert await client.say(b"x") == b"x"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.setblocking(False)
            udp.connect(server.addresses[3])
            udp.send(b"datagram")
            async with asyncio.timeout(LIMIT):
                assert await asyncio.get_running_loop().sock_recv(udp, 100) == b"datagram"
    assert [index for index, _, _ in seen] == [0, 1, 2, 3]
    assert [local for _, local, _ in seen] == server.addresses
    assert [remote for _, _, remote in seen] == [True, True, False, True]  # a Unix client has no name


async def test_shutdown_by_action(connect):
    events = Recording()
    events.instead["data"] = lambda conn, data: (b"the last", Action.SHUTDOWN) if data == b"end" else data
    server = await epoll_loop.start_serving(events, TCP)
    client = await connect(server.addresses[0])
    other = await connect(server.addresses[0])
    assert await other.say(b"x") == b"x"
    client.writer.write(b"end")
    assert await client.rest() == b"the last"
    assert await other.rest() == b""
    async with asyncio.timeout(LIMIT):
        await server.wait_closed()
    with pytest.raises(ConnectionRefusedError):
        await connect(server.addresses[0])


async def test_upgrade(connect):
    """The protocol gets what was sniffed, and the server forgets the connection."""

    class Upper(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data.upper())

        def connection_lost(self, exc):
            lost.append(exc)

    class Events(Recording):
        def data(self, conn, data):
            protocol = Upper()
            assert conn.upgrade(protocol, data) is protocol.transport
            with pytest.raises(RuntimeError):
                conn.upgrade(protocol)

    lost = []
    events = Events()
    server = await epoll_loop.start_serving(events, TCP)
    client = await connect(server.addresses[0])
    assert await client.say(b"sniffed") == b"SNIFFED"
    server.shutdown()
    async with asyncio.timeout(LIMIT):
        await server.wait_closed()
    assert await client.say(b"later") == b"LATER"
    client.writer.close()
    while not lost:
        await asyncio.sleep(0)
    assert lost == [None]
    assert events.names() == ["serving", "opened"]


async def test_wake_from_a_thread(connect):
    events = Recording()

    def data(conn, data):
        threads.append(threading.get_ident())
        return data or b"woken"

    threads = []
    events.instead["data"] = data
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        await events.until(lambda: "opened" in events.names())
        conn = events.told[-1][1]
        thread = threading.Thread(target=conn.wake)
        thread.start()
        assert await client.read(5) == b"woken"
        thread.join()
        assert events.told[-1] == ("data", b"")
        assert threads == [threading.get_ident()]
        client.writer.close()
        await events.until(lambda: "closed" in events.names())
        conn.wake()  # in vain
        await asyncio.sleep(0)
    assert events.names().count("data") == 1


async def test_an_input_buffer_that_is_used_again(connect):
    views = []

    class Events(Recording):
        def opened(self, conn):
            conn.reuse_input_buffer()

        def data(self, conn, data):
            assert type(data) is memoryview
            views.append(data)
            return data

    async with await epoll_loop.start_serving(Events(), TCP) as server:
        client = await connect(server.addresses[0])
        big = bytes(range(256)) * 4000
        for data in (b"one", b"two", big):
            assert await client.say(data) == data
    with pytest.raises(ValueError, match="released"):
        views[0][0]


@pytest.mark.parametrize("answer", [b"four", memoryview(b"four").cast("I")])
async def test_what_went_is_noticed(connect, answer):
    events = Recording()
    events.instead["data"] = lambda conn, data: answer
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        assert await client.say(b"?", 4) == b"four"
        conn = events.told[1][1]
        assert conn.went()
        assert not conn.went()


async def test_a_part_of_an_input_buffer_that_is_kept(connect):
    parts = []

    class Events(Recording):
        def opened(self, conn):
            conn.reuse_input_buffer()

        def data(self, conn, data):
            parts.append(data[:3])
            return memoryview(b"<>")

    sent = [b"one", b"two", b"six"]
    async with await epoll_loop.start_serving(Events(), TCP) as server:
        clients = [await connect(server.addresses[0]) for _ in range(2)]
        for client, data in zip([*clients, clients[0]], sent, strict=True):
            assert await client.say(data, 2) == b"<>"
    assert parts == sent


async def test_an_input_buffer_with_tls(connect):
    seen = []

    class Events(Recording):
        def opened(self, conn):
            conn.reuse_input_buffer()

        def data(self, conn, data):
            seen.append(type(data))
            return data

    async with await epoll_loop.start_serving(Events(), TCP, tls=tls.server_context()) as server:
        client = await connect(server.addresses[0], ssl=tls.client_context(), **tls.NAME)
        for data in (b"one", b"two"):
            assert await client.say(data) == data
    assert seen == [memoryview, memoryview]


async def test_what_a_connection_with_an_input_buffer_is_upgraded_to_gets_bytes(connect):
    got = []

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            got.append(type(data))
            self.transport.write(data)

    events = Recording()
    events.instead = {
        "opened": lambda conn: conn.reuse_input_buffer(),
        "data": lambda conn, data: conn.upgrade(Echo(), data) and None,
    }
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        assert await client.say(b"one") == b"one"
        assert await client.say(b"two") == b"two"
        client.writer.close()
    assert got == [bytes, bytes]


async def test_keep_alive(connect):
    found = []

    class Events(Recording):
        def opened(self, conn):
            conn.keep_alive(30)
            sock = conn.get_extra_info("socket")
            found.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
            if hasattr(socket, "TCP_KEEPIDLE"):
                found.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))
            conn.keep_alive(None)
            found.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
            return b"done"

    async with await epoll_loop.start_serving(Events(), TCP) as server:
        client = await connect(server.addresses[0])
        assert await client.read(4) == b"done"
    assert found == [1, 30, 0]


async def test_upgrade_of_one_whose_peer_is_behind(connect):
    """It is told to pause, and hears of the peer when that has caught up."""
    calls = []

    class Later(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def pause_writing(self):
            calls.append("pause_writing")

        def resume_writing(self):
            calls.append("resume_writing")

        def data_received(self, data):
            self.transport.write(data)

    events = Recording()
    events.instead["data"] = lambda conn, data: bytes(20_000_000)
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        client.writer.transport.pause_reading()
        client.writer.write(b"go")
        await events.until(lambda: "data" in events.names())
        conn = events.told[1][1]
        while not conn.is_behind():
            await asyncio.sleep(0)
        conn.upgrade(Later())
        assert calls == ["pause_writing"]
        client.writer.transport.resume_reading()
        assert await client.read(20_000_000) == bytes(20_000_000)
        assert await client.say(b"ping") == b"ping"
        assert calls == ["pause_writing", "resume_writing"]
        client.writer.close()


@pytest.mark.parametrize("where", ["connection_made", "data_received"])
async def test_an_upgrade_that_fails(connect, reports, where):
    """It closes the connection, and is reported once."""

    def fail(*args):
        raise ZeroDivisionError(where)

    protocol = type("Failing", (asyncio.Protocol,), {where: fail})()
    events = Recording()
    events.instead["data"] = lambda conn, data: conn.upgrade(protocol, data) and None
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        client.writer.write(b"x")
        assert await client.rest() == b""
    assert [str(exc) for exc in reports] == [where]
    assert events.names() == ["serving", "opened", "data"]


async def test_an_upgrade_to_what_closes_or_is_only_the_first(connect):
    """What has come is delivered to who has the connection then."""
    got = []

    class Last(asyncio.Protocol):
        def data_received(self, data):
            got.append(data)

    class First(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            if len(got):
                transport.close()
            else:
                transport.set_protocol(Last())

        def data_received(self, data):
            got.append("nobody")

    events = Recording()
    events.instead["data"] = lambda conn, data: conn.upgrade(First(), data) and None
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        client.writer.write(b"x")
        await events.until(lambda: got)
        other = await connect(server.addresses[0])
        other.writer.write(b"y")
        assert await other.rest() == b""
        client.writer.close()
    assert got == [b"x"]


async def test_nothing_is_written_after_close(connect):
    events = Recording()
    async with await epoll_loop.start_serving(events, TCP) as server:
        for size in (0, 20_000_000):  # at once, and while much is queued
            events.instead["data"] = lambda conn, data, size=size: conn.write(bytes(size)) or conn.close() or data
            client = await connect(server.addresses[0])
            client.writer.write(b"x")
            assert await client.rest() == bytes(size)


def test_an_interrupt_out_of_opened():
    """The run ends; the connection has ended, too."""
    events = Recording()
    found = []

    def interrupt(conn):
        raise KeyboardInterrupt

    async def main():
        server = await epoll_loop.start_serving(events, TCP)
        found.append(server)
        with socket.create_connection(server.addresses[0]):
            await asyncio.sleep(LIMIT)

    events.instead["opened"] = interrupt
    with pytest.raises(KeyboardInterrupt), asyncio.Runner(loop_factory=epoll_loop.new_event_loop) as runner:
        runner.run(main())
    assert events.names() == ["serving", "opened", "closed"]
    assert type(events.told[-1][1]) is KeyboardInterrupt
    assert not found[0]._conns


async def test_addresses_are_known_when_it_has_closed(connect):
    found = []
    events = Recording()
    events.instead["closed"] = lambda conn, error: found.append((conn.local_address, conn.remote_address))
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        assert await client.say(b"x") == b"x"
        name = client.writer.get_extra_info("sockname")
        client.writer.close()
        await events.until(lambda: "closed" in events.names())
        assert found == [(server.addresses[0], name)]


async def test_two_servers_on_one_port(connect):
    """Each has its own connections."""
    first, second = Recording(), Recording()
    async with await epoll_loop.start_serving(first, TCP + "?reuseport=true") as server:
        host, port = server.addresses[0]
        async with await epoll_loop.start_serving(second, f"tcp4://{host}:{port}?reuseport=true") as other:
            assert other.addresses == server.addresses
            for _ in range(40):
                client = await connect(server.addresses[0])
                assert await client.say(b"x") == b"x"
    assert first.names().count("data") + second.names().count("data") == 40


def test_wake_after_the_loop_was_closed():
    events = Recording()

    async def main():
        async with await epoll_loop.start_serving(events, TCP) as server:
            reader, writer = await asyncio.open_connection(*server.addresses[0])
            writer.write(b"x")
            await reader.readexactly(1)
            writer.close()
            return events.told[1][1]

    epoll_loop.run(main()).wake()
