"""The loop is closed, or forked, with children running."""

import asyncio
import os
import signal
import sys
import threading
import time
import warnings
from unittest import mock

import garbage
import pytest
from children import PIPES, end, start, until, waiting_threads

import epoll_loop


def new_event_loop():
    """A loop that reports nothing it does to a logger, whose records pytest keeps, and the transports in them."""
    loop = epoll_loop.new_event_loop()
    loop.set_debug(False)
    return loop


def test_closed_with_a_child_running_the_loop_leaves_nothing():
    """No process, no zombie, no descriptor; who waited for the exit has it."""
    loop = new_event_loop()

    async def main():
        transport, _ = await start("exec sleep 3600", **PIPES)
        waiting = loop.create_task(transport._wait())
        await asyncio.sleep(0)
        (waiter,) = transport._exit_waiters
        return transport, waiting, waiter

    transport, waiting, waiter = held = list(loop.run_until_complete(main()))
    waiting._log_destroy_pending = False
    loop.close()
    assert transport.get_returncode() == -signal.SIGKILL
    assert waiter.done()
    for file in ("stdin", "stdout", "stderr"):
        assert getattr(transport.get_extra_info("subprocess"), file).closed
    with pytest.raises(ProcessLookupError):
        os.kill(transport.get_pid(), 0)
    del transport, waiting, waiter
    assert any("unclosed transport" in text for text in garbage.drop(held))


@pytest.mark.parametrize("closed", [False, True])
def test_dropped_with_a_child_running_the_loop_leaves_nothing(closed):
    loop = new_event_loop()
    held = [loop, loop.run_until_complete(start("exec sleep 3600", **PIPES))]
    if closed:
        held[1][0].close()
    del loop
    texts = garbage.drop(held)
    assert any(text.startswith("unclosed transport <SubprocessTransport ") for text in texts) is not closed


def test_closed_with_a_child_that_it_may_not_kill():
    """Who waits for it is woken, and nobody waits for its end."""
    loop = new_event_loop()
    transport, protocol = loop.run_until_complete(start("exec sleep 3600"))
    process = transport.get_extra_info("subprocess")
    waiting = loop.create_task(transport._wait())
    loop.run_until_complete(asyncio.sleep(0))
    with mock.patch.object(process, "kill", side_effect=PermissionError):
        loop.close()
    assert waiting.cancelled()
    assert transport.get_returncode() is None
    process.kill()
    process.wait()
    held = [transport, protocol, waiting]
    del transport, protocol, waiting
    assert any("unclosed transport" in text for text in garbage.drop(held))


@pytest.mark.parametrize("wait_for_thread", [True, False])
def test_the_loop_is_closed_meanwhile(way, wait_for_thread):
    loop = new_event_loop()
    process = loop.run_until_complete(asyncio.create_subprocess_exec("sleep", "3600"))
    threads = waiting_threads()
    assert len(threads) == (way == "thread")
    if wait_for_thread:
        process.kill()
        for thread in threads:
            thread.join()
    loop.close()
    for thread in threads:
        thread.join()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    assert process.returncode == -signal.SIGKILL
    held = [process]
    del process
    assert any("unclosed transport" in text for text in garbage.drop(held))


def test_a_forked_child_leaves_the_parents_children_alone():
    loop = new_event_loop()
    transport, protocol = loop.run_until_complete(start("exec cat", **PIPES))
    process = transport.get_extra_info("subprocess")
    thread = threading.Thread(target=process.wait)
    thread.start()
    while not process._waitpid_lock.locked():  # from then on poll() does not tell whose child it is
        time.sleep(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads
        pid = os.fork()
    if pid == 0:
        try:
            transport.close()
            loop.close()
        finally:
            os._exit(sys.exc_info() != (None, None, None))
    assert os.waitpid(pid, 0) == (pid, 0)
    transport.get_pipe_transport(0).write(b"alive")
    loop.run_until_complete(until(lambda: ("data", 1, b"alive") in protocol.calls))
    loop.run_until_complete(end(transport, protocol))
    assert transport.get_returncode() == -signal.SIGKILL
    thread.join()
    loop.close()
