"""What the things are that a loop makes: to `isinstance()` what asyncio's own are; and there is one of each."""

import asyncio
import copy
import os
import pickle
import socket
import sys

import pytest

import epoll_loop

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "epoll_loop": epoll_loop.new_event_loop}
OURS = pytest.mark.parametrize("loop", ["epoll_loop"], indirect=True)


@pytest.fixture(params=LOOPS)
def loop(request):
    new = LOOPS[request.param]()
    yield new
    new.close()


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
DATAGRAM = {*STREAM, asyncio.DatagramTransport}
# What asyncio's own have not been from the beginning.
LATER = {asyncio.DatagramTransport} if sys.version_info < (3, 12) else set()
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

    assert expected - LATER <= loop.run_until_complete(main()) <= expected


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
