"""Certificates of clients, contexts that are chosen by name, ALPN, sessions that are resumed, the key log."""

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import tls

ASYNCIO_TOO = True
pytestmark = pytest.mark.usefixtures("no_descriptor_left", "engine")

CLIENT = tls.AUTHORITY.issue_cert("client@example.org")


@pytest.fixture
def demanding(server_context: ssl.SSLContext) -> None:
    """The server wants to know who the client is."""
    server_context.verify_mode = ssl.CERT_REQUIRED
    tls.AUTHORITY.configure_trust(server_context)


def name_in(certificate: Any) -> str:
    [(_, name)] = certificate["subjectAltName"]
    return str(name)


@pytest.mark.usefixtures("demanding", "version")
async def test_a_client_with_a_certificate(link: tls.Link, client_context: ssl.SSLContext) -> None:
    CLIENT.configure_cert(client_context)
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        theirs = protocol.transport.get_extra_info("peercert")
        names = {name_in(theirs), name_in(peer.getpeercert())}
        assert names == {"client@example.org", "localhost"}


@pytest.mark.usefixtures("demanding", "version")
async def test_a_client_without_one(
    beginning: tls.Beginning, server_context: ssl.SSLContext, client_context: ssl.SSLContext, reports: list[Any]
) -> None:
    """With TLS 1.3 the client has ended its handshake when it is refused."""
    protocol = tls.Recorder()
    async with beginning(lambda: protocol) as (sock, connecting):

        def converse() -> None:
            client = connecting is None
            with tls.secure(sock, client_context if client else server_context, not client) as peer:
                peer.recv(1)

        talking = asyncio.create_task(asyncio.to_thread(converse))
        if connecting is None:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await talking
            await tls.turns()
            assert protocol.calls == []
        else:
            try:
                await connecting
            except (ssl.SSLError, ConnectionError):
                assert protocol.calls == []
            else:
                exc = await protocol.until_lost()
                assert exc is None or isinstance(exc, (ssl.SSLError, ConnectionError))
                assert protocol.calls[0] == "connection_made"
            with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
                await talking
    assert reports == []


@pytest.mark.usefixtures("demanding")
async def test_authentication_after_the_handshake(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """The server's transport asks for a certificate when something has been said already."""
    CLIENT.configure_cert(client_context)
    server_context.post_handshake_auth = client_context.post_handshake_auth = True
    protocol = tls.Recorder()

    def converse(peer: ssl.SSLSocket) -> None:
        peer.sendall(b"who am I?")
        assert peer.recv(1) == b"?"
        peer.sendall(b"me")
        assert peer.recv(1) == b"!"

    def ask() -> None:
        ssl_object = protocol.transport.get_extra_info("ssl_object")
        if protocol.data == b"who am I?":
            assert not ssl_object.getpeercert()
            ssl_object.verify_client_post_handshake()
            protocol.transport.write(b"?")  # and so the request goes out
        elif protocol.data == b"who am I?me":
            assert name_in(ssl_object.getpeercert()) == "client@example.org"
            protocol.transport.write(b"!")

    protocol.hooks["data_received"] = ask
    async with tls.accepted(protocol, server_context, client_context) as peer:
        await asyncio.to_thread(converse, peer)


@pytest.mark.usefixtures("demanding")
async def test_a_client_that_is_asked_after_the_handshake(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """It answers although its protocol has nothing to write."""
    CLIENT.configure_cert(client_context)
    server_context.post_handshake_auth = client_context.post_handshake_auth = True
    protocol = tls.Recorder()

    def converse(peer: ssl.SSLSocket) -> None:
        peer.sendall(b"x")
        peer.verify_client_post_handshake()
        peer.do_handshake()  # sends the request
        peer.settimeout(0.01)
        for _ in range(1000):
            with pytest.raises(TimeoutError):
                peer.recv(1)
            if peer.getpeercert():
                break
        assert name_in(peer.getpeercert()) == "client@example.org"

    async with tls.connected(protocol, server_context, client_context) as peer:
        await asyncio.to_thread(converse, peer)


async def test_the_name_that_the_client_asks_for_chooses_the_context(
    link: tls.Link, server_context: ssl.SSLContext
) -> None:
    other = tls.server_context()
    asked: list[Any] = []

    def choose(ssl_object: Any, name: str, context: ssl.SSLContext) -> None:
        asked.append((name, context))
        ssl_object.context = other

    server_context.sni_callback = choose
    protocol = tls.Recorder()
    async with link(protocol) as peer:
        assert asked == [("localhost", server_context)]
        ssl_object = protocol.transport.get_extra_info("ssl_object")
        assert other in (peer.context, ssl_object.context)
        protocol.transport.write(b"x")
        assert await tls.read(peer, 1) == b"x"


async def test_a_name_that_is_refused(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext, reports: list[Any]
) -> None:
    server_context.sni_callback = lambda ssl_object, name, context: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    async with await asyncio.start_server(tls.echo, "127.0.0.1", 0, ssl=server_context) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=client_context, **tls.NAME)
    assert reports == []


@pytest.mark.parametrize(
    ("offered", "supported", "selected"),
    [(["h2", "http/1.1"], ["http/1.1"], "http/1.1"), (["a"], ["b"], None), ([], ["b"], None)],
)
async def test_alpn(
    link: tls.Link,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    offered: list[str],
    supported: list[str],
    selected: str | None,
) -> None:
    """Known when connection_made() is called."""
    server_context.set_alpn_protocols(supported)
    if offered:
        client_context.set_alpn_protocols(offered)
    protocol = tls.Recorder()
    found: list[Any] = []
    protocol.hooks["connection_made"] = lambda: found.append(
        protocol.transport.get_extra_info("ssl_object").selected_alpn_protocol()
    )
    async with link(protocol) as peer:
        assert found == [selected]
        assert peer.selected_alpn_protocol() == selected


@pytest.mark.usefixtures("version")
async def test_a_client_that_blocks_resumes_its_session(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    def converse(address: Any, session: Any) -> Any:
        sock = socket.create_connection(address, tls.LIMIT)
        with client_context.wrap_socket(sock, server_hostname="localhost", session=session) as peer:
            assert peer.session_reused is (session is not None)
            peer.sendall(b"x")
            assert peer.recv(1) == b"x"  # and with it the ticket has come
            return peer.session

    async with await asyncio.start_server(tls.echo, "127.0.0.1", 0, ssl=server_context) as server:
        session = None
        for _ in range(3):
            session = await asyncio.to_thread(converse, server.sockets[0].getsockname(), session)


class Resuming(ssl.SSLContext):
    """Goes on with the session of the connection before."""

    session: Any = None

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return super().wrap_bio(*args, **kwargs, session=self.session)


@pytest.mark.usefixtures("version")
async def test_a_client_of_the_loop_resumes_its_session(
    server_context: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    context = Resuming(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = version
    tls.AUTHORITY.configure_trust(context)
    reused = []
    async with await asyncio.start_server(tls.echo, "127.0.0.1", 0, ssl=server_context) as server:
        for _ in range(3):
            reader, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=context, **tls.NAME
            )
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            ssl_object = writer.get_extra_info("ssl_object")
            reused.append(ssl_object.session_reused)
            context.session = ssl_object.session
            writer.close()
            await writer.wait_closed()
    assert reused == [False, True, True]


async def test_the_key_log(
    link: tls.Link, server_context: ssl.SSLContext, client_context: ssl.SSLContext, tmp_path: Path
) -> None:
    """Both ends write the secrets of the same connection."""
    files = [tmp_path / "client", tmp_path / "server"]
    for context, file in zip((client_context, server_context), files, strict=True):
        context.keylog_filename = str(file)
    try:
        protocol = tls.Recorder()
        async with link(protocol) as peer:
            protocol.transport.write(b"x")
            assert await tls.read(peer, 1) == b"x"
        secrets = [
            {line for line in file.read_text().splitlines() if not line.startswith("#")} for file in files
        ]
        assert secrets[0] == secrets[1]
        assert len(secrets[0]) >= 4
    finally:
        for context in (client_context, server_context):
            context.keylog_filename = None  # closes the file
