"""What a transport says of itself, and what happens when nobody closes it."""

import asyncio
import pickle
import re
import socket
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path
from typing import Any

import garbage
import pytest
import wire

import epoll_loop

ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])
ROOT = Path(epoll_loop.__file__).parent.parent


async def test_extra_info(tcp: wire.Link) -> None:
    protocol = wire.Recorder()
    async with tcp(protocol) as peer:
        transport = protocol.transport
        us, them = peer.getpeername(), peer.getsockname()
        assert transport.get_extra_info("sockname") == us
        assert transport.get_extra_info("peername") == them
        sock = transport.get_extra_info("socket")
        assert transport.get_extra_info("socket") is sock
        assert sock.getpeername() == them
        for name in ("sslcontext", "cipher", "pipe", "no such thing"):
            assert transport.get_extra_info(name) is None
            assert transport.get_extra_info(name, 3) == 3
        transport.close()
        await protocol.until_lost()
        await wire.turns()
        assert transport.get_extra_info("sockname") == us
        assert transport.get_extra_info("peername") == them


async def test_extra_info_asked_at_the_end_only(tcp: wire.Link) -> None:
    protocol = wire.Recorder()
    found: list[Any] = []
    protocol.hooks["connection_lost"] = lambda: found.extend(
        protocol.transport.get_extra_info(name) for name in ("sockname", "peername")
    )
    async with tcp(protocol) as peer:
        expected = [peer.getpeername(), peer.getsockname()]
        peer.close()
        await protocol.until_lost()
        await wire.turns()
        assert found == expected
        assert protocol.transport.get_extra_info("peername") == expected[1]


@ours
async def test_repr(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        transport = protocol.transport
        number = transport.get_extra_info("socket").fileno()

        def shown(pattern: str) -> Any:
            return re.fullmatch(f"<StreamTransport {pattern}>", repr(transport))

        assert shown(f"fd={number} read=polling write=<idle, bufsize=0>")
        transport.pause_reading()
        assert shown(f"fd={number} read=idle write=<idle, bufsize=0>")
        wire.shrink(transport)
        transport.write(bytes(wire.LARGE))
        assert shown(f"fd={number} read=idle write=<polling, bufsize=\\d+>")
        transport.close()
        assert shown(f"closing fd={number} read=idle write=<polling, bufsize=\\d+>")
        await wire.read_all(peer)
        await protocol.until_lost()
        await wire.turns()
        assert shown("closed fd=-1")


async def test_it_is_an_asyncio_transport(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol):
        transport = protocol.transport
        for kind in (asyncio.Transport, asyncio.ReadTransport, asyncio.WriteTransport, asyncio.BaseTransport):
            assert isinstance(transport, kind)
        assert not isinstance(transport, asyncio.DatagramTransport)
        assert weakref.ref(transport)() is transport
        assert {transport: 1}[transport] == 1
        with pytest.raises(TypeError):
            pickle.dumps(transport)


def test_unclosed_transport_warns(either_loop: asyncio.AbstractEventLoop) -> None:
    theirs, ours_ = socket.socketpair()
    with theirs:
        held = [either_loop.run_until_complete(either_loop.create_unix_connection(asyncio.Protocol, sock=ours_))]
        either_loop.close()

        def drop() -> None:
            held.clear()
            garbage.collect()

        with pytest.warns(ResourceWarning, match="unclosed transport <"):
            drop()
        ours_.close()


UNCLOSED = """
    import asyncio, gc, os, socket, sys, warnings
    import epoll_loop

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport):
            got.set_result(None)

    async def main():
        global got
        got = asyncio.get_running_loop().create_future()
        server = await asyncio.get_running_loop().create_server(Accepted, "127.0.0.1", 0)
        client = socket.create_connection(server.sockets[0].getsockname())
        await got
        server.close()
        return client

    before = len(os.listdir("/proc/self/fd"))
    warnings.simplefilter("error")
    loop = epoll_loop.new_event_loop()
    client = loop.run_until_complete(main())
    loop.close()
    gc.collect()
    client.close()
    print(len(os.listdir("/proc/self/fd")) - before)
"""


def test_unclosed_transport_frees_its_descriptor_even_if_the_warning_is_an_error() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(UNCLOSED)],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert "unclosed transport" in done.stderr
    assert done.stdout == "0\n"
