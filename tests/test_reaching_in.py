"""What programs and test tools do to loops, transports, servers and handles besides calling them.

asyncio's own loop has to pass the same tests: they ask for what holds there.
"""

import asyncio
import copy
import os
import pickle
import socket
import sys
import weakref
from unittest import mock

import pytest

import epoll_loop

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "epoll_loop": epoll_loop.new_event_loop}
OURS = pytest.mark.parametrize("loop", ["epoll_loop"], indirect=True)


@pytest.fixture(params=LOOPS)
def loop(request):
    new = LOOPS[request.param]()
    yield new
    new.close()


# --- isinstance


async def tcp(loop):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return (await loop.create_connection(asyncio.Protocol, *listening.getsockname()))[0]


async def unix(loop):
    ours, peer = socket.socketpair()
    peer.close()
    return (await loop.create_unix_connection(asyncio.Protocol, sock=ours))[0]


async def udp(loop):
    return (await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0)))[0]


async def read_pipe(loop):
    reader, writer = os.pipe()
    os.close(writer)
    return (await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(reader)))[0]


async def write_pipe(loop):
    reader, writer = os.pipe()
    os.close(reader)
    return (await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writer, "w")))[0]


async def child(loop):
    transport, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "true", stdin=None, stdout=None, stderr=None)
    await transport._wait()
    return transport


async def server(loop):
    return await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)


async def unix_server(loop):
    return await loop.create_unix_server(asyncio.Protocol, f"\0epoll_loop test {os.getpid()}")


async def soon(loop):
    return loop.call_soon(print)


async def threadsafe(loop):
    return loop.call_soon_threadsafe(int)


async def later(loop):
    return loop.call_later(1000, print)


async def end(thing):
    """Close or cancel it, and let that come to its end."""
    (thing.cancel if isinstance(thing, asyncio.Handle) else thing.close)()
    for _ in range(5):
        await asyncio.sleep(0)


KINDS = {
    asyncio.BaseTransport,
    asyncio.ReadTransport,
    asyncio.WriteTransport,
    asyncio.Transport,
    asyncio.DatagramTransport,
    asyncio.SubprocessTransport,
    asyncio.AbstractServer,
    asyncio.Server,
    asyncio.Handle,
    asyncio.TimerHandle,
}
STREAM = {asyncio.BaseTransport, asyncio.ReadTransport, asyncio.WriteTransport, asyncio.Transport}
# Some of these asyncio's own have from their bases rather than by intent, and programs rely on what is there.
DATAGRAM = {*STREAM, asyncio.DatagramTransport} if sys.version_info >= (3, 12) else STREAM
SERVER = {asyncio.AbstractServer, asyncio.Server}
MADE = [
    (tcp, STREAM),
    (unix, STREAM),
    (udp, DATAGRAM),
    (read_pipe, {asyncio.BaseTransport, asyncio.ReadTransport}),
    (write_pipe, STREAM),
    (child, {asyncio.BaseTransport, asyncio.SubprocessTransport}),
    (server, SERVER),
    (unix_server, SERVER),
    (soon, {asyncio.Handle}),
    (threadsafe, {asyncio.Handle}),
    (later, {asyncio.Handle, asyncio.TimerHandle}),
]


@pytest.mark.parametrize(("make", "expected"), MADE, ids=[make.__name__ for make, _ in MADE])
def test_what_a_thing_is(loop, make, expected):
    async def main():
        thing = await make(loop)
        found = {kind for kind in KINDS if isinstance(thing, kind)}
        await end(thing)
        return found

    assert loop.run_until_complete(main()) == expected


def test_a_match_statement_sees_it_too(loop):
    async def main():
        transport = await tcp(loop)
        try:
            match transport:
                case asyncio.DatagramTransport():
                    return "datagram"
                case asyncio.Transport():
                    return "stream"
        finally:
            await end(transport)

    assert loop.run_until_complete(main()) == "stream"


@OURS
def test_the_loop_is_an_event_loop_and_none_of_asyncios_own(loop):
    """`BaseEventLoop` says that there is a `_ready`, a `_scheduled` and a `_selector` to reach into."""
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert not isinstance(loop, asyncio.BaseEventLoop)
    for name in ("_scheduled", "_selector"):
        assert not hasattr(loop, name)


# --- attributes and methods of a loop

METHODS = sorted(name for name in dir(asyncio.AbstractEventLoop) if not name.startswith("_"))


@pytest.mark.parametrize("name", METHODS)
def test_any_method_can_be_assigned_and_comes_back(loop, name):
    before = getattr(loop, name)
    patched = mock.Mock(return_value="patched")
    setattr(loop, name, patched)
    assert getattr(loop, name)(1, two=2) == "patched"
    patched.assert_called_once_with(1, two=2)
    delattr(loop, name)
    assert getattr(loop, name) == before


@pytest.mark.parametrize("name", METHODS)
def test_any_method_can_be_patched(loop, name):
    before = getattr(loop, name)
    with mock.patch.object(loop, name) as patched:
        assert getattr(loop, name) is patched
    assert getattr(loop, name) == before


def test_any_attribute_can_be_set(loop):
    loop._something = "of somebody else"
    loop.slow_callback_duration = 7
    assert loop._something == "of somebody else"
    assert loop.slow_callback_duration == 7
    assert vars(loop)["_something"] == "of somebody else"
    del loop._something
    assert not hasattr(loop, "_something")


def test_weak_references(loop):
    class Owner:
        pass

    owners = weakref.WeakKeyDictionary({loop: Owner()})
    assert weakref.ref(loop)() is loop
    assert loop in owners
    assert len({loop, loop}) == 1


def test_tasks_and_futures_call_what_was_assigned_to_call_soon(loop):
    usual, calls = loop.call_soon, []

    def call_soon(callback, *args, context=None):
        calls.append(callback)
        return usual(callback, *args, context=context)

    async def main():
        await asyncio.sleep(0)
        future = loop.create_future()
        future.add_done_callback(calls.append)
        future.set_result(None)
        await future

    loop.call_soon = call_soon
    loop.run_until_complete(main())
    del loop.call_soon
    assert len(calls) >= 4
    seen = len(calls)
    loop.run_until_complete(main())
    assert len(calls) == seen + 1  # of main() itself


def test_asyncio_calls_what_was_assigned(loop):
    async def main():
        with (
            mock.patch.object(loop, "call_later", wraps=loop.call_later) as call_later,
            mock.patch.object(loop, "call_at", wraps=loop.call_at) as call_at,
            mock.patch.object(loop, "create_task", wraps=loop.create_task) as create_task,
            mock.patch.object(loop, "run_in_executor", wraps=loop.run_in_executor) as run_in_executor,
            mock.patch.object(loop, "create_server", wraps=loop.create_server) as create_server,
            mock.patch.object(loop, "create_connection", wraps=loop.create_connection) as create_connection,
        ):
            await asyncio.sleep(0.001)
            call_later.assert_called_once()
            async with asyncio.timeout(1000):
                call_at.assert_called()
            await asyncio.create_task(asyncio.sleep(0))
            create_task.assert_called_once()
            assert await asyncio.to_thread(int, 7) == 7
            run_in_executor.assert_called_once()
            server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
            create_server.assert_called_once()
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            create_connection.assert_called_once()
            assert await reader.read() == b""
            writer.close()
            server.close()
            await server.wait_closed()

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())


def test_names_are_looked_up_by_what_was_assigned(loop):
    """How tests keep a program from asking the real DNS."""

    async def main():
        accepted = loop.create_future()
        server = await asyncio.start_server(lambda _, writer: accepted.set_result(writer), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)]
        with mock.patch.object(loop, "getaddrinfo", return_value=found, new_callable=mock.AsyncMock) as lookup:
            _, writer = await asyncio.open_connection("no.such.host.invalid", 80)
        assert lookup.call_args.args[:2] == ("no.such.host.invalid", 80)
        assert writer.get_extra_info("peername") == address
        for each in (writer, await accepted):
            each.close()
            await each.wait_closed()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


@pytest.mark.parametrize("name", ["call_exception_handler", "default_exception_handler"])
def test_exceptions_go_to_what_was_assigned(loop, name):
    with mock.patch.object(loop, name) as handler:
        loop.call_soon(lambda: 1 / 0)
        loop.stop()
        loop.run_forever()
    (context,) = handler.call_args.args
    assert isinstance(context["exception"], ZeroDivisionError)


def test_a_done_future_stops_the_loop_by_what_was_assigned(loop):
    with mock.patch.object(loop, "stop", wraps=loop.stop) as stop:
        loop.run_until_complete(asyncio.sleep(0))
    stop.assert_called_once_with()


@pytest.mark.parametrize("kind", [asyncio.SelectorEventLoop, epoll_loop.Loop])
def test_a_subclass_has_its_say(kind):
    log = []

    class Loop(kind):
        def call_soon(self, callback, *args, context=None):
            log.append("call_soon")
            return super().call_soon(callback, *args, context=context)

        def create_task(self, coro, **kwargs):
            log.append("create_task")
            return super().create_task(coro, **kwargs)

        def call_exception_handler(self, context):
            log.append(context["exception"])

        def close(self):
            log.append("close")
            super().close()

    with asyncio.Runner(loop_factory=Loop) as runner:
        assert runner.run(asyncio.sleep(0, "result")) == "result"
        runner.get_loop().call_soon(lambda: 1 / 0)
        runner.run(asyncio.sleep(0))
    assert {"call_soon", "create_task", "close"} <= set(map(str, log))
    assert [type(entry) for entry in log if not isinstance(entry, str)] == [ZeroDivisionError]


# --- copies


@OURS
@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"])
@pytest.mark.parametrize("make", [None, tcp, unix, udp, read_pipe, write_pipe, child, server, soon, later])
def test_there_is_one_of_each(loop, make, way):
    """A copy would have the same descriptors, and close them."""

    async def main():
        thing = loop if make is None else await make(loop)
        try:
            with pytest.raises(TypeError, match="pickle"):
                way(thing)
        finally:
            if make is not None:
                await end(thing)

    loop.run_until_complete(main())
