"""The iteration: its order, and that nothing in it starves anything else."""

import socket
import threading


def turn(loop):
    """One iteration, without waiting."""
    loop.stop()
    loop.run_forever()


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
