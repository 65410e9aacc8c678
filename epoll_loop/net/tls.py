"""TLS: a protocol between the stream and the program's own, and `start_tls()`."""

from __future__ import annotations

import asyncio
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from epoll_loop.core.reactor import Reactor

if TYPE_CHECKING:
    from ssl import SSLContext

try:
    import ssl as _ssl
except ImportError:  # a Python built without OpenSSL
    _ssl = None  # type: ignore[assignment]


class TLS:
    """What `ssl=` and the arguments that go with it ask for."""

    __slots__ = ("_context", "_options")

    def __init__(
        self,
        ssl: bool | SSLContext,
        server_side: bool,
        server_hostname: str | None,
        handshake_timeout: float | None,
        shutdown_timeout: float | None,
    ) -> None:
        self._context = None if isinstance(ssl, bool) else ssl  # asyncio's default one
        self._options = {
            "server_side": server_side,
            "server_hostname": server_hostname,
            "ssl_handshake_timeout": handshake_timeout,
            "ssl_shutdown_timeout": shutdown_timeout,
        }

    def over(self, loop: Any, protocol: Any, waiter: asyncio.Future[None] | None, *, connected: bool = False) -> Any:
        """Return the protocol that does TLS for another one, which is `connected` already if it has a transport.

        The future is done when the handshake is.
        """
        return SSLProtocol(
            loop, protocol, self._context, waiter, call_connection_made=not connected, **self._options  # type: ignore[arg-type]
        )

    def factory(self, loop: Any, protocol_factory: Callable[[], Any]) -> Callable[[], Any]:
        """Return the factory of a server whose connections all do TLS."""
        return lambda: self.over(loop, protocol_factory(), None)


class Securing(Reactor):
    """The room of the loop that turns TLS on."""

    __slots__ = ()

    async def start_tls(
        self,
        transport: Any,
        protocol: Any,
        sslcontext: SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Any:
        """Go on with TLS on an open connection; return the transport that the protocol has to use from now on.

        TypeError for another kind of transport or context. If the handshake fails, or is cancelled, the connection is
        closed. See `loop.start_tls()` of asyncio.
        """
        if _ssl is None:
            raise RuntimeError("Python ssl module is not available")
        if not isinstance(sslcontext, _ssl.SSLContext):
            raise TypeError(f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}")
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        waiter: asyncio.Future[None] = self.create_future()
        tls = TLS(sslcontext, server_side, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout)
        engine = tls.over(self, protocol, waiter, connected=True)
        secured = engine._app_transport
        transport.pause_reading()
        if server_side and isinstance(protocol, asyncio.StreamReaderProtocol):
            _move_hello(protocol._stream_reader, engine)  # type: ignore[attr-defined]
        transport.set_protocol(engine)
        engine.connection_made(transport)
        transport.resume_reading()
        try:
            await done(waiter, transport)
        finally:
            del waiter  # its exception knows this frame: no cycle
        return secured


def _move_hello(reader: Any, engine: Any) -> None:
    """A client may be faster than the server's handler: what it has begun its handshake with is in the reader."""
    if reader is not None and reader._buffer:
        engine._incoming.write(reader._buffer)
        reader._buffer.clear()


async def done(handshake: asyncio.Future[None], transport: Any) -> None:
    """Wait for a handshake; close the transport if it fails. OSError, `ssl.SSLError`."""
    try:
        await handshake
    except BaseException:
        transport.close()
        raise
    finally:
        del handshake  # its exception knows this frame: no cycle
