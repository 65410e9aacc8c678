"""What StreamTransport sends and receives: all of it, in order, and when."""

import asyncio
import logging
import socket
from typing import Any

import pytest
import wire

ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])


# Writing


async def test_writes_arrive_in_order(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        expected = b""
        for i in range(300):
            data = wire.pattern(i * 7 % 500, len(expected))
            protocol.transport.write(data)
            expected += data
            if not i % 40:
                await asyncio.sleep(0)
        assert await wire.read(peer, len(expected)) == expected


@ours
async def test_small_writes_leave_together_at_the_end_of_the_iteration(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        await wire.turns()
        for i in range(100):
            protocol.transport.write(b"%02d" % i)
        assert wire.silent(peer)
        assert protocol.transport.get_write_buffer_size() == 200
        await asyncio.sleep(0)
        assert protocol.transport.get_write_buffer_size() == 0
        assert peer.recv(1000) == b"".join(b"%02d" % i for i in range(100))


@ours
async def test_one_burst_for_all_transports() -> None:
    first, second = wire.Recorder(), wire.Recorder()
    async with wire.unix(first) as a, wire.unix(second) as b:
        second.transport.write(b"2")
        first.transport.write(b"1")
        asyncio.get_running_loop().call_soon(second.transport.write, b"3")
        assert wire.silent(a)
        assert wire.silent(b)
        await asyncio.sleep(0)
        assert a.recv(10) == b"1"
        await wire.turns()
        assert b.recv(10) == b"23"


@ours
async def test_much_queued_leaves_at_once(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        protocol.transport.write(b"a" * 40000)
        assert wire.silent(peer)
        protocol.transport.write(b"b" * 40000)
        assert not wire.silent(peer)
        assert await wire.read(peer, 80000) == b"a" * 40000 + b"b" * 40000


async def test_more_chunks_than_one_sendmsg_takes(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        for i in range(5000):
            protocol.transport.write(b"%04d" % i)
        assert await wire.read(peer, 20000) == b"".join(b"%04d" % i for i in range(5000))


async def test_many_chunks_to_a_blocked_peer(link: wire.Link) -> None:
    """A short send ends in the middle of a chunk, again and again."""
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        wire.shrink(protocol.transport)
        expected = wire.pattern(wire.LARGE + 1_000_000)
        at, step = 0, wire.LARGE
        while at < len(expected):
            protocol.transport.write(expected[at : at + step])
            at += step
            step = step * 31 % 4099
        assert protocol.transport.get_write_buffer_size() > 0
        assert await wire.read(peer, len(expected)) == expected


async def test_write_and_more_while_blocked(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        wire.shrink(protocol.transport)
        protocol.transport.write(wire.pattern(wire.LARGE))
        assert protocol.transport.get_write_buffer_size() > 0
        await wire.turns()
        protocol.transport.write(wire.pattern(1001, wire.LARGE))
        protocol.transport.write(wire.pattern(100_000, wire.LARGE + 1001))
        size = wire.LARGE + 101_001
        assert await wire.read(peer, size) == wire.pattern(size)


@ours  # asyncio keeps a memoryview of it
async def test_mutable_buffers_are_copied(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        wire.shrink(protocol.transport)
        protocol.transport.write(bytes(wire.LARGE))
        for data in (bytearray(b"abc"), memoryview(bytearray(b"abc")), memoryview(bytearray(b"-abc-"))[1:4]):
            protocol.transport.write(data)
            data[0] = 0
        assert (await wire.read(peer, wire.LARGE + 9))[-9:] == b"abcabcabc"


@pytest.mark.parametrize("data", ["text", None, 3, [b"x"], object()])
async def test_write_takes_bytes_only(data: Any) -> None:
    protocol = wire.Recorder()
    async with wire.unix(protocol) as peer:
        # Newer asyncio lists the types.
        with pytest.raises(TypeError, match=rf"data argument must be a bytes.* object, not '{type(data).__name__}'"):
            protocol.transport.write(data)
        protocol.transport.write(b"")
        protocol.transport.write(b"ok")
        assert await wire.read(peer, 2) == b"ok"


async def test_writelines(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        protocol.transport.write(b"0")
        protocol.transport.writelines([b"1", b"", bytearray(b"2"), memoryview(b"3")])
        protocol.transport.writelines([])
        protocol.transport.writelines(b"%d" % i for i in (4, 5))
        protocol.transport.writelines([bytes([65 + i % 26]) * 100 for i in range(2000)])
        expected = b"012345" + b"".join(bytes([65 + i % 26]) * 100 for i in range(2000))
        assert await wire.read(peer, len(expected)) == expected


@ours  # newer asyncio takes what comes before it
async def test_writelines_of_anything_else_sends_nothing() -> None:
    protocol = wire.Recorder()
    async with wire.unix(protocol) as peer:
        with pytest.raises(TypeError, match="bytes-like object"):
            protocol.transport.writelines([b"never", "text"])
        protocol.transport.write(b"ok")
        protocol.transport.close()
        assert await wire.read_all(peer) == b"ok"


async def test_write_from_every_callback(link: wire.Link) -> None:
    protocol = wire.Recorder(keep_open=True)
    big = bytes(wire.LARGE)

    def write(data: bytes) -> None:
        protocol.transport.write(data)

    protocol.hooks = {
        "connection_made": lambda: write(b"connection_made "),
        "data_received": lambda: write(b"data_received "),
        "eof_received": lambda: write(b"eof_received " + big),
        "pause_writing": lambda: write(b"pause_writing "),
        "resume_writing": lambda: (write(b"resume_writing "), protocol.transport.close()),
    }
    async with link(protocol) as peer:
        wire.shrink(protocol.transport)
        peer.sendall(b"x")
        await protocol.until_data(1)
        peer.shutdown(socket.SHUT_WR)
        await protocol.until(lambda: "pause_writing" in protocol.calls)  # a reader that keeps up would have none come
        found = await wire.read_all(peer)
        assert await protocol.until_lost() is None
        order = b"connection_made data_received eof_received " + big + b"pause_writing resume_writing "
        assert found == order


async def test_write_then_close_sends_everything(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        wire.shrink(protocol.transport)
        protocol.transport.write(b"first")
        protocol.transport.write(wire.pattern(wire.LARGE))
        protocol.transport.close()
        assert protocol.transport.is_closing()
        assert await wire.read_all(peer) == b"first" + wire.pattern(wire.LARGE)
        assert await protocol.until_lost() is None


@pytest.mark.parametrize("size", [1, 100_000])
async def test_small_write_then_close(link: wire.Link, size: int) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        protocol.transport.write(wire.pattern(size))
        protocol.transport.close()
        assert await wire.read_all(peer) == wire.pattern(size)
        assert await protocol.until_lost() is None


async def test_write_after_connection_lost_warns(link: wire.Link, caplog: pytest.LogCaptureFixture) -> None:
    protocol = wire.Recorder()
    async with link(protocol):
        protocol.transport.close()
        await protocol.until_lost()
        with caplog.at_level(logging.WARNING, "asyncio"):
            for _ in range(4):
                protocol.transport.write(b"x")
            assert not caplog.records
            protocol.transport.write(b"x")
        assert [record.getMessage() for record in caplog.records] == ["socket.send() raised exception."]
        assert protocol.transport.get_write_buffer_size() == 0


@ours
async def test_a_write_that_sends_the_last_bytes_of_a_closing_transport() -> None:
    """Another callback writes to it between the event that tells of room and its own turn."""
    closing, other = wire.Recorder(), wire.Recorder()
    async with wire.unix(other) as theirs, wire.unix(closing) as peer:
        await wire.turns()
        size = wire.block(closing.transport)
        closing.transport.close()
        other.hooks["data_received"] = lambda: closing.transport.write(wire.pattern(65536, size))
        theirs.sendall(b"x")  # this event is the first
        found = b""
        while not wire.silent(peer):
            found += peer.recv(1 << 20)
        found += await wire.read_all(peer)
        assert found == wire.pattern(size + 65536)
        assert await closing.until_lost() is None


# Reading


async def test_much_input(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        expected = wire.pattern(wire.LARGE)
        await asyncio.to_thread(peer.sendall, expected)
        assert await protocol.until_data(len(expected)) == expected
        await wire.turns()
        peer.sendall(b"after")
        assert (await protocol.until_data(len(expected) + 5))[-5:] == b"after"


@pytest.mark.parametrize("size", [1, 65536, 262144, 500_000])
async def test_data_and_end_in_one_edge(link: wire.Link, size: int) -> None:
    """The kernel tells of both at once and then never again (I14)."""
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        await wire.turns()
        sent = wire.fill(peer, size)
        peer.shutdown(socket.SHUT_WR)
        assert await protocol.until_lost() is None
        assert bytes(protocol.data) == wire.pattern(sent)
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]


async def test_data_and_end_before_the_connection_is_accepted() -> None:
    protocol = wire.Recorder()
    server = await asyncio.get_running_loop().create_server(lambda: protocol, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()) as peer:
        peer.sendall(b"hello")
    await protocol.until_lost()
    assert protocol.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]
    assert protocol.data == b"hello"
    server.close()


async def test_reset_while_reading(tcp: wire.Link) -> None:
    protocol = wire.Recorder()
    async with tcp(protocol) as peer:
        await wire.turns()
        wire.reset(peer)
        assert isinstance(await protocol.until_lost(), ConnectionResetError)
        assert "eof_received" not in protocol.calls


async def test_reset_while_writing(tcp: wire.Link) -> None:
    protocol = wire.Recorder()
    async with tcp(protocol) as peer:
        wire.shrink(protocol.transport)
        protocol.transport.pause_reading()
        protocol.transport.write(bytes(wire.LARGE))
        await wire.turns()
        assert protocol.transport.get_write_buffer_size() > 0
        wire.reset(peer)
        assert isinstance(await protocol.until_lost(), (ConnectionResetError, BrokenPipeError))
        assert protocol.transport.get_write_buffer_size() == 0


async def test_reset_while_closing_with_data_queued(tcp: wire.Link) -> None:
    protocol = wire.Recorder()
    async with tcp(protocol) as peer:
        wire.shrink(protocol.transport)
        protocol.transport.write(bytes(wire.LARGE))
        protocol.transport.close()
        await wire.turns()
        assert protocol.lost is protocol
        wire.reset(peer)
        assert isinstance(await protocol.until_lost(), (ConnectionResetError, BrokenPipeError))


async def test_write_to_a_peer_that_is_gone(link: wire.Link) -> None:
    protocol = wire.Recorder(keep_open=True)
    async with link(protocol) as peer:
        peer.close()
        await protocol.until(lambda: "eof_received" in protocol.calls)
        while protocol.lost is protocol:  # TCP takes the first one and answers with a reset
            protocol.transport.write(b"x")
            await asyncio.sleep(0.001)
        assert isinstance(protocol.lost, (BrokenPipeError, ConnectionResetError))


async def test_abort_drops_what_is_queued(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        wire.shrink(protocol.transport)
        protocol.transport.write(bytes(wire.LARGE))
        protocol.transport.abort()
        assert protocol.transport.is_closing()
        assert protocol.transport.get_write_buffer_size() == 0
        assert protocol.lost is protocol  # never inside the call
        protocol.transport.abort()
        protocol.transport.close()
        assert await protocol.until_lost() is None
        assert len(await wire.read_all(peer)) < wire.LARGE
        assert protocol.calls.count("connection_lost") == 1


async def test_abort_while_closing(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol):
        wire.shrink(protocol.transport)
        protocol.transport.write(bytes(wire.LARGE))
        protocol.transport.close()
        await wire.turns()
        assert protocol.lost is protocol
        protocol.transport.abort()
        assert await protocol.until_lost() is None


async def test_abort_right_after_a_write(link: wire.Link) -> None:
    """What the kernel would have taken is on its way, as if it had been sent within write()."""
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        protocol.transport.write(b"answer")
        protocol.transport.abort()
        assert await wire.read_all(peer) == b"answer"
        assert await protocol.until_lost() is None
