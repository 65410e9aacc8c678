"""Serving: the addresses of a server on one loop, its connections, and their end."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from epoll_loop.serving.addresses import Address, parse
from epoll_loop.serving.datagrams import Endpoint
from epoll_loop.serving.events import Events, overrides
from epoll_loop.serving.framing import Framed
from epoll_loop.transports.conn import Action, Conn, new_buffer

if TYPE_CHECKING:
    from ssl import SSLContext

# A timeout is noticed this often within its time, and so at most a quarter of it late.
_LOOKS = 4


class Serving:
    """A server on the running loop, made by `start_serving()`; an asynchronous context, which ends it."""

    def __init__(
        self,
        events: Events,
        *,
        idle_timeout: float | None = None,
        write_timeout: float | None = None,
        shutdown_timeout: float = 10,
    ) -> None:
        for name, seconds in (("idle_timeout", idle_timeout), ("write_timeout", write_timeout)):
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} is a number of seconds above 0, or None, not {seconds!r}")
        if not shutdown_timeout >= 0:
            raise ValueError(f"shutdown_timeout is a number of seconds, not {shutdown_timeout!r}")
        self.events = events
        self.loop: Any = asyncio.get_running_loop()
        self.addresses: list[Any] = []
        """Where it listens: an address in the form of the `socket` module for each that was asked for."""
        self.pre_write = events.pre_write if overrides(events, "pre_write") else None
        self.buffer = new_buffer()
        self.call = self.loop.call_soon_threadsafe
        self._opened = events.opened if overrides(events, "opened") else None
        self._closed = events.closed if overrides(events, "closed") else None
        self._conns: set[Conn] = set()
        self._servers: list[Any] = []
        self._endpoints: list[asyncio.DatagramTransport] = []
        self._timers: set[asyncio.TimerHandle] = set()
        self._idle_timeout, self._write_timeout = idle_timeout, write_timeout
        self._shutdown_timeout = shutdown_timeout
        self._ending = False
        self._done = self.loop.create_future()

    # The beginning

    async def start(self, addresses: Iterable[str | Address], tls: SSLContext | None, backlog: int) -> None:
        """Listen on all of them, or on none: then with the exception of what went wrong."""
        parsed = [parse(address, tls) for address in addresses]
        if not parsed:
            raise ValueError("no address to serve")
        try:
            for index, address in enumerate(parsed):
                await self._bind(index, address, backlog)
            for server in self._servers:
                await server.start_serving()
            self._do(self.events.serving(self))  # before anything is accepted: nothing has waited
        except BaseException:
            self.shutdown()
            self.abort()
            raise
        for seconds, look in ((self._idle_timeout, self._look_for_idle), (self._write_timeout, self._look_for_stuck)):
            if seconds is not None:
                self._every(seconds / _LOOKS, look)
        if overrides(self.events, "tick"):
            self._tick(1.0)

    async def _bind(self, index: int, address: Address, backlog: int) -> None:
        new = functools.partial(Conn, self, index)
        server: Any
        if address.kind == "udp":
            transport, _ = await self.loop.create_datagram_endpoint(
                functools.partial(Endpoint, self, index),
                (address.host or None, address.port),
                family=address.family,
                reuse_port=address.reuse_port or None,
            )
            self._endpoints.append(transport)
            self.addresses.append(transport.get_extra_info("sockname"))
            return
        if address.kind == "unix":
            server = await self.loop.create_unix_server(
                new, address.path, ssl=address.tls, backlog=backlog, start_serving=False
            )
        else:
            server = await self.loop.create_server(
                new,
                address.host,
                address.port,
                family=address.family,
                reuse_port=address.reuse_port,
                ssl=address.tls,
                backlog=backlog,
                start_serving=False,
            )
        self._servers.append(server)
        self.addresses.append(server.sockets[0].getsockname())

    # What the connections tell

    def data(self) -> Callable[[Conn, Any], Any]:
        """What a new connection calls with its bytes."""
        data = self.events.data
        return data if self.events.framing is None else Framed(data, self.events.framing)

    def opened(self, conn: Conn) -> Any:
        """A connection begins."""
        self._conns.add(conn)
        return None if self._opened is None else self._opened(conn)

    def lost(self, conn: Conn, error: BaseException | None) -> None:
        """A connection has ended."""
        self.forget(conn)
        if self._closed is not None:
            self._do(self._closed(conn, error))

    def forget(self, conn: Conn) -> None:
        """A connection is somebody else's from now on, or has ended."""
        self._conns.discard(conn)
        if self._ending:
            self._settle()

    def detached(self, conn: Conn, sock: socket.socket) -> None:
        """A connection was given up."""
        try:
            self._do(self.events.detached(conn, sock))
        except BaseException:
            sock.close()
            raise

    def report(self, message: str, exc: BaseException) -> None:
        """Tell the loop's exception handler."""
        self.loop.call_exception_handler({"message": message, "exception": exc})

    def _do(self, action: Any) -> None:
        if action is Action.SHUTDOWN:
            self.shutdown()
        elif action is not None and action is not Action.NONE:
            raise TypeError(f"a callback returned {action!r} where only Action.SHUTDOWN and nothing is of use")

    # What time tells

    def _every(self, seconds: float, look: Callable[[], None]) -> None:
        def again() -> None:
            look()
            self._every(seconds, look)

        self._after(seconds, again)

    def _after(self, seconds: float, callback: Callable[..., None], *args: Any) -> None:
        """Call it once, unless the server has ended until then."""

        def due() -> None:
            self._timers.discard(timer)
            callback(*args)

        timer = self.loop.call_later(seconds, due)
        self._timers.add(timer)

    def _look_for_idle(self) -> None:
        for conn in list(self._conns):
            conn.idle += 1
            if conn.idle > _LOOKS:
                conn.abort(TimeoutError(f"nothing came or went for {self._idle_timeout} seconds"))

    def _look_for_stuck(self) -> None:
        for conn in list(self._conns):
            if not conn.waits():
                conn.stuck = 0
                continue
            conn.stuck += 1
            if conn.stuck > _LOOKS:
                conn.abort(TimeoutError(f"the peer took nothing for {self._write_timeout} seconds"))

    def _tick(self, seconds: float) -> None:
        delay: float | None = seconds  # the last one, after an exception
        try:
            out = self.events.tick()
            if type(out) is tuple and len(out) == 2:
                delay = out[0]
                self._do(out[1])
            else:
                delay = out  # type: ignore[assignment]
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.report("Events.tick() failed", exc)
        if delay is not None and not self._ending:
            self._after(delay, self._tick, delay)

    # The end

    def shutdown(self) -> None:
        """Accept no more, send what is queued and close; after `shutdown_timeout` seconds whatever is left is dropped.

        In the loop's thread; calling it again has no effect. `wait_closed()` tells when it is over.
        """
        if self._ending:
            return
        self._ending = True
        for server in self._servers:
            server.close()
        for endpoint in self._endpoints:
            endpoint.close()
        self._cancel_timers()
        if self._conns:
            self._after(self._shutdown_timeout, self.abort)
            for conn in list(self._conns):
                conn.close()
        self._settle()

    def abort(self) -> None:
        """Drop the connections that are left."""
        for conn in list(self._conns):
            conn.abort(TimeoutError(f"it was not closed within {self._shutdown_timeout} seconds"))

    def _settle(self) -> None:
        if not self._conns and not self._done.done():
            self._cancel_timers()
            self._done.set_result(None)

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    async def wait_closed(self) -> None:
        """Wait until the server has ended, and its last connection is gone."""
        await asyncio.shield(self._done)

    async def __aenter__(self) -> Serving:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.shutdown()
        await self.wait_closed()
