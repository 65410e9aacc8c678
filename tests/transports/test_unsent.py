"""What was written leaves before the loop returns: stop(), close() and run_until_complete() leave nothing unsent."""

import asyncio
import socket
import warnings
from typing import Any

import garbage
import pytest
import wire


@pytest.mark.parametrize("how", ["in a burst", "while running", "after the loop", "system exit"])
def test_no_write_is_left_unsent(either_loop: asyncio.AbstractEventLoop, how: str) -> None:
    """When the loop returns, what was written has left; also when it only closes."""
    loop = either_loop
    theirs, ours_ = socket.socketpair()
    theirs.settimeout(wire.LIMIT)
    connecting = loop.create_unix_connection(asyncio.Protocol, sock=ours_)
    held: list[Any] = [loop.run_until_complete(connecting)[0]]

    async def main() -> None:
        held[0].write(b"se")
        held[0].write(b"nt")

    def leave() -> None:
        held[0].write(b"sent")
        raise SystemExit(0)

    if how == "in a burst":
        loop.run_until_complete(main())
    elif how == "while running":
        loop.call_soon(lambda: (loop.stop(), held[0].write(b"sent")))
        loop.run_forever()
    elif how == "after the loop":
        held[0].write(b"sent")
        loop.close()
    else:
        loop.call_soon(leave)
        with pytest.raises(SystemExit):
            loop.run_forever()
    assert not wire.silent(theirs)
    assert theirs.recv(100) == b"sent"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the transport of a closed loop
        if not loop.is_closed():
            held[0].abort()
            loop.run_until_complete(asyncio.sleep(0))
        held.clear()
        ours_.close()
        garbage.collect()
    theirs.close()


def test_more_chunks_than_one_sendmsg_takes_leave_before_the_loop_stops(loop: asyncio.AbstractEventLoop) -> None:
    theirs, ours_ = socket.socketpair()
    ours_.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    protocol: Any = None

    async def main() -> None:
        nonlocal protocol
        protocol = wire.Recorder()
        await asyncio.get_running_loop().create_unix_connection(lambda: protocol, sock=ours_)
        protocol.transport.writelines([b"%04d" % i for i in range(3000)])

    with theirs:
        loop.run_until_complete(main())
        assert theirs.recv(1 << 20) == b"".join(b"%04d" % i for i in range(3000))
        loop.run_until_complete(wire.finish(protocol.transport))


def test_a_write_by_resume_writing_is_sent_before_the_loop_stops(either_loop: asyncio.AbstractEventLoop) -> None:
    theirs, ours_ = socket.socketpair()
    protocol: Any = None

    async def connect() -> None:
        nonlocal protocol
        protocol = wire.Recorder()
        await asyncio.get_running_loop().create_unix_connection(lambda: protocol, sock=ours_)
        protocol.transport.set_write_buffer_limits(high=0)
        protocol.hooks["resume_writing"] = lambda: (protocol.transport.write(b"last"), either_loop.stop())
        size = wire.block(protocol.transport)
        await protocol.until(lambda: "pause_writing" in protocol.calls)
        theirs.settimeout(0)
        while size:
            size -= len(theirs.recv(size)) if not wire.silent(theirs) else 0
            theirs.settimeout(0)
            await asyncio.sleep(0)

    with theirs:
        task = either_loop.create_task(connect())
        either_loop.run_forever()
        while not task.done():
            either_loop.run_until_complete(asyncio.sleep(0))
        found = theirs.recv(100)
        assert found == b"last"
        either_loop.run_until_complete(wire.finish(protocol.transport))


def test_an_exception_from_the_last_flush_leaves_the_loop_usable(loop: Any) -> None:
    """resume_writing() may raise SystemExit there; the loop is not running after that, and runs again."""
    theirs, ours_ = socket.socketpair()

    class Raises(asyncio.Protocol):
        def resume_writing(self) -> None:
            raise SystemExit(3)

    def leave() -> None:
        transport.set_write_buffer_limits(high=1 << 30)
        raise KeyboardInterrupt

    with theirs:
        transport, _ = loop.run_until_complete(loop.create_unix_connection(Raises, sock=ours_))
        transport.write(b"x" * 4_000_000)
        assert transport.get_write_buffer_size()
        loop.call_soon(leave)
        with pytest.raises(SystemExit):
            loop.run_forever()
        assert not loop.is_running()
        transport.abort()
        loop.run_until_complete(asyncio.sleep(0))
