"""KeyboardInterrupt and SystemExit leave the loop; it can be run again, and nothing is lost of what it had to do."""

import _thread
import asyncio
import os
import signal
import socket
import sys

import pytest
from lines import at_each_line, pure_only

import epoll_loop
from epoll_loop.core.poller import Channel


def press_control_c():
    """Soon. Not by a `threading.Thread`: its start() waits for it, and PyPy's may not be interrupted meanwhile."""
    _thread.start_new_thread(os.kill, (os.getpid(), signal.SIGINT))


def turn(loop):
    """One iteration, without waiting."""
    loop.stop()
    loop.run_forever()


class Recorder(asyncio.Protocol):
    """Keeps what it is told; `actions` says what is to be done at a call, once."""

    def __init__(self, **actions):
        self.actions = actions
        self.calls = []
        self.data = bytearray()
        self.transport = None

    def _called(self, name):
        self.calls.append(name)
        if action := self.actions.pop(name, None):
            action()

    def connection_made(self, transport):
        self.transport = transport
        self._called("connection_made")

    def data_received(self, data):
        self.data += data
        self._called("data_received")

    def pause_writing(self):
        self._called("pause_writing")

    def resume_writing(self):
        self._called("resume_writing")

    def connection_lost(self, exc):
        self._called("connection_lost")


@pytest.fixture
def connect(loop):
    """Makes transports for protocols, each with the socket of its peer."""
    made = []

    def make(protocol):
        ours, peer = socket.socketpair()
        peer.settimeout(20)
        transport, _ = loop.run_until_complete(loop.create_unix_connection(lambda: protocol, sock=ours))
        made.append((transport, peer))
        return peer

    yield make
    for transport, peer in made:
        peer.close()
        transport.abort()
    turn(loop)


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_the_rest_of_the_ready_queue_is_there_in_the_next_run(loop, error):
    def leave():
        loop.call_soon(log.append, "scheduled before the exception")
        raise error

    log = []
    loop.call_soon(log.append, "before")
    loop.call_soon(leave)
    for number in range(5):
        loop.call_soon(log.append, number)
    with pytest.raises(error):
        loop.run_forever()
    assert log == ["before"]
    assert not loop.is_running()
    loop.call_soon(log.append, "scheduled after it")
    turn(loop)
    assert log == ["before", 0, 1, 2, 3, 4, "scheduled before the exception", "scheduled after it"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_timers_and_threads_survive_it(loop, error):
    def leave():
        raise error

    log = []
    when = loop.time()
    loop.call_at(when, leave)
    loop.call_at(when, log.append, "timer of the same deadline")
    loop.call_soon_threadsafe(log.append, "thread")
    with pytest.raises(error):
        loop.run_forever()
    loop.call_soon_threadsafe(log.append, "later thread")
    turn(loop)
    assert sorted(log) == ["later thread", "thread", "timer of the same deadline"]


def test_other_channels_of_the_batch_keep_their_edge(loop, connect):
    """Each has data, and the kernel does not tell of it twice. The first one to get it is interrupted."""
    protocols = [Recorder(data_received=interrupt) for _ in range(4)]
    peers = [connect(protocol) for protocol in protocols]
    for peer in peers:
        peer.send(b"data")
    for _ in peers:
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
    turn(loop)
    assert [bytes(protocol.data) for protocol in protocols] == [b"data"] * 4


def test_a_channel_that_was_interrupted_before_its_read_keeps_its_edge(loop, connect):
    class Buffered(asyncio.BufferedProtocol):
        interrupted = False

        def get_buffer(self, hint):
            if not self.interrupted:
                self.interrupted = True
                raise KeyboardInterrupt
            return memoryview(received)

        def buffer_updated(self, count):
            log.append(bytes(received[:count]))
            loop.stop()

    received = bytearray(100)
    log = []
    peer = connect(Buffered())
    peer.send(b"data")
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.run_forever()
    assert log == [b"data"]


def test_a_channel_that_is_carried_over_is_not_forgotten(loop, connect):
    """More than one read's worth is waiting: the rest is on the loop's own list when the exception comes."""
    protocol = Recorder(data_received=interrupt)
    peer = connect(protocol)
    peer.setblocking(False)
    sent = 0
    try:
        while True:
            sent += peer.send(bytes(65536))
    except BlockingIOError:
        pass
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    while len(protocol.data) < sent:
        turn(loop)
    assert len(protocol.data) == sent


def test_what_was_written_is_sent_in_the_next_run(loop, connect):
    protocol = Recorder()
    peer = connect(protocol)

    def write():
        protocol.transport.write(b"written")
        raise KeyboardInterrupt

    loop.call_soon(write)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    turn(loop)
    peer.setblocking(False)
    assert peer.recv(100) == b"written"


def blocked(protocol, peer):
    """Fill the way to the peer, so that the protocol is paused and something is queued. Return all that is to come."""
    protocol.transport.set_write_buffer_limits(high=0)
    total = 8 << 20
    protocol.transport.write(bytes(total))
    assert "pause_writing" in protocol.calls
    return total


def drain(loop, peer, size):
    peer.setblocking(False)
    while size:
        try:
            got = len(peer.recv(1 << 20))
        except BlockingIOError:
            turn(loop)
        else:
            assert got
            size -= got


def test_others_are_flushed_although_one_is_interrupted_at_it(loop, connect):
    protocols = [Recorder(resume_writing=interrupt) for _ in range(3)]
    peers = [connect(protocol) for protocol in protocols]
    totals = [blocked(*both) for both in zip(protocols, peers, strict=True)]
    for peer, total in zip(peers, totals, strict=True):
        size = total
        while size:
            try:
                drain(loop, peer, size)
                break
            except KeyboardInterrupt:
                size = 0  # it was resumed: everything has left
    for _ in range(3):
        try:
            turn(loop)
        except KeyboardInterrupt:
            pass
    assert all(protocol.transport.get_write_buffer_size() == 0 for protocol in protocols)


def test_a_closing_transport_is_lost_although_its_flush_is_interrupted(loop, connect):
    protocol = Recorder(resume_writing=interrupt)
    peer = connect(protocol)
    total = blocked(protocol, peer)
    protocol.transport.close()
    try:
        drain(loop, peer, total)
    except KeyboardInterrupt:
        pass
    while "connection_lost" not in protocol.calls:
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
    assert protocol.calls.count("connection_lost") == 1


def test_accepting_goes_on_after_an_interrupt(loop):
    """Three connections wait, with one edge for all of them."""
    protocols = []

    def factory():
        protocols.append(Recorder(connection_made=interrupt) if not protocols else Recorder())
        return protocols[-1]

    server = loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0))
    clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(3)]
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    while len(protocols) < 3:
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
    for protocol in protocols:
        protocol.transport.abort()
    for client in clients:
        client.close()
    server.close()
    turn(loop)


def test_an_interrupted_sleep_loses_no_edge(loop, connect):
    """Ctrl-C while the loop waits."""
    protocol = Recorder(data_received=loop.stop)
    peer = connect(protocol)

    for _ in range(5):
        protocol.data.clear()
        protocol.actions["data_received"] = loop.stop
        with pytest.raises(KeyboardInterrupt):
            press_control_c()
            loop.run_forever()
        peer.send(b"data")
        loop.run_forever()
        assert protocol.data == b"data"


def test_control_c_in_a_busy_loop(loop):
    """Nothing of it needs to enter the interpreter when it is compiled."""

    def busy():
        loop.call_soon(busy)

    busy()
    loop.call_soon(press_control_c)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    turn(loop)


@pure_only
def test_an_interrupt_at_any_line_of_the_poll_loses_no_edge():
    """Ctrl-C comes when it likes: also when the kernel has reported an edge, and nobody has taken note of it."""
    state = {}

    def interrupted():
        raise KeyboardInterrupt

    def run():
        loop = epoll_loop.new_event_loop()
        ours, peer = socket.socketpair()
        protocol = Recorder(data_received=loop.stop)
        transport, _ = loop.run_until_complete(loop.create_unix_connection(lambda: protocol, sock=ours))
        peer.send(b"data")
        state.update(protocol=protocol)

        def loop_run():
            late = loop.call_later(10, loop.stop)
            try:
                loop.run_forever()
            except KeyboardInterrupt:
                loop.run_forever()
            finally:
                sys.settrace(None)
            late.cancel()
            transport.abort()
            turn(loop)
            peer.close()
            loop.close()

        return interrupted, loop_run

    def then(line):
        assert state["protocol"].data == b"data", f"an interrupt at «{line}»"

    at_each_line(run, then, lambda frame: frame.f_code.co_name == "wait")


@pure_only
@pytest.mark.parametrize("kind", ["transport", "buffered", "reader", "listener"])
def test_an_interrupt_at_the_entry_of_a_turn_loses_no_edge(loop, kind):
    """Signals are looked at where a Python function begins: the channel has left the queue and does not know it yet."""

    class Buffered(asyncio.BufferedProtocol):
        def connection_made(self, transport):
            made.append(transport)

        def get_buffer(self, hint):
            return bytearray(100)

        def buffer_updated(self, count):
            loop.stop()

    class Plain(asyncio.Protocol):
        def connection_made(self, transport):
            made.append(transport)
            if kind == "listener":
                loop.stop()

        def data_received(self, data):
            loop.stop()

    def tell():
        peer.send(b"x")

    made = []
    ours, peer = socket.socketpair()
    server = None
    if kind == "reader":
        loop.add_reader(ours, lambda: ours.recv(1) and loop.stop())
    elif kind == "listener":
        server = loop.run_until_complete(loop.create_server(Plain, "127.0.0.1", 0))
        peer.close()
        peer = socket.socket()

        def tell():
            peer.connect(server.sockets[0].getsockname())
    else:
        factory = Buffered if kind == "buffered" else Plain
        loop.run_until_complete(loop.create_unix_connection(factory, sock=ours))
    turn(loop)
    interrupts = []

    def trace(frame, event, arg):
        link = frame.f_locals.get("self")
        if frame.f_code.co_name == "turn" and isinstance(link, Channel) and not interrupts:
            interrupts.append(link)
            raise KeyboardInterrupt

    late = loop.call_later(10, pytest.fail, "never told")
    reports = []
    loop.set_exception_handler(lambda _, report: reports.append(report) or loop.stop())
    tell()
    sys.settrace(trace)
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
    finally:
        sys.settrace(None)
    loop.run_forever()  # ends when it was told
    assert reports == []
    late.cancel()
    if kind == "reader":
        loop.remove_reader(ours)
    for transport in made:
        transport.abort()
    if server is not None:
        server.close()
    turn(loop)
    peer.close()
    ours.close()
