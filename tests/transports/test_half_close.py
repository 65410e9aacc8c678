"""Half-close in both directions: one end has said all, the other goes on."""

import asyncio
import socket

import pytest
import wire


async def test_write_eof_ends_what_the_peer_reads_and_reading_goes_on(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        assert protocol.transport.can_write_eof()
        protocol.transport.write(b"all")
        protocol.transport.write_eof()
        protocol.transport.write_eof()
        assert not protocol.transport.is_closing()
        assert await wire.read_all(peer) == b"all"
        for i in range(3):
            peer.sendall(b"answer")
            await protocol.until_data(6 * (i + 1))
        assert "eof_received" not in protocol.calls
        peer.close()
        assert await protocol.until_lost() is None
        assert protocol.calls.count("eof_received") == 1


@pytest.mark.parametrize("size", [0, 100_000, wire.LARGE])
async def test_the_end_comes_after_what_is_queued(link: wire.Link, size: int) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        wire.shrink(protocol.transport)
        protocol.transport.write(wire.pattern(size))
        protocol.transport.write_eof()
        await wire.turns()
        assert await wire.read_all(peer) == wire.pattern(size)
        peer.sendall(b"thanks")
        assert await protocol.until_data(6) == b"thanks"


@pytest.mark.parametrize("data", [b"", b"x"])
async def test_no_write_after_write_eof(link: wire.Link, data: bytes) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        protocol.transport.write_eof()
        with pytest.raises(RuntimeError) as caught:
            protocol.transport.write(data)
        assert str(caught.value) == "Cannot call write() after write_eof()"
        with pytest.raises(RuntimeError, match=r"Cannot call write(lines)?\(\) after write_eof"):
            protocol.transport.writelines([b"x"])
        assert await wire.read_all(peer) == b""


async def test_write_eof_of_a_closing_transport_does_nothing(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        protocol.transport.close()
        protocol.transport.write_eof()
        assert await protocol.until_lost() is None
        protocol.transport.write_eof()
        assert await wire.read_all(peer) == b""


async def test_peer_ends_and_we_go_on_writing(link: wire.Link) -> None:
    protocol = wire.Recorder(keep_open=True)
    async with link(protocol) as peer:
        peer.sendall(b"question")
        peer.shutdown(socket.SHUT_WR)
        await protocol.until(lambda: "eof_received" in protocol.calls)
        assert protocol.data == b"question"
        for i in range(3):
            await wire.turns()
            protocol.transport.write(b"%d" % i)
            assert await wire.read(peer, 1) == b"%d" % i
        assert not protocol.transport.is_closing()
        protocol.transport.write(wire.pattern(wire.LARGE))
        protocol.transport.close()
        assert await wire.read_all(peer) == wire.pattern(wire.LARGE)
        assert await protocol.until_lost() is None
        assert protocol.calls.count("eof_received") == 1


@pytest.mark.parametrize("answer", [None, False])
async def test_peer_ends_and_what_is_queued_still_goes_out(link: wire.Link, answer: object) -> None:
    protocol = wire.Recorder(keep_open=answer)  # type: ignore[arg-type]
    async with link(protocol) as peer:
        wire.shrink(protocol.transport)
        protocol.transport.write(wire.pattern(wire.LARGE))
        peer.shutdown(socket.SHUT_WR)
        await protocol.until(lambda: "eof_received" in protocol.calls)
        assert protocol.transport.is_closing()
        assert protocol.lost is protocol
        assert await wire.read_all(peer) == wire.pattern(wire.LARGE)
        assert await protocol.until_lost() is None


async def test_write_in_eof_received(link: wire.Link) -> None:
    protocol = wire.Recorder()
    protocol.hooks["eof_received"] = lambda: protocol.transport.write(b"bye")
    async with link(protocol) as peer:
        peer.shutdown(socket.SHUT_WR)
        assert await wire.read_all(peer) == b"bye"
        assert await protocol.until_lost() is None


async def test_both_ends_one_after_the_other(link: wire.Link) -> None:
    protocol = wire.Recorder(keep_open=True)
    async with link(protocol) as peer:
        protocol.transport.write_eof()
        peer.shutdown(socket.SHUT_WR)
        await protocol.until(lambda: "eof_received" in protocol.calls)
        await wire.turns()
        assert protocol.lost is protocol  # it is ours to close
        protocol.transport.close()
        assert await protocol.until_lost() is None


async def test_end_while_paused_comes_with_resume(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        await wire.turns()
        protocol.transport.pause_reading()
        peer.sendall(b"data")
        peer.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.01)
        assert protocol.calls == ["connection_made"]
        protocol.transport.resume_reading()
        assert await protocol.until_lost() is None
        assert protocol.data == b"data"
        assert protocol.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]


async def test_pause_between_data_and_end(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        await wire.turns()
        protocol.hooks["data_received"] = lambda: protocol.transport.pause_reading()
        peer.sendall(b"data")
        peer.shutdown(socket.SHUT_WR)
        await protocol.until_data(4)
        await asyncio.sleep(0.01)
        assert protocol.calls == ["connection_made", "data_received"]
        protocol.transport.resume_reading()
        assert await protocol.until_lost() is None


@pytest.mark.asyncio(loop_factories=["epoll_loop"])  # asyncio reads the end a second time
async def test_the_end_is_told_once(link: wire.Link) -> None:
    protocol = wire.Recorder(keep_open=True)
    async with link(protocol) as peer:
        peer.shutdown(socket.SHUT_WR)
        await protocol.until(lambda: "eof_received" in protocol.calls)
        protocol.transport.pause_reading()
        protocol.transport.resume_reading()
        await wire.turns()
        assert protocol.calls == ["connection_made", "eof_received"]


async def test_reset_after_the_peers_end(tcp: wire.Link) -> None:
    """A transport that only writes learns of the reset from what it writes."""
    protocol = wire.Recorder(keep_open=True)
    async with tcp(protocol) as peer:
        wire.shrink(protocol.transport)
        peer.shutdown(socket.SHUT_WR)
        await protocol.until(lambda: "eof_received" in protocol.calls)
        protocol.transport.write(bytes(wire.LARGE))
        await wire.turns()
        wire.reset(peer)
        assert isinstance(await protocol.until_lost(), (ConnectionResetError, BrokenPipeError))


async def test_buffered_protocol(link: wire.Link) -> None:
    protocol = wire.BufferedRecorder(keep_open=True)
    async with link(protocol) as peer:
        await wire.turns()
        peer.sendall(wire.pattern(3500))
        peer.shutdown(socket.SHUT_WR)
        await protocol.until(lambda: "eof_received" in protocol.calls)
        assert bytes(protocol.data) == wire.pattern(3500)
        protocol.transport.write(b"answer")
        protocol.transport.write_eof()
        assert await wire.read_all(peer) == b"answer"
        assert protocol.lost is protocol
