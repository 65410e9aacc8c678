"""Serving: the addresses of a server on one loop, its connections, and their end."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable, Sequence
from typing import Any

from epoll_loop.core.syscalls import InputBuffer
from epoll_loop.serving.addresses import Address
from epoll_loop.serving.datagrams import Endpoint
from epoll_loop.serving.events import Events, framing_of, overrides
from epoll_loop.serving.framing import Framed
from epoll_loop.transports.conn import Action, Conn
from epoll_loop.transports.stream import open_stream

Bound = tuple[Any, list[socket.socket]]
"""What an address has where it was bound for many loops: its name, and the sockets of it that one of them has."""

# A timeout is noticed this often within its time, and so at most a quarter of it late.
_LOOKS = 4


class Serving:
    """A server on the running loop, made by `start_serving()`; an asynchronous context, which ends it.

    It has its `addresses`, the `loop` it runs on, how many `loops` serve together, and which this is: `loop_index`.
    """

    def __init__(
        self,
        events: Events,
        *,
        idle_timeout: float | None = None,
        write_timeout: float | None = None,
        shutdown_timeout: float = 10,
        loops: int = 1,
        loop_index: int = 0,
        on_shutdown: Callable[[], None] | None = None,
        released: Callable[[], None] | None = None,
    ) -> None:
        self.events = events
        self.loop: Any = asyncio.get_running_loop()
        self.addresses: list[Any] = []
        """Where it listens, in the form of the `socket` module: one for each address that was asked for, in that order.

        Of a TCP host with several addresses it is the first; all are served, with the same port.
        """
        self.loops = loops
        """How many loops serve together; see `serve()`."""
        self.loop_index = loop_index
        """Which of them this is, from 0 on."""
        self.pre_write = events.pre_write if overrides(events, "pre_write") else None
        self._framing = framing_of(events)
        self.input_buffer = InputBuffer()
        self.drained = events.drained if overrides(events, "drained") else None
        self._opened = events.opened if overrides(events, "opened") else None
        self._closed = events.closed if overrides(events, "closed") else None
        self._conns: set[Conn] = set()
        self._servers: list[Any] = []
        self._endpoints: set[Endpoint] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._idle_timeout, self._write_timeout = idle_timeout, write_timeout
        self._shutdown_timeout = shutdown_timeout
        self._ending = False
        self._on_shutdown = on_shutdown  # has the other loops end too
        self._released = released  # is told when a connection is not served any more
        self._tls: list[Any] = []
        self._arriving: dict[Conn, asyncio.Task[Any]] = {}  # accepted elsewhere, until the handshake is over
        self._done = self.loop.create_future()

    # The beginning

    async def start(self, addresses: Sequence[Address], backlog: int, bound: Sequence[Bound | None] = ()) -> None:
        """Listen on all of them, or on none: then with the exception of what went wrong.

        Where an address is `bound`, the sockets are there already, and are the server's from now on; if there are none,
        its connections come by `accept()`.
        """
        try:
            for index, address in enumerate(addresses):
                self._tls.append(address.context())
                try:
                    await self._bind(index, address, backlog, bound[index] if bound else None)
                except OSError as exc:
                    exc.add_note(f"{address} can not be served")
                    raise
            for server in self._servers:
                await server.start_serving()
            self._do(self.events.serving(self), "serving")  # before anything is accepted: nothing has waited
            for endpoint in self._endpoints:
                endpoint.begin()
            if not self._ending:
                self._begin_timers()
        except BaseException:
            self.drain()
            self.abort()
            await self._done  # the addresses are free again
            raise

    def _begin_timers(self) -> None:
        for seconds, look in ((self._idle_timeout, self._look_for_idle), (self._write_timeout, self._look_for_stuck)):
            if seconds is not None:
                self._after(seconds / _LOOKS, look, seconds / _LOOKS)
        if overrides(self.events, "tick"):
            self._tick(1.0)

    async def _bind(self, index: int, address: Address, backlog: int, bound: Bound | None) -> None:
        if bound is None and address.kind == "tcp":
            sockets = await self._bind_host(address)
            bound = sockets[0].getsockname(), sockets
        if bound is None:
            self.addresses.append(await self._listen(index, address, backlog, **address.where()))
            return
        name, sockets = bound
        # The file of a Unix socket is not of one loop alone.
        keep = {"cleanup_socket": False} if address.kind == "unix" else {}
        rest = list(sockets)
        try:
            while rest:
                await self._listen(index, address, backlog, sock=rest[0], **keep)
                del rest[0]
        except BaseException:
            for sock in rest:
                sock.close()
            raise
        self.addresses.append(name)

    async def _bind_host(self, address: Address) -> list[socket.socket]:
        # create_server() would have port 0 be another one for each address of the host.
        infos = await self.loop._resolve_hosts(address.host, address.port, address.family, socket.AI_PASSIVE)
        sockets: list[socket.socket] = self.loop._bind_one_port(infos, [socket.SO_REUSEADDR], address.reuse_port)
        return sockets

    async def _listen(self, index: int, address: Address, backlog: int, **where: Any) -> Any:
        """Return where it listens."""
        if address.kind == "udp":
            new_endpoint = functools.partial(Endpoint, self, index)
            transport, endpoint = await self.loop.create_datagram_endpoint(new_endpoint, **where)
            self._endpoints.add(endpoint)
            return transport.get_extra_info("sockname")
        create = self.loop.create_unix_server if address.kind == "unix" else self.loop.create_server
        new = functools.partial(Conn, self, index)
        server = await create(new, backlog=backlog, start_serving=False, **self._tls_options(index), **where)
        self._servers.append(server)
        return server.sockets[0].getsockname()

    def _tls_options(self, index: int) -> dict[str, Any]:
        context = self._tls[index]
        if context is None:
            return {}
        limits = {"ssl_handshake_timeout": self._idle_timeout, "ssl_shutdown_timeout": self._write_timeout}
        return {"ssl": context, **limits}

    # Connections that others accept

    def accept(self, index: int, sock: socket.socket) -> None:
        """Serve a connection to the address of that index."""
        conn = Conn(self, index)
        if self._ending:
            sock.close()
            self.forget(conn)
            return
        if self._tls[index] is None:
            try:
                sock.setblocking(False)
                open_stream(self.loop, sock, conn, borrowed=False)
            except Exception as exc:
                self._fail(conn, sock, exc)
            return
        opening = self.loop.connect_accepted_socket(lambda: conn, sock, **self._tls_options(index))
        task = self._arriving[conn] = self.loop.create_task(opening)
        task.add_done_callback(functools.partial(self._arrived, conn, sock))

    def _arrived(self, conn: Conn, sock: socket.socket, task: asyncio.Task[Any]) -> None:
        exc = None if task.cancelled() else task.exception()
        if self._arriving.pop(conn, None) is not None:
            self._fail(conn, sock, exc)

    def _fail(self, conn: Conn, sock: socket.socket, exc: BaseException | None) -> None:
        sock.close()
        if exc is not None and not isinstance(exc, OSError):  # else the peer is gone, or can not do TLS
            self.report("a connection that was accepted elsewhere can not be served", exc)
        self.forget(conn)

    # What the connections tell

    def framed(self, data: Callable[[Conn, Any], Any]) -> Framed | None:
        """What a new connection calls with its bytes in the place of `data`."""
        return None if self._framing is None else Framed(data, self._framing)

    def begins(self, conn: Conn) -> bool:
        """A connection has a transport; False if it comes too late: its handshake took longer than the server."""
        if self._arriving:
            self._arriving.pop(conn, None)
        if self._ending:
            self.forget(conn)
            return False
        self._conns.add(conn)
        return True

    def opened(self, conn: Conn) -> Any:
        """What `Events.opened()` returns."""
        return None if self._opened is None else self._opened(conn)

    def lost(self, conn: Conn, error: BaseException | None) -> None:
        """A connection has ended."""
        self.forget(conn)
        if self._closed is not None:
            self._tell("closed", self._closed, conn, error)

    def forget(self, conn: Conn) -> None:
        """A connection is somebody else's from now on, or has ended."""
        self._conns.discard(conn)
        if self._released is not None:
            self._released()
        if self._ending:
            self._settle()

    def endpoint_lost(self, endpoint: Endpoint) -> None:
        """A UDP address is not served any more."""
        self._endpoints.discard(endpoint)
        if self._ending:
            self._settle()

    def detached(self, conn: Conn, sock: socket.socket) -> None:
        """A connection was given up."""
        taken = False
        try:
            taken = self._tell("detached", self.events.detached, conn, sock)
        finally:
            if not taken:
                sock.close()

    def _tell(self, name: str, callback: Callable[..., Any], *args: Any) -> bool:
        """Call a callback of that name and do what it returns; return whether that went well."""
        try:
            self._do(callback(*args), name)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.report(f"Events.{name}() failed", exc)
            return False
        return True

    def call(self, callback: Callable[..., Any], *args: Any) -> None:
        """Call it in the loop's thread; in vain once the loop is closed. In any thread."""
        try:
            self.loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            if not self.loop.is_closed():
                raise

    def report(self, message: str, exc: BaseException) -> None:
        """Tell the loop's exception handler."""
        self.loop.call_exception_handler({"message": message, "exception": exc})

    def _do(self, action: Any, name: str) -> None:
        if action is Action.SHUTDOWN:
            self.shutdown()
        elif action is not None and action is not Action.NONE:
            raise TypeError(f"Events.{name}() returned {action!r}, which is neither Action.SHUTDOWN nor nothing")

    # What time tells

    def _after(self, seconds: float, callback: Callable[..., None], *args: Any) -> None:
        """Call it once, unless the server has ended until then. It is not called for already."""
        self._timers[callback.__name__] = self.loop.call_later(seconds, callback, *args)

    def _look_for_idle(self, seconds: float) -> None:
        for conn in list(self._conns):
            conn.idle = 0 if conn.went() else conn.idle + 1
            if conn.idle > _LOOKS:
                conn.abort(TimeoutError(f"nothing came or went for {self._idle_timeout} seconds"))
        self._after(seconds, self._look_for_idle, seconds)

    def _look_for_stuck(self, seconds: float) -> None:
        for conn in list(self._conns):
            if not conn.waits():
                conn.stuck = 0
                continue
            conn.stuck += 1
            if conn.stuck > _LOOKS:
                conn.abort(TimeoutError(f"the peer took nothing for {self._write_timeout} seconds"))
        self._after(seconds, self._look_for_stuck, seconds)

    def _tick(self, seconds: float) -> None:
        delay: float | None = seconds  # the last one, after an exception
        try:
            out: Any = self.events.tick()
            found, action = out if type(out) is tuple and len(out) == 2 else (out, None)
            if type(out) is Action:
                found, action = None, out
            elif found is not None and not (type(found) in (int, float) and found >= 0):
                raise ValueError(f"Events.tick() returned {out!r}, not seconds, an Action, both, or None")
            delay = None if found is None else float(found)
            self._do(action, "tick")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.report("Events.tick() failed", exc)
        if delay is not None and not self._ending:
            self._after(delay, self._tick, delay)

    # The end

    def shutdown(self) -> None:
        """Accept no more, send what is queued and close; after `shutdown_timeout` seconds whatever is left is dropped.

        In the loop's thread; calling it again has no effect. `wait_closed()` tells when it is over. Of many loops, all
        of them do so.
        """
        if self._on_shutdown is not None and not self._ending:
            self._on_shutdown()
        self.drain()

    def drain(self) -> None:
        """Do what `shutdown()` does, on this loop alone."""
        if self._ending:
            return
        self._ending = True
        for server in self._servers:
            server.close()
            for transport in server._transports():
                protocol = transport.get_protocol()
                if isinstance(protocol, Conn) and protocol not in self._conns:
                    transport.abort()  # its handshake is not over
        for endpoint in self._endpoints:
            endpoint.transport.close()
        self._cancel_timers()
        if self._conns or self._endpoints:
            self._after(self._shutdown_timeout, self._time_is_up)
            for conn in list(self._conns):
                conn.close()
        for task in list(self._arriving.values()):
            task.cancel()
        self._settle()

    def _time_is_up(self) -> None:
        self.abort(TimeoutError(f"it was not closed within {self._shutdown_timeout} seconds"))

    def abort(self, error: BaseException | None = None) -> None:
        """Drop the connections that are left, and the datagrams; `Events.closed()` gets `error`."""
        for conn in list(self._conns):
            conn.abort(error)
        for endpoint in self._endpoints:
            endpoint.transport.abort()

    def _settle(self) -> None:
        if not (self._conns or self._endpoints or self._arriving or self._done.done()):
            self._cancel_timers()
            self._done.set_result(None)

    def _cancel_timers(self) -> None:
        for timer in self._timers.values():
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
