"""How the loop learns of a child's exit: by a pidfd, or by a thread where there is none to be had."""

import asyncio
import contextvars
import errno
import logging
import os
import signal
import threading
import time
from asyncio.subprocess import PIPE

import pytest
from children import Recorder, end, refuse, start, waiting_threads

from epoll_loop.core import kernel

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
pytestmark = pytest.mark.asyncio(loop_factories=["epoll_loop"])


async def test_exit_status_and_output(way):
    process = await asyncio.create_subprocess_shell("cat; exit 3", stdin=PIPE, stdout=PIPE)
    assert len(waiting_threads()) == (way == "thread")
    assert await process.communicate(b"data") == (b"data", None)
    assert process.returncode == 3


async def test_signals(way):
    process = await asyncio.create_subprocess_exec("sleep", "3600")
    process.terminate()
    assert await process.wait() == -signal.SIGTERM
    process.terminate()


async def test_many(way):
    async def run(status):
        process = await asyncio.create_subprocess_shell(f"exit {status}")
        return await process.wait()

    assert await asyncio.gather(*map(run, range(30))) == list(range(30))


async def test_cancelled(way):
    task = asyncio.ensure_future(asyncio.create_subprocess_exec("sleep", "3600", stdin=PIPE))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_protocol_is_told_in_the_context_of_the_start(way):
    seen = []

    class Protocol(Recorder):
        def process_exited(self):
            seen.append(variable.get())

    variable.set("started")
    transport, protocol = await start("true", Protocol)
    variable.set("changed")
    await end(transport, protocol)
    assert seen == ["started"]


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EPERM, errno.EINVAL, errno.ENODEV])
async def test_whatever_is_wrong_with_pidfd_open(code, monkeypatch):
    monkeypatch.setattr(kernel, "pidfd_open", refuse(code))
    process = await asyncio.create_subprocess_shell("exit 3")
    assert await process.wait() == 3


async def test_a_kernel_without_pidfds_and_a_python_without_waitid(monkeypatch):
    monkeypatch.setattr(kernel, "pidfd_open", refuse(errno.ENOSYS))
    monkeypatch.setattr(kernel, "wait_for_exit", kernel._wait_for_exit)
    process = await asyncio.create_subprocess_shell("cat; exit 3", stdin=PIPE)
    process.send_signal(0)
    process.stdin.close()
    assert await process.wait() == 3
    process = await asyncio.create_subprocess_exec("sleep", "3600")
    process._transport.close()
    assert await process.wait() == -signal.SIGKILL


async def test_a_descriptor_that_epoll_does_not_take(monkeypatch):
    monkeypatch.setattr(kernel, "pidfd_open", lambda pid, flags=0: os.open(__file__, os.O_RDONLY))
    process = await asyncio.create_subprocess_shell("exit 3")
    assert await process.wait() == 3


async def test_neither_pidfd_nor_thread(monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(kernel, "pidfd_open", refuse(errno.EMFILE))
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        await asyncio.create_subprocess_exec("sleep", "3600", stdin=PIPE, stdout=PIPE, stderr=PIPE)


async def test_reaped_by_somebody_else_it_is_255(way, caplog):
    process = await asyncio.create_subprocess_exec("sleep", "3600")
    process.kill()
    os.waitpid(process.pid, 0)
    with caplog.at_level(logging.WARNING, "asyncio"):
        assert await process.wait() == 255
    (record,) = caplog.records
    assert record.getMessage() == (
        f"child process pid {process.pid} exit status already read:  will report returncode 255"
    )


async def test_reaped_by_popen_it_has_its_exit_status(way, caplog):
    """By its wait() in a thread, for which the loop is a rival."""
    for _ in range(20):
        process = await asyncio.create_subprocess_shell("read line; exit 3", stdin=PIPE)
        popen = process._transport.get_extra_info("subprocess")
        thread = threading.Thread(target=popen.wait)
        thread.start()
        process.stdin.write(b"\n")
        assert await process.wait() == 3
        await asyncio.to_thread(thread.join)
    assert not caplog.records


async def test_a_pidfd_costs_one_descriptor_and_no_thread():
    before = len(os.listdir("/proc/self/fd"))
    process = await asyncio.create_subprocess_exec("sleep", "3600")
    assert len(os.listdir("/proc/self/fd")) == before + 1
    assert waiting_threads() == []
    process.kill()
    await process.wait()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_handler_of_sigchld_and_the_loop_do_not_disturb_each_other(way):
    loop = asyncio.get_running_loop()
    seen = []
    loop.add_signal_handler(signal.SIGCHLD, seen.append, 1)
    try:
        for status in range(5):
            process = await asyncio.create_subprocess_shell(f"exit {status}")
            assert await process.wait() == status
        deadline = time.monotonic() + 20
        while not seen and time.monotonic() < deadline:
            await asyncio.sleep(0)
    finally:
        loop.remove_signal_handler(signal.SIGCHLD)
    assert seen
