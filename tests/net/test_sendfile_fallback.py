"""sendfile() on transports of others, where it reads and writes."""

import asyncio
import io
import os
import ssl
from asyncio import constants, transports
from pathlib import Path
from typing import Any, BinaryIO
from unittest import mock

import pytest
from raw import now

ASYNCIO_TOO = True
ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])

CONTENT = os.urandom(1_000_000)
SIZE = len(CONTENT)


@pytest.fixture
def source() -> BinaryIO:
    return io.BytesIO(CONTENT)


class Foreign(transports._FlowControlMixin):
    """A transport as asyncio's of TLS: somebody else's, without sendfile(2), and slow."""

    def __init__(self) -> None:
        super().__init__(loop=now())
        self._sendfile_compatible = constants._SendfileMode.FALLBACK
        self.protocol: Any = mock.create_autospec(asyncio.Protocol, instance=True)
        self.queue: list[Any] = []
        self.sent = bytearray()
        self.closing = self.reading_paused = False
        self.largest = 0

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = self.protocol = protocol

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return not self.reading_paused

    def pause_reading(self) -> None:
        self.reading_paused = True

    def resume_reading(self) -> None:
        self.reading_paused = False

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.queue))

    def write(self, data: Any) -> None:
        assert self.reading_paused
        if not self.queue:
            self._loop.call_later(0.0001, self.send)  # by then the next piece is read
        self.queue.append(data)
        self.largest = max(self.largest, self.get_write_buffer_size())
        self._maybe_pause_protocol()

    def send(self) -> None:
        self.sent += self.queue.pop(0)
        if self.queue:
            self._loop.call_later(0.0001, self.send)
        self._maybe_resume_protocol()


@pytest.fixture
async def foreign() -> Foreign:
    return Foreign()


@ours
async def test_a_foreign_transport(source: BinaryIO, foreign: Foreign) -> None:
    protocol = foreign.protocol
    foreign.set_write_buffer_limits(high=20000)
    assert await now().sendfile(foreign, source, 8) == SIZE - 8
    assert foreign.protocol is protocol
    assert foreign.is_reading()
    assert foreign.largest <= 20000 + 16384
    while foreign.queue:
        await asyncio.sleep(0.001)
    assert foreign.sent == CONTENT[8:]
    assert source.tell() == SIZE


async def test_a_foreign_transport_without_the_fallback(source: BinaryIO, foreign: Foreign) -> None:
    with pytest.raises(RuntimeError) as caught:
        await now().sendfile(foreign, source, fallback=False)
    text = f"fallback is disabled and native sendfile is not supported for transport {foreign!r}"
    assert str(caught.value) == text


@pytest.mark.parametrize("size", [100, SIZE])
@pytest.mark.parametrize("error", [None, ConnectionResetError("gone")])
@ours  # asyncio looks after the last piece from 3.14 on only
async def test_a_foreign_transport_that_is_lost(error: Exception | None, size: int, foreign: Foreign) -> None:
    protocol = foreign.protocol
    foreign.set_write_buffer_limits(high=1)
    foreign.send = lambda: None  # type: ignore[method-assign]
    task = asyncio.ensure_future(now().sendfile(foreign, io.BytesIO(CONTENT[:size])))
    while not foreign._protocol_paused:
        await asyncio.sleep(0.001)
    foreign.closing = True
    foreign.protocol.connection_lost(error)
    with pytest.raises(ConnectionError) as caught:
        await task
    protocol.connection_lost.assert_called_once_with(error)
    if error is not None:
        assert caught.value is error


@pytest.mark.parametrize("mode", [None, constants._SendfileMode.UNSUPPORTED])
async def test_a_transport_that_sends_no_files(mode: Any, source: BinaryIO, foreign: Foreign) -> None:
    if mode is None:
        del foreign._sendfile_compatible
    else:
        foreign._sendfile_compatible = mode
    with pytest.raises(RuntimeError, match=r"^sendfile is not supported for transport "):
        await now().sendfile(foreign, source)


async def test_a_transport_without_flow_control(source: BinaryIO) -> None:
    class Simple(asyncio.Transport):
        _sendfile_compatible = constants._SendfileMode.FALLBACK

        def is_closing(self) -> bool:
            return False

    with pytest.raises(TypeError, match=r"^transport should be _FlowControlMixin instance$"):
        await now().sendfile(Simple(), source)


async def test_tls(tmp_path: Path, server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    async def read_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.set_result(await reader.read())
        writer.close()

    received: asyncio.Future[bytes] = now().create_future()
    (tmp_path / "file").write_bytes(CONTENT)
    with open(tmp_path / "file", "rb") as file:
        async with await asyncio.start_server(read_all, "127.0.0.1", 0, ssl=server_context) as server:
            address = server.sockets[0].getsockname()
            _, writer = await asyncio.open_connection(*address, ssl=client_context, server_hostname="localhost")
            writer.write(b"before")
            assert await now().sendfile(writer.transport, file, 1) == SIZE - 1
            writer.write(b"after")
            writer.close()
            assert await received == b"before" + CONTENT[1:] + b"after"
            await writer.wait_closed()
