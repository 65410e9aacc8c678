"""The transport of a child, and what its protocol is told."""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import threading
import weakref
from unittest import mock

import garbage
import pytest
from children import PIPES, Recorder, end, start

from epoll_loop.core import kernel

ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])


async def test_what_the_protocol_is_told():
    transport, protocol = await start("cat; echo bad >&2; exit 3", **PIPES)
    assert protocol.transport is transport
    transport.get_pipe_transport(0).write(b"good")
    transport.get_pipe_transport(0).write_eof()
    assert await protocol.lost is None
    assert transport.get_returncode() == 3
    calls = protocol.calls
    assert calls[0] == "connection_made"
    assert calls[-1] == "connection_lost"
    assert [call for call in calls if call[1] == 0] == [("lost", 0, None)]
    assert [call for call in calls if call[1] == 1] == [("data", 1, b"good"), ("lost", 1, None)]
    assert [call for call in calls if call[1] == 2] == [("data", 2, b"bad\n"), ("lost", 2, None)]
    assert calls.count("process_exited") == 1
    assert len(calls) == 8
    transport.close()


async def test_without_pipes():
    transport, protocol = await start("exit 3")
    assert transport.get_pipe_transport(0) is None
    await protocol.lost
    assert protocol.calls == ["connection_made", "process_exited", "connection_lost"]
    assert transport.get_returncode() == 3
    transport.close()


@ours
async def test_what_happens_before_the_pipes_are_connected_is_told_afterwards():
    """The child has written to one pipe and ended when the next one is connected."""
    loop = asyncio.get_running_loop()
    connect = loop.connect_read_pipe

    async def connect_late(factory, pipe):
        if connected:
            child = loop._children.copy().pop()
            await child._wait()
            while not connected[0].is_closing():  # its end has been read
                await asyncio.sleep(0)
        transport, protocol = await connect(factory, pipe)
        connected.append(transport)
        return transport, protocol

    connected = []
    with mock.patch.object(loop, "connect_read_pipe", connect_late):
        transport, protocol = await start("echo out; echo err >&2; exit 3", **PIPES)
    await protocol.lost
    assert protocol.calls[0] == "connection_made"
    assert sorted(protocol.calls[1:5], key=str)[0] == ("data", 1, b"out\n")
    assert ("data", 2, b"err\n") in protocol.calls
    assert protocol.calls.index("process_exited") < protocol.calls.index(("data", 2, b"err\n"))
    assert protocol.calls[-1] == "connection_lost"
    transport.close()


async def test_what_it_says_of_the_child():
    transport, protocol = await start("exec cat", **PIPES)
    process = transport.get_extra_info("subprocess")
    assert isinstance(process, subprocess.Popen)
    assert isinstance(transport, asyncio.SubprocessTransport)
    assert transport.get_pid() == process.pid
    assert transport.get_returncode() is None
    assert isinstance(transport.get_pipe_transport(0), asyncio.WriteTransport)
    assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
    assert isinstance(transport.get_pipe_transport(2), asyncio.ReadTransport)
    assert transport.get_pipe_transport(3) is None
    assert transport.get_extra_info("no such thing", 7) == 7
    assert not transport.is_closing()
    transport.kill()
    await protocol.lost
    assert transport.get_pid() == process.pid
    assert transport.get_returncode() == process.returncode == -signal.SIGKILL
    assert transport.get_extra_info("subprocess") is process
    assert not transport.is_closing()
    for call in (transport.kill, transport.terminate, lambda: transport.send_signal(signal.SIGHUP)):
        with pytest.raises(ProcessLookupError):
            call()
    transport.close()


async def test_repr():
    transport, protocol = await start("exec sleep 3600")
    shown = f"pid={transport.get_pid()}"
    assert f"{shown} running" in repr(transport)
    transport.kill()
    await protocol.lost
    assert f"{shown} returncode=-9" in repr(transport)
    transport.close()
    assert f"closed {shown}" in repr(transport)


async def test_close_kills_the_child():
    transport, protocol = await start("exec sleep 3600", **PIPES)
    transport.close()
    assert transport.is_closing()
    transport.close()
    await protocol.lost
    assert transport.get_returncode() == -signal.SIGKILL
    assert protocol.calls[-1] == "connection_lost"
    assert {call[1] for call in protocol.calls if call[0] == "lost"} == {0, 1, 2}


async def test_close_closes_pipes_that_others_have_too():
    read_pid = asyncio.Event()

    class Protocol(Recorder):
        def pipe_data_received(self, fd, data):
            super().pipe_data_received(fd, data)
            read_pid.set()

    transport, protocol = await start("sleep 3600 & echo $!; exec sleep 3600", Protocol, **PIPES)
    await read_pid.wait()
    transport.close()
    await protocol.lost
    os.kill(int(protocol.calls[1][2]), signal.SIGKILL)


@ours
async def test_close_of_a_child_that_we_may_not_kill():
    transport, protocol = await start("exec sleep 3600")
    process = transport.get_extra_info("subprocess")
    with mock.patch.object(process, "kill", side_effect=PermissionError):
        transport.close()
    process.kill()
    await protocol.lost
    assert transport.get_returncode() == -signal.SIGKILL


async def test_close_does_not_kill_a_child_that_has_ended():
    transport, protocol = await start("exit 3")
    with contextlib.suppress(ChildProcessError):  # the loop knows already
        kernel.wait_for_exit(transport.get_pid())
    process = transport.get_extra_info("subprocess")
    with mock.patch.object(process, "kill") as kill:
        transport.close()
    await protocol.lost
    assert not kill.called


@ours
async def test_closed_before_the_loop_knows_of_the_end_it_has_the_exit_status():
    transport, protocol = await start("read line; exit 3", stdin=subprocess.PIPE)
    transport.get_extra_info("subprocess").stdin.write(b"\n")
    kernel.wait_for_exit(transport.get_pid())
    transport.close()
    await protocol.lost
    assert transport.get_returncode() == 3


async def test_a_new_protocol():
    transport, first = await start("exec cat", **PIPES)
    assert transport.get_protocol() is first
    second = Recorder()
    transport.set_protocol(second)
    assert transport.get_protocol() is second
    transport.get_pipe_transport(0).write(b"data")
    transport.get_pipe_transport(0).close()
    await second.lost
    assert first.calls == ["connection_made"]
    assert ("data", 1, b"data") in second.calls
    transport.close()


async def test_attributes_can_be_assigned():
    transport, protocol = await start("exec sleep 3600")
    with mock.patch.object(transport, "kill") as kill:
        transport.kill()
    kill.assert_called_once_with()
    assert weakref.ref(transport)() is transport
    await end(transport, protocol)


@pytest.mark.parametrize(
    "where", ["connection_made", "pipe_data_received", "pipe_connection_lost", "process_exited", "connection_lost"]
)
async def test_an_exception_of_the_protocol_is_reported_and_the_rest_is_told(where):
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context["exception"]))

    class Failing(Recorder):
        pass

    def fail(self, *args):
        getattr(Recorder, where)(self, *args)
        raise LookupError

    setattr(Failing, where, fail)
    transport, protocol = await start("echo data", Failing, stdout=subprocess.PIPE)
    await protocol.lost
    await asyncio.sleep(0)
    assert [type(report) for report in reports] == [LookupError]
    assert len(protocol.calls) == 5
    assert transport.get_returncode() == 0
    transport.close()


async def test_flow_control_of_the_childs_input():
    class Paused(Recorder):
        def pause_writing(self):
            self.calls.append("pause_writing")

        def resume_writing(self):
            self.calls.append("resume_writing")
            self.transport.get_pipe_transport(0).close()

    transport, protocol = await start("cat >/dev/null", Paused, stdin=subprocess.PIPE)
    transport.get_pipe_transport(0).write(bytes(1_000_000))
    await protocol.lost
    assert protocol.calls[:4] == ["connection_made", "pause_writing", "resume_writing", ("lost", 0, None)]
    transport.close()


@ours
async def test_nothing_refers_to_it_afterwards():
    """So that it goes at once, without the collector."""
    transport, protocol = await start("echo data", **PIPES)
    transport.get_pipe_transport(0).close()
    await protocol.lost
    transport.close()
    gone = weakref.ref(transport)
    with garbage.without_collector():
        del transport, protocol
        garbage.let_go()
        assert gone() is None


async def test_dropped_without_close_it_warns():
    transport, protocol = await start("true")
    await protocol.lost
    protocol.transport = None
    held = [transport]
    del transport
    for thread in threading.enumerate():
        if "waitpid-" in thread.name:  # asyncio's has the transport as an argument until it ends
            thread.join()
    assert any("unclosed transport <" in text for text in garbage.drop(held))


async def test_debug_mode_tells_of_the_child(caplog):
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    with caplog.at_level(logging.DEBUG, "asyncio"):
        transport, protocol = await start("exit 3")
        await protocol.lost
        transport.close()
        transport, protocol = await start("exec sleep 3600")
        await end(transport, protocol)
    loop.set_debug(False)
    texts = [record.getMessage() for record in caplog.records]
    assert any(text.startswith("process 'exit 3' created: pid ") for text in texts)
    assert any(text.endswith("exited with return code 3") for text in texts)
    assert any(text.startswith("Close running child process: kill <") for text in texts)
