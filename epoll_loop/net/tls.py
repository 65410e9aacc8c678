"""What `ssl=` asks for, the engine that does it, and `start_tls()`."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from typing import TYPE_CHECKING, Any

from epoll_loop.core.reactor import Reactor
from epoll_loop.transports import ktls
from epoll_loop.transports.stream import StreamTransport
from epoll_loop.transports.tls import TLS
from epoll_loop.transports.tls import start_tls as _start_tls

if TYPE_CHECKING:
    from ssl import SSLContext

try:
    import ssl as _ssl
except ImportError:  # a Python built without OpenSSL
    _ssl = None  # type: ignore[assignment]

ENGINES: dict[str, Any] = {}
"""What can do TLS here, by name: "direct" and "object"."""

WHY_NOT_DIRECT = "Python's ssl module is not available"
"""Why there is no direct engine; "" if there is one."""

if _ssl is not None:
    from epoll_loop.transports.engine import Engine

    ENGINES["object"] = Engine
    try:
        from epoll_loop.transports import libssl  # type: ignore[attr-defined]
    except ImportError as exc:
        WHY_NOT_DIRECT = f"only the compiled build has the direct engine: {exc}"
    else:
        WHY_NOT_DIRECT = libssl.prove()
        if not WHY_NOT_DIRECT:
            ENGINES["direct"] = libssl.DirectEngine


def _choose() -> str:
    wanted = os.environ.get("EPOLL_LOOP_TLS", "")
    if wanted not in ("", "direct", "object"):
        raise ValueError(f"EPOLL_LOOP_TLS is {wanted!r}; it can be 'direct' or 'object'")
    if wanted == "direct" and "direct" not in ENGINES:
        raise RuntimeError(f"EPOLL_LOOP_TLS=direct, but {WHY_NOT_DIRECT}")
    return wanted or ("direct" if "direct" in ENGINES else "object")


TLS_ENGINE = _choose()
"""The name of the engine of new connections."""

_engine = ENGINES.get(TLS_ENGINE)
# From Python 3.13 on: before, a reset that OpenSSL meets looks like the end of the stream.
_OP_ENABLE_KTLS = getattr(_ssl, "OP_ENABLE_KTLS", 0) if sys.version_info >= (3, 13) else 0


def tls_of(
    ssl: bool | SSLContext | None,
    server_side: bool,
    server_hostname: str | None,
    handshake_timeout: float | None,
    shutdown_timeout: float | None,
) -> TLS | None:
    """Return what a transport has to know of `ssl=` and the arguments that go with it; None if there shall be no TLS.

    ValueError for timeouts that are not positive, and for those without TLS.
    """
    for name, timeout in (("handshake", handshake_timeout), ("shutdown", shutdown_timeout)):
        if timeout is not None and not ssl:
            raise ValueError(f"ssl_{name}_timeout is only meaningful with ssl")
        if timeout is not None and timeout <= 0:
            raise ValueError(f"ssl_{name}_timeout should be a positive number, got {timeout}")
    if not ssl:
        return None
    if _ssl is None:
        raise RuntimeError("Python ssl module is not available")
    if ssl is True:
        if server_side:
            raise ValueError("Server side SSL needs a valid SSLContext")
        ssl = _ssl.create_default_context()
        if not server_hostname:
            ssl.check_hostname = False
    return TLS(
        ssl, _engine, _in_kernel(ssl), server_side, server_hostname or None, handshake_timeout, shutdown_timeout
    )


def _in_kernel(context: SSLContext) -> bool:
    if type(context).wrap_bio is not _ssl.SSLContext.wrap_bio:
        return False  # it is to be called: the kernel's engine does not
    return bool(context.options & _OP_ENABLE_KTLS) and _kernel_offers()


@functools.cache
def _kernel_offers() -> bool:
    return ktls.offered()


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

        TypeError for another kind of transport or context, ConnectionError if it is closing, RuntimeError if it has
        been replaced already, or sends a file. If the handshake fails, or is cancelled, the connection is closed. See
        `loop.start_tls()` of asyncio.
        """
        if _ssl is None:
            raise RuntimeError("Python ssl module is not available")
        if not isinstance(sslcontext, _ssl.SSLContext):
            raise TypeError(f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}")
        if not isinstance(transport, StreamTransport):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        if transport._heir is not None:
            raise RuntimeError("the connection has TLS now: use the transport that start_tls() has returned")
        if transport._empty_waiter is not None:
            raise RuntimeError("unable to start TLS; sendfile is in progress")
        if transport.is_closing():
            raise ConnectionAbortedError("Failed to start TLS: the transport is closing")
        tls = tls_of(sslcontext, server_side, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout)
        waiter: asyncio.Future[None] = self.create_future()
        received = _hello(protocol) if server_side else b""
        assert tls is not None
        try:
            secured = _start_tls(transport, protocol, tls, waiter, received)
        except BaseException:
            transport.close()
            raise
        try:
            await done(waiter, secured)
        finally:
            del waiter  # its exception knows this frame: no cycle
        return secured


def _hello(protocol: Any) -> bytes:
    """A client may be faster than the server's handler: what it has begun its handshake with is in the reader."""
    reader = protocol._stream_reader if isinstance(protocol, asyncio.StreamReaderProtocol) else None  # type: ignore[attr-defined]
    if reader is None:
        return b""
    received = bytes(reader._buffer)
    reader._buffer.clear()
    return received


async def done(handshake: asyncio.Future[None], transport: Any) -> None:
    """Wait for a handshake; close the transport if it fails. OSError, `ssl.SSLError`."""
    try:
        await handshake
    except BaseException:
        transport.close()
        raise
    finally:
        del handshake  # its exception knows this frame: no cycle
