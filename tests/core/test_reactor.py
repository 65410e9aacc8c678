"""The iteration: order, fairness, wake-ups from other threads, and what is left when an exception leaves the loop."""

import asyncio
import itertools
import linecache
import os
import queue
import signal
import socket
import sys
import threading

import pytest

import epoll_loop


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


# --- order (I21)


def test_first_in_first_out(loop):
    log = []
    for number in range(1000):
        loop.call_soon(log.append, number)
    turn(loop)
    assert log == list(range(1000))


def test_i21_an_iteration_runs_what_was_ready_when_it_began(loop):
    log = []

    def again(number):
        log.append(number)
        loop.call_soon(again, number + 10)

    for number in range(3):
        loop.call_soon(again, number)
    turn(loop)
    assert log == [0, 1, 2]
    turn(loop)
    assert log == [0, 1, 2, 10, 11, 12]


def test_i21_a_callback_that_always_comes_back_starves_nobody(loop):
    """Neither timers nor descriptors nor other threads."""
    ours, peer = socket.socketpair()
    waiting = {"timer", "descriptor", "thread"}

    def seen(who):
        waiting.discard(who)
        if not waiting:
            loop.stop()

    def always():
        loop.call_soon(always)

    always()
    loop.call_later(0.001, seen, "timer")
    loop.add_reader(ours, seen, "descriptor")
    peer.send(b"x")
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(seen, "thread"))
    thread.start()
    loop.run_forever()
    thread.join()
    loop.remove_reader(ours)
    ours.close()
    peer.close()


def test_threadsafe_and_plain_calls_of_one_thread_keep_their_order(loop):
    log = []

    def calls(start):
        loop.call_soon_threadsafe(log.append, start)
        loop.call_soon(log.append, start + 1)
        loop.call_soon_threadsafe(log.append, start + 2)
        loop.call_soon(log.append, start + 3)

    calls(0)
    turn(loop)
    assert log == [0, 1, 2, 3]
    loop.call_soon(calls, 4)
    turn(loop)
    turn(loop)
    assert log == list(range(8))


def test_dropping_a_long_queue_is_no_recursion(loop):
    for _ in range(200_000):
        loop.call_soon(print)
    loop.close()


# --- wake-ups (I24)


def eventfds():
    """The counter of each eventfd: the loop never reads its own, so it says how often it was written."""
    counters = {}
    for name in os.listdir("/proc/self/fdinfo"):
        try:
            with open(f"/proc/self/fdinfo/{name}") as file:
                for line in file:
                    if line.startswith("eventfd-count:"):
                        counters[int(name)] = int(line.split()[1], 16)
        except FileNotFoundError:
            pass
    return counters


@pytest.fixture
def counted():
    """A loop, and a function that says how often its eventfd was written."""
    before = eventfds()
    loop = epoll_loop.new_event_loop()
    (waker,) = eventfds().keys() - before.keys()
    yield loop, lambda: eventfds()[waker]
    loop.close()


THREADS = 8
CALLS = 2000


def send_from_threads(loop, receive):
    def send(thread):
        for number in range(CALLS):
            loop.call_soon_threadsafe(receive, thread, number)

    threads = [threading.Thread(target=send, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    return threads


def test_eight_threads_to_a_loop_that_sleeps_and_wakes(loop):
    received = [[] for _ in range(THREADS)]

    def receive(thread, number):
        received[thread].append(number)
        if sum(map(len, received)) == THREADS * CALLS:
            loop.stop()

    threads = send_from_threads(loop, receive)
    loop.run_forever()
    for thread in threads:
        thread.join()
    assert received == [list(range(CALLS))] * THREADS


def test_eight_threads_to_a_loop_that_is_awake_write_no_eventfd(counted):
    loop, writes = counted
    received = [[] for _ in range(THREADS)]

    def hold():
        for thread in send_from_threads(loop, lambda thread, number: received[thread].append(number)):
            thread.join()
        loop.stop()

    loop.call_soon(hold)
    loop.run_forever()
    assert writes() == 0
    turn(loop)
    assert received == [list(range(CALLS))] * THREADS


def test_one_write_a_sleep(counted):
    loop, writes = counted
    started, sent = threading.Event(), threading.Event()
    received = []

    def hold():
        started.set()
        assert sent.wait(30)

    def send():
        loop.call_soon_threadsafe(hold)
        assert started.wait(30)
        for number in range(CALLS):
            loop.call_soon_threadsafe(received.append, number)
        loop.call_soon_threadsafe(loop.stop)
        sent.set()

    thread = threading.Thread(target=send)
    thread.start()
    loop.run_forever()
    thread.join()
    assert received == list(range(CALLS))
    assert writes() <= 1


def test_a_loop_that_does_not_run_is_not_woken(counted):
    loop, writes = counted
    log = []
    for thread in [threading.Thread(target=loop.call_soon_threadsafe, args=(log.append, 1)) for _ in range(9)]:
        thread.start()
        thread.join()
    assert writes() == 0
    turn(loop)
    assert log == [1] * 9


def test_every_sleep_can_be_ended(loop):
    """A ping-pong, so that the call comes now before, now after the loop falls asleep. One lost wake-up hangs."""
    questions: queue.SimpleQueue[int] = queue.SimpleQueue()
    answers = []

    def ask():
        while (number := questions.get()) < 3000:
            loop.call_soon_threadsafe(answer, number)
        loop.call_soon_threadsafe(loop.stop)

    def answer(number):
        answers.append(number)
        questions.put(number + 1)

    thread = threading.Thread(target=ask)
    thread.start()
    questions.put(0)
    loop.run_forever()
    thread.join()
    assert answers == list(range(3000))


pure_only = pytest.mark.skipif(epoll_loop.COMPILED, reason="a tracer sees no line of C")


def at_each_line(run, then, where=lambda frame: True):
    """Call a function at every line of the core that a run comes to: in the first run before the first line, in the
    second one before the second, and so on until no line is left. `run(call)` makes a run; `then(line)` checks it.
    """
    for number in itertools.count():
        call, loop_run = run()
        seen = itertools.count()
        found = []

        def trace(frame, event, arg, number=number, call=call, seen=seen, found=found):
            if not frame.f_globals.get("__name__", "").startswith("epoll_loop.core") or not where(frame):
                return None
            if event == "line" and next(seen) == number:
                found.append(linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip())
                sys.settrace(None)
                call()
            return trace

        sys.settrace(trace)
        try:
            loop_run()
        finally:
            sys.settrace(None)
        if not found:
            assert number > 5
            return
        then(found[0])


@pure_only
@pytest.mark.parametrize("who", ["another thread", "a signal handler"])
def test_no_line_on_the_way_to_sleep_loses_a_wake_up(who):
    """The calls come before each line in turn, from another thread, or from a handler that interrupts this one: some
    calls for at most one write, and all of them are there when the loop wakes."""
    state = {}

    def calls():
        state["called"] = True
        for number in range(3):
            state["loop"].call_soon_threadsafe(state["log"].append, number)
        state["loop"].call_soon_threadsafe(state["loop"].stop)

    def call():
        if who == "another thread":
            thread = threading.Thread(target=calls)
            thread.start()
            thread.join()
        else:
            calls()

    def end(loop, over):
        if not state["called"]:
            sys.settrace(None)
            over.cancel()
            loop.stop()

    def run():
        before = eventfds()
        loop = epoll_loop.new_event_loop()
        (waker,) = eventfds().keys() - before.keys()
        state.update(loop=loop, log=[], called=False)
        # Something to receive in the first iteration, so that all of its lines are run.
        loop.call_soon_threadsafe(int)
        loop.call_later(0.001, loop.call_later, 0.001, int)
        # The end of a run whose lines were all before the calls; or the end of an overlong sleep.
        over = loop.call_later(10, state["log"].append, "overslept")
        loop.call_later(0.05, end, loop, over)

        def loop_run():
            loop.run_forever()
            sys.settrace(None)
            state["writes"] = eventfds()[waker]
            loop.close()

        return call, loop_run

    def then(line):
        assert state["log"] == [0, 1, 2], f"a call before «{line}» is lost"
        assert state["writes"] <= 1, f"calls before «{line}»"

    at_each_line(run, then)


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


def test_a_signal_handler_wakes_the_loop(loop):
    before = signal.signal(signal.SIGUSR1, lambda *args: loop.call_soon_threadsafe(loop.stop))
    thread = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1))
    try:
        thread.start()
        loop.run_forever()
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_i23_a_signal_without_work_does_not_end_the_loop(loop):
    handled = threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *args: handled.set())

    def interrupt_it():
        os.kill(os.getpid(), signal.SIGUSR1)
        handled.wait(30)
        loop.call_soon_threadsafe(log.append, "awake")
        loop.call_soon_threadsafe(loop.stop)

    log = []
    thread = threading.Thread(target=interrupt_it)
    try:
        thread.start()
        loop.run_forever()
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert handled.is_set()
    assert log == ["awake"]


# --- exceptions that leave the loop


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
        thread = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            thread.start()
            loop.run_forever()
        thread.join()
        peer.send(b"data")
        loop.run_forever()
        assert protocol.data == b"data"


def test_control_c_in_a_busy_loop(loop):
    """Nothing of it needs to enter the interpreter when it is compiled."""
    thread = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT))

    def busy():
        loop.call_soon(busy)

    busy()
    loop.call_soon(thread.start)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    thread.join()
    turn(loop)
