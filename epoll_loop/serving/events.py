"""Events: the callbacks of a server."""

from __future__ import annotations

import inspect
import socket
from typing import Any

from epoll_loop.serving.framing import Framing, delimiter, length_prefix
from epoll_loop.transports.conn import Action, Conn

Bytes = bytes | bytearray | memoryview
Answer = Bytes | Action | tuple[Bytes | None, Action] | None
"""What a callback returns: bytes to send, an `Action`, both, or nothing."""


class Events:
    """What a server is told. All of it happens in the thread of the connection's loop; a subclass has what it needs.

    An exception out of a callback of a connection closes that connection; it is reported to the loop's exception
    handler, and the other connections are served. So is the TypeError for a callback that returns something else.

    Of many loops, those in processes have a copy each; those in threads share it, and call it at the same time.
    """

    framing: Framing | None = None
    """What makes messages of the stream, so that `data()` gets whole ones; see `delimiter()` and `length_prefix()`."""

    def serving(self, server: Any) -> Action | None:
        """A `Serving` listens, on its `addresses`; of many loops, each has its own. An exception ends it."""

    def opened(self, conn: Conn) -> Answer:
        """A connection was accepted, and TLS is up. Its options are set here: `conn.keep_alive()` and the like."""

    def data(self, conn: Any, data: Any) -> Answer:
        """Bytes have come, or a message of the `framing`, which may be empty; of a UDP address, a datagram of a `Peer`.

        bytes, or a memoryview that is valid in this call only, after `conn.reuse_input_buffer()`. Where a peer's bytes
        end, the connection is closed, when all that is queued is sent.
        """

    def woken(self, conn: Any) -> Answer:
        """`conn.wake()` was called. Calls `data()` with no bytes, unless it is told apart from empty messages here."""
        return self.data(conn, b"")

    def drained(self, conn: Conn) -> Answer:
        """The peer was behind, see `conn.is_behind()`, and has caught up: who has stopped sending may go on.

        After the messages of a `framing` that have waited for that too.
        """

    def closed(self, conn: Conn, error: BaseException | None) -> Action | None:
        """A connection is gone: None after an end in good order, or else what has ended it.

        TimeoutError after a timeout, ValueError of a framing, OSError of the network, what a callback has raised, or
        what `conn.close()` was given.
        """

    def detached(self, conn: Conn, sock: socket.socket) -> Action | None:
        """A connection was given up by `Action.DETACH`: its socket is yours now, blocking. No `closed()` follows.

        With a framing `conn.unused()` has what was received behind the last message.
        """
        sock.close()
        return None

    def pre_write(self) -> None:
        """Bytes are about to be handed to a connection. What it returns is ignored; what it raises, write() does."""

    def tick(self) -> float | Action | tuple[float | None, Action] | None:
        """Called once the server listens, and again after as many seconds as it returns; None: never again.

        After an exception it is called again after as many as the last time, at first one.
        """


def check(events: Any) -> None:
    """Raise TypeError unless it is something that can be served."""
    if not isinstance(events, Events):
        raise TypeError(f"events is an object of a class that inherits from epoll_loop.Events, not {events!r}")
    framing = framing_of(events)
    makers: tuple[Any, ...] = (delimiter, length_prefix)
    if framing in makers:
        raise TypeError(f"framing is what delimiter() or length_prefix() returns, not {framing!r} itself")
    if framing is not None and not _takes_two(framing):
        raise TypeError(f"framing is a function of bytes and a position, see delimiter(), and no method: {framing!r}")


def _takes_two(function: Any) -> bool:
    try:
        inspect.signature(function).bind(b"", 0)
    except TypeError:
        return False
    except ValueError:  # one that is written in C need not tell
        return callable(function)
    return True


def framing_of(events: Events) -> Framing | None:
    """Return what makes messages. Of the class it is no method, though a function: `events.framing` would bind it."""
    return vars(events)["framing"] if "framing" in vars(events) else type(events).framing


def overrides(events: Events, name: str) -> bool:
    """Return whether a callback is not the one of `Events`, which does nothing."""
    return name in vars(events) or getattr(type(events), name) is not getattr(Events, name)
