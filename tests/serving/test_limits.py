"""What a server bounds: time, memory, and its own end."""

import asyncio
import itertools
import socket
import ssl
import weakref

import garbage
import pytest
import tls
from recording import LIMIT, Recording

import epoll_loop
from epoll_loop import Action

pytestmark = pytest.mark.usefixtures("no_descriptor_left")
TCP = "tcp://127.0.0.1:0"


async def test_an_idle_connection_is_closed(connect):
    events = Recording()
    async with await epoll_loop.start_serving(events, TCP, idle_timeout=0.05) as server:
        client = await connect(server.addresses[0])
        assert await client.rest() == b""
        await events.until(lambda: "closed" in events.names())
    assert type(events.told[-1][1]) is TimeoutError


async def test_one_that_is_woken_is_idle_all_the_same(connect):
    events = Recording()
    events.instead["data"] = lambda conn, data: None
    async with await epoll_loop.start_serving(events, TCP, idle_timeout=0.05) as server:
        client = await connect(server.addresses[0])
        await events.until(lambda: "opened" in events.names())
        async with asyncio.timeout(LIMIT):
            while "closed" not in events.names():
                events.told[1][1].wake()
                await asyncio.sleep(0.001)
        assert await client.rest() == b""
    assert type(events.told[-1][1]) is TimeoutError


async def test_a_peer_that_takes_nothing_is_idle_whatever_is_written(connect):
    events = Recording()
    async with await epoll_loop.start_serving(events, TCP, idle_timeout=0.05) as server:
        client = await connect(server.addresses[0])
        client.writer.transport.pause_reading()
        await events.until(lambda: "opened" in events.names())
        conn = events.told[1][1]
        conn.write(bytes(20_000_000))
        async with asyncio.timeout(LIMIT):
            while "closed" not in events.names():
                conn.write(b"x")
                await asyncio.sleep(0.001)
        client.writer.transport.abort()
    assert type(events.told[-1][1]) is TimeoutError


async def test_one_that_talks_is_not(connect):
    """Each of the answers comes before the time is over, and all together take several times as long."""
    events = Recording()
    async with await epoll_loop.start_serving(events, TCP, idle_timeout=0.4) as server:
        client = await connect(server.addresses[0])
        for _ in range(20):
            assert await client.say(b"x") == b"x"
            await asyncio.sleep(0.05)
    assert "closed" not in events.names()[:21]


async def test_a_peer_that_takes_nothing_is_dropped(connect):
    events = Recording()
    events.instead["data"] = lambda conn, data: bytes(50_000_000)
    async with await epoll_loop.start_serving(events, TCP, write_timeout=0.05) as server:
        client = await connect(server.addresses[0])
        client.writer.transport.pause_reading()
        client.writer.write(b"go")
        await events.until(lambda: "closed" in events.names())
    assert type(events.told[-1][1]) is TimeoutError
    client.writer.transport.abort()


async def test_a_peer_that_does_not_read_costs_bounded_memory(connect):
    """It writes on and on; what it is to get back is not kept for it."""
    events = Recording()
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        client.writer.transport.pause_reading()
        client.writer.transport.set_write_buffer_limits(0)
        size = 0
        conn = None
        for number in itertools.count():
            client.writer.write(bytes(65536))
            size += 65536
            try:
                async with asyncio.timeout(0.3):
                    await client.writer.drain()
            except TimeoutError:
                break
            assert number < 1000, "65 MB, and nobody says stop"
        conn = next(what[1] for what in events.told if what[0] == "opened")
        assert conn.queued() < 1_000_000
        client.writer.transport.resume_reading()
        assert await client.read(size) == bytes(size)


async def test_tick(connect):
    delays = iter([0, 0.001, (0.001, Action.NONE), (0, Action.SHUTDOWN)])
    seen = []

    class Events(Recording):
        def tick(self):
            delay = next(delays)
            seen.append(delay)
            return delay

    server = await epoll_loop.start_serving(Events(), TCP)
    async with asyncio.timeout(LIMIT):
        await server.wait_closed()
    assert seen == [0, 0.001, (0.001, Action.NONE), (0, Action.SHUTDOWN)]


async def test_tick_that_raises_goes_on():
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context["exception"]))
    outs = iter([0, ZeroDivisionError(), 10**400, Action.SHUTDOWN])

    class Events(epoll_loop.Events):
        def tick(self):
            out = next(outs)
            if isinstance(out, Exception):
                raise out
            return out

    server = await epoll_loop.start_serving(Events(), TCP)
    async with asyncio.timeout(LIMIT):
        await server.wait_closed()
    assert [type(exc) for exc in reports] == [ZeroDivisionError, OverflowError]


async def test_shutdown_sends_what_is_queued(connect):
    events = Recording()
    size = 20_000_000
    events.instead["data"] = lambda conn, data: (bytes(size), Action.SHUTDOWN)
    server = await epoll_loop.start_serving(events, TCP)
    client = await connect(server.addresses[0])
    client.writer.write(b"go")
    assert len(await client.rest()) == size
    async with asyncio.timeout(LIMIT):
        await server.wait_closed()
    assert events.told[-1] == ("closed", None)


async def test_shutdown_has_a_deadline(connect):
    events = Recording()
    events.instead["data"] = lambda conn, data: (bytes(50_000_000), Action.SHUTDOWN)
    server = await epoll_loop.start_serving(events, TCP, shutdown_timeout=0.05)
    client = await connect(server.addresses[0])
    client.writer.transport.pause_reading()
    client.writer.write(b"go")
    async with asyncio.timeout(LIMIT):
        await server.wait_closed()
    assert type(events.told[-1][1]) is TimeoutError
    client.writer.transport.abort()


async def test_pre_write_comes_before_bytes(connect):
    class Events(Recording):
        def pre_write(self):
            self.note("pre_write")

    events = Events()
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        assert await client.say(b"x") == b"x"
    assert events.names()[1:4] == ["opened", "data", "pre_write"]


async def test_tls(connect):
    server_context, client_context = tls.server_context(), tls.client_context()
    events = Recording()
    events.instead["opened"] = lambda conn: b"hi"
    async with await epoll_loop.start_serving(events, TCP, tls=server_context) as server:
        client = await connect(server.addresses[0], ssl=client_context, **tls.NAME)
        assert await client.read(2) == b"hi"
        assert await client.say(b"x" * 300_000) == b"x" * 300_000
        conn = events.told[1][1]
        assert isinstance(conn.get_extra_info("ssl_object"), (ssl.SSLObject, ssl.SSLSocket))
        with pytest.raises(RuntimeError, match="TLS"):
            conn.detach()


async def test_with_tls_the_end_of_what_is_written_is_the_end(connect):
    events = Recording()
    events.instead["data"] = lambda conn, data: (conn.write(data), conn.write_eof())[0]
    async with await epoll_loop.start_serving(events, TCP, tls=tls.server_context()) as server:
        client = await connect(server.addresses[0], ssl=tls.client_context(), **tls.NAME)
        assert await client.say(b"the last") == b"the last"
        assert await client.rest() == b""
        await events.until(lambda: "closed" in events.names())
    assert events.told[-1] == ("closed", None)


async def test_one_address_with_tls_and_one_without(connect):
    secret = epoll_loop.Address("tcp", "127.0.0.1", tls=tls.server_context())
    async with await epoll_loop.start_serving(Recording(), secret, TCP) as server:
        client = await connect(server.addresses[0], ssl=tls.client_context(), **tls.NAME)
        assert await client.say(b"x") == b"x"
        client = await connect(server.addresses[1])
        assert await client.say(b"x") == b"x"


@pytest.mark.parametrize(
    ("addresses", "options", "error", "text"),
    [
        ([], {}, ValueError, "no address"),
        (["tcp://127.0.0.1"], {}, ValueError, "tcp://HOST:PORT"),
        (["http://127.0.0.1:1"], {}, ValueError, "begins with none of tcp, tcp4, tcp6, "),
        (["tcp://127.0.0.1:99999"], {}, ValueError, "Port out of range"),
        (["tcp://127.0.0.1:0?reuse=true"], {}, ValueError, "reuseport"),
        (["unix://"], {}, ValueError, "has a path"),
        ([7], {}, TypeError, "not 'int'"),
        ([TCP], {"idle_timeout": 0}, ValueError, "idle_timeout"),
        ([TCP], {"write_timeout": -1}, ValueError, "write_timeout"),
        ([TCP], {"shutdown_timeout": 10**400}, ValueError, "shutdown_timeout is a number of seconds"),
        ([TCP], {"idle_timeout": 10**400}, ValueError, "idle_timeout is a number of seconds"),
        ([TCP], {"shutdown_timeout": -1}, ValueError, "shutdown_timeout"),
        (["unix:///nonexistent/folder/socket"], {}, OSError, "No such file"),
    ],
)
async def test_bad_arguments(addresses, options, error, text):
    """And the good address before it is closed again."""
    good = [TCP] if addresses and not options else []
    with pytest.raises(error, match=text):
        await epoll_loop.start_serving(Recording(), *good, *addresses, **options)


async def test_a_busy_port():
    async with await epoll_loop.start_serving(Recording(), TCP) as server:
        host, port = server.addresses[0]
        with pytest.raises(OSError, match="in use"):
            await epoll_loop.start_serving(Recording(), f"tcp://{host}:{port}")


class Duck:
    """Has all that is called, and is no `Events`."""

    framing = None

    def data(self, conn, data):
        return data


class Framed(epoll_loop.Events):
    framing = b"\r\n"


class Maker(epoll_loop.Events):
    framing = epoll_loop.delimiter


class Method(epoll_loop.Events):
    def framing(self, data, start):
        return data, len(data)


@pytest.mark.parametrize(
    ("events", "text"),
    [
        (Recording, "events is an object of a class that inherits from epoll_loop.Events, not <class '.*Recording'>"),
        (Duck(), "inherits from epoll_loop.Events, not <.*Duck object"),
        (None, "inherits from epoll_loop.Events, not None"),
        (Framed(), r"framing is a function of bytes and a position, see delimiter\(\), and no method: b"),
        (Method(), "and no method: <function Method.framing"),
        (Maker(), r"framing is what delimiter\(\) or length_prefix\(\) returns, not <function delimiter"),
    ],
    ids=["class", "duck", "None", "framing", "method", "maker"],
)
async def test_what_are_no_events(events, text):
    with pytest.raises(TypeError, match=text):
        await epoll_loop.start_serving(events, TCP)


async def test_the_error_tells_which_address():
    with pytest.raises(FileNotFoundError) as caught:
        await epoll_loop.start_serving(Recording(), TCP, "unix:///nonexistent/folder/socket")
    assert caught.value.__notes__ == ["unix:///nonexistent/folder/socket can not be served"]


def test_a_loop_of_somebody_else():
    with (
        asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner,
        pytest.raises(RuntimeError, match="needs a loop of epoll_loop"),
    ):
        runner.run(epoll_loop.start_serving(Recording(), TCP))


async def test_a_context_for_clients():
    with pytest.raises(ValueError, match="tls is a context for clients"):
        await epoll_loop.start_serving(Recording(), TCP, tls=tls.client_context())


async def test_a_client_that_says_no_goodbye(connect):
    """The end of TLS is a part of what the peer is to take."""
    events = Recording()
    events.instead["data"] = lambda conn, data: (data, Action.CLOSE)
    async with await epoll_loop.start_serving(events, TCP, tls=tls.server_context(), write_timeout=0.05) as server:

        def talk():
            with socket.create_connection(server.addresses[0], LIMIT) as sock:
                secure = tls.client_context().wrap_socket(sock, suppress_ragged_eofs=False, **tls.NAME)
                secure.sendall(b"x")
                assert secure.recv(1) == b"x"
                assert secure.recv(1) == b""
                with tls.plain(secure) as plain:
                    plain.settimeout(LIMIT)
                    return plain.recv(1)  # the end of the connection itself

        assert await asyncio.to_thread(talk) == b""
        await events.until(lambda: "closed" in events.names())
    assert type(events.told[-1][1]) is TimeoutError


async def test_serving_that_raises():
    class Events(epoll_loop.Events):
        def serving(self, server):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await epoll_loop.start_serving(Events(), TCP, "udp://127.0.0.1:0")


async def test_a_slow_reader_is_not_idle(connect):
    """It takes a part of what waits for it each time; all together takes several times as long."""
    events = Recording()
    size = 12_000_000
    events.instead["data"] = lambda conn, data: bytes(size)
    async with await epoll_loop.start_serving(events, TCP, idle_timeout=0.4, write_timeout=0.4) as server:
        client = await connect(server.addresses[0])
        client.writer.write(b"go")
        for _ in range(40):
            assert await client.read(size // 40) == bytes(size // 40)
            await asyncio.sleep(0.03)
    assert "closed" not in events.names()[:3]


@pytest.mark.parametrize("timeout", [None, 0.05])
async def test_a_handshake_that_takes_longer(connect, timeout):
    """Than the server is there, or than is idle: nobody is told of the connection, which ends."""
    events = Recording()
    async with await epoll_loop.start_serving(events, TCP, tls=tls.server_context(), idle_timeout=timeout) as server:
        client = await connect(server.addresses[0])
        for _ in range(5):
            await asyncio.sleep(0)  # accepted
        if timeout is not None:
            assert await client.rest() == b""
    assert await client.rest() == b""
    assert events.names() == ["serving"]


async def test_tls_for_an_address_without_its_own(connect):
    address = epoll_loop.Address("tcp", "127.0.0.1")
    async with await epoll_loop.start_serving(Recording(), address, tls=tls.server_context()) as server:
        client = await connect(server.addresses[0], ssl=tls.client_context(), **tls.NAME)
        assert await client.say(b"x") == b"x"


async def test_tls_on_a_unix_socket(connect, tmp_path):
    path = f"unix://{tmp_path / 'socket'}"
    async with await epoll_loop.start_serving(Recording(), path, tls=tls.server_context()) as server:
        client = await connect(server.addresses[0], ssl=tls.client_context(), **tls.NAME)
        assert await client.say(b"x") == b"x"


class Ticking(epoll_loop.Events):
    """Echoes, and keeps nothing."""

    ticks = 0

    def data(self, conn, data):
        return data

    def tick(self):
        self.ticks += 1
        return 0.001


async def test_a_server_that_has_ended_is_gone_without_the_collector(connect, tmp_path):
    addresses = [TCP, f"unix://{tmp_path / 'socket'}", "udp://127.0.0.1:0"]

    async def serve():
        events = Ticking()
        async with await epoll_loop.start_serving(events, *addresses, idle_timeout=30, write_timeout=0.01) as server:
            client = await connect(server.addresses[0])
            assert await client.say(b"x") == b"x"
            while events.ticks < 10:  # and the looks for what is stuck
                await asyncio.sleep(0)
        assert await client.rest() == b""
        return weakref.ref(server)

    with garbage.without_collector():
        server = await serve()
        garbage.let_go()
        assert server() is None
