"""New keys in the middle of a connection: renegotiation (TLS 1.2) and key update (TLS 1.3), as the peer wants it.

`ssl` has no call for either: the peer's is made with ctypes, in the very library that `_ssl` uses.
"""

import _ssl
import asyncio
import contextlib
import ctypes
import ssl
from typing import Any

import pytest
import tls

ASYNCIO_TOO = True
pytestmark = pytest.mark.usefixtures("no_descriptor_left", "engine")

ALLOW_CLIENT_RENEGOTIATION = 0x100  # SSL_OP_ALLOW_CLIENT_RENEGOTIATION, from OpenSSL 3.0 on not the default
SIZE = 300_000


class Native:
    """The calls of libssl on the `SSL *` of a socket."""

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(getattr(_ssl, "__file__", None))
            self.renegotiate, self.key_update, version = (
                library[f"SSL_{name}"] for name in ("renegotiate", "key_update", "get_version")
            )
        except (OSError, AttributeError) as exc:
            pytest.skip(f"libssl is out of reach: {exc}")
        self.renegotiate.argtypes, self.key_update.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_int]
        version.argtypes, version.restype = [ctypes.c_void_p], ctypes.c_char_p
        self._version = version

    def pointer(self, sock: ssl.SSLSocket) -> int:
        """A `_ssl._SSLSocket` is a Python object that begins with the socket and the `SSL *`."""
        inner: Any = sock._sslobj  # type: ignore[attr-defined]
        address = id(inner) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
        found = ctypes.c_void_p.from_address(address).value
        if not found or self._version(found).decode() != inner.version():
            pytest.skip("the layout of _SSLSocket is another one")
        return found


@pytest.fixture
def native() -> Native:
    return Native()


@pytest.fixture
def older(server_context: ssl.SSLContext, client_context: ssl.SSLContext, engine: str) -> None:
    """TLS 1.2, where the client may ask for a renegotiation too."""
    if engine == "kernel":
        pytest.skip("OpenSSL has no renegotiation with kernel TLS; and with a socket of its own, its SSL_write() reads")
    client_context.maximum_version = ssl.TLSVersion.TLSv1_2
    server_context.options |= ALLOW_CLIENT_RENEGOTIATION


class Echo(tls.Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.hooks["data_received"] = self.send_back
        self.sent = 0

    def send_back(self) -> None:
        self.transport.write(bytes(self.data[self.sent :]))
        self.sent = len(self.data)


def talk(peer: ssl.SSLSocket, data: bytes) -> None:
    """Send something, and have it back."""
    peer.sendall(data)
    found = bytearray()
    while len(found) < len(data):
        found += peer.recv(65536)
    assert found == data


@pytest.mark.usefixtures("older")
async def test_renegotiation(link: tls.Link, native: Native) -> None:
    """The peer is the client that asks for it, or the server."""
    protocol = Echo()

    def converse(peer: ssl.SSLSocket) -> None:
        talk(peer, b"before")
        for size in (1, 20_000, 20_000):
            assert native.renegotiate(native.pointer(peer)) == 1
            peer.do_handshake()
            talk(peer, tls.pattern(size))
        peer.unwrap().close()

    async with link(protocol) as peer:
        await asyncio.to_thread(converse, peer)
        assert await protocol.until_lost() is None


@pytest.mark.usefixtures("older")
async def test_a_server_renegotiates_while_data_flows(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext, native: Native
) -> None:
    """Until the new keys are there, a write wants to read."""
    protocol = tls.Recorder()

    def converse(peer: ssl.SSLSocket) -> bytes:
        found = bytearray()
        data = tls.pattern(SIZE)
        for i in range(10):
            assert native.renegotiate(native.pointer(peer)) == 1
            peer.do_handshake()  # asks the client, who has much on the way
            found += peer.recv(65536)
            peer.sendall(data[i * SIZE // 10 : (i + 1) * SIZE // 10])
        while len(found) < SIZE:
            found += peer.recv(65536)
        return bytes(found)

    async with tls.connected(protocol, server_context, client_context) as peer:
        talking = asyncio.create_task(asyncio.to_thread(converse, peer))
        for i in range(0, SIZE, 10_000):
            protocol.transport.write(tls.pattern(SIZE)[i : i + 10_000])
            await asyncio.sleep(0)
        assert await talking == tls.pattern(SIZE)
        assert await protocol.until_data(SIZE) == tls.pattern(SIZE)


@pytest.mark.usefixtures("older")
@pytest.mark.parametrize("how", ["no renegotiation", "default"])
async def test_a_renegotiation_that_is_refused(
    beginning: tls.Beginning, server_context: ssl.SSLContext, client_context: ssl.SSLContext, native: Native, how: str
) -> None:
    """The connection goes on, or the peer takes it badly; the protocol has all that came before."""
    protocol = tls.Recorder()
    protocol.hooks["data_received"] = lambda: protocol.data == b"beforeafter" and protocol.transport.write(b"x")
    async with beginning(lambda: protocol) as (sock, connecting):
        client = connecting is None
        if how == "default":
            server_context.options &= ~ALLOW_CLIENT_RENEGOTIATION
        else:
            (server_context if client else client_context).options |= ssl.OP_NO_RENEGOTIATION

        def converse() -> None:
            with tls.secure(sock, client_context if client else server_context, not client) as peer:
                peer.sendall(b"before")
                assert native.renegotiate(native.pointer(peer)) == 1
                peer.do_handshake()
                peer.sendall(b"after")
                assert peer.recv(1) == b"x"

        with contextlib.suppress(OSError):
            await asyncio.to_thread(converse)
        await protocol.until_lost()
    assert protocol.data in (b"before", b"beforeafter")
    assert protocol.calls.count("connection_lost") == 1


both = pytest.mark.parametrize("asks", [0, 1], ids=["update_not_requested", "update_requested"])


@pytest.fixture
def newest(client_context: ssl.SSLContext) -> None:
    client_context.minimum_version = ssl.TLSVersion.TLSv1_3


@both
@pytest.mark.usefixtures("newest")
async def test_key_update(link: tls.Link, native: Native, asks: int) -> None:
    protocol = Echo()

    def converse(peer: ssl.SSLSocket) -> None:
        talk(peer, b"before")
        for size in (1, 20_000, 20_000):
            assert native.key_update(native.pointer(peer), asks) == 1
            peer.do_handshake()
            talk(peer, tls.pattern(size))
        peer.unwrap().close()

    async with link(protocol) as peer:
        await asyncio.to_thread(converse, peer)
        assert await protocol.until_lost() is None


@both
@pytest.mark.usefixtures("newest")
async def test_key_updates_while_data_flows(link: tls.Link, native: Native, asks: int) -> None:
    protocol = tls.Recorder()

    def converse(peer: ssl.SSLSocket) -> bytes:
        found = bytearray()
        data = tls.pattern(SIZE)
        for i in range(10):
            assert native.key_update(native.pointer(peer), asks) == 1
            peer.sendall(data[i * SIZE // 10 : (i + 1) * SIZE // 10])
            found += peer.recv(65536)
        while len(found) < SIZE:
            found += peer.recv(65536)
        return bytes(found)

    async with link(protocol) as peer:
        talking = asyncio.create_task(asyncio.to_thread(converse, peer))
        for i in range(0, SIZE, 10_000):
            protocol.transport.write(tls.pattern(SIZE)[i : i + 10_000])
            await asyncio.sleep(0)
        assert await talking == tls.pattern(SIZE)
        assert await protocol.until_data(SIZE) == tls.pattern(SIZE)
