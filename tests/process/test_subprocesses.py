"""subprocess_exec(), subprocess_shell() and what asyncio makes of them."""

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path
from unittest import mock

import pytest
from children import children, until
from resources import limited

import epoll_loop
from epoll_loop.core import kernel

ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])
BLOCKED = ("sleep", "3600")


async def output(*args, **kwargs):
    """What a program writes to its stdout."""
    process = await asyncio.create_subprocess_exec(*args, stdout=PIPE, **kwargs)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out


async def shell_output(command, **kwargs):
    return await output("sh", "-c", command, **kwargs)


async def test_exit_status():
    for status in (0, 7, 255):
        process = await asyncio.create_subprocess_shell(f"exit {status}")
        assert await process.wait() == status
        assert process.returncode == status
        assert await process.wait() == status


async def test_three_pipes():
    process = await asyncio.create_subprocess_shell("cat; echo bad >&2", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert await process.communicate(b"good") == (b"good", b"bad\n")


async def test_10_megabytes_both_ways():
    data = os.urandom(10_000_000)
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    out, _ = await process.communicate(data)
    assert out == data


async def test_the_childs_stdin_is_a_pipe():
    process = await asyncio.create_subprocess_shell("test -p /dev/stdin && cat /dev/stdin", stdin=PIPE, stdout=PIPE)
    assert await process.communicate(b"read") == (b"read", None)
    assert process.returncode == 0


async def test_a_conversation():
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    for line in (b"one\n", b"two\n"):
        process.stdin.write(line)
        await process.stdin.drain()
        assert await process.stdout.readline() == line
    process.stdin.close()
    await process.stdin.wait_closed()
    assert await process.stdout.read() == b""
    assert await process.wait() == 0


async def test_many_at_once():
    outputs = await asyncio.gather(*[shell_output(f"echo {number}") for number in range(20)])
    assert outputs == [b"%d\n" % number for number in range(20)]


async def test_keywords_of_popen(tmp_path):
    assert await output("pwd", cwd=tmp_path) == f"{tmp_path}\n".encode()
    assert await shell_output("echo $A", env={"A": "b", "PATH": os.environ["PATH"]}) == b"b\n"
    assert await shell_output("umask", umask=0o027) == b"0027\n"
    assert await shell_output("echo out; echo err >&2", stderr=STDOUT) == b"out\nerr\n"
    assert await output("echo", "of", executable="/bin/echo") == b"of\n"
    session = "import os; print(os.getsid(0) == os.getpid())"
    assert await output(sys.executable, "-ISc", session, start_new_session=True) == b"True\n"
    with open(tmp_path / "file", "w+b") as file:
        file.write(b"from a file")
        file.seek(0)
        assert await output("cat", stdin=file) == b"from a file"
        file.seek(0)
        assert await output("cat", f"/dev/fd/{file.fileno()}", pass_fds=[file.fileno()]) == b"from a file"
    assert await output("cat", stdin=DEVNULL) == b""
    assert await output(Path("/bin/echo"), b"bytes", Path("path")) == b"bytes path\n"


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"universal_newlines": True}, "universal_newlines must be False"),
        ({"bufsize": 4096}, "bufsize must be 0"),
        ({"text": True}, "text must be False"),
        ({"encoding": "utf-8"}, "encoding must be None"),
        ({"errors": "strict"}, "errors must be None"),
    ],
)
async def test_bytes_only(keywords, text):
    loop = asyncio.get_running_loop()
    with pytest.raises(ValueError, match=text):
        await loop.subprocess_exec(asyncio.SubprocessProtocol, "true", **keywords)
    with pytest.raises(ValueError, match=text):
        await loop.subprocess_shell(asyncio.SubprocessProtocol, "true", **keywords)


async def test_with_and_without_a_shell():
    loop = asyncio.get_running_loop()
    with pytest.raises(ValueError, match="shell must be False"):
        await loop.subprocess_exec(asyncio.SubprocessProtocol, "true", shell=True)
    with pytest.raises(ValueError, match="shell must be True"):
        await loop.subprocess_shell(asyncio.SubprocessProtocol, "true", shell=False)
    with pytest.raises(ValueError, match="cmd must be a string"):
        await loop.subprocess_shell(asyncio.SubprocessProtocol, ["true"])


async def test_what_popen_refuses(tmp_path):
    for program, error in (
        ("/no/such/program", FileNotFoundError),
        (str(tmp_path), PermissionError),
        ("nul\0", ValueError),
        (7, TypeError),
    ):
        with pytest.raises(error):
            await asyncio.create_subprocess_exec(program, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    with pytest.raises(FileNotFoundError):
        await asyncio.create_subprocess_exec("true", cwd=tmp_path / "none")
    with pytest.raises(TypeError, match="no_such_keyword"):
        await asyncio.create_subprocess_exec("true", no_such_keyword=1)


async def test_a_protocol_that_can_not_be_made():
    with pytest.raises(ZeroDivisionError):
        await asyncio.get_running_loop().subprocess_exec(lambda: 1 / 0, "true")


@pytest.mark.parametrize("after", range(8))
async def test_cancelled_while_it_is_made(after):
    """In every iteration: the child is killed and reaped, and its pipes are closed."""
    before = children()
    task = asyncio.ensure_future(asyncio.create_subprocess_exec(*BLOCKED, stdin=PIPE, stdout=PIPE, stderr=PIPE))
    for _ in range(after):
        await asyncio.sleep(0)
    if task.cancel():
        with pytest.raises(asyncio.CancelledError):
            await task
        assert children() == before
    else:
        process = await task
        process.kill()
        await process.communicate()


@ours
async def test_given_up_while_it_is_made():
    """The coroutine is closed, as that of a task that nobody holds any more."""
    before = children()
    loop = asyncio.get_running_loop()
    coroutine = loop.subprocess_exec(asyncio.SubprocessProtocol, *BLOCKED)
    coroutine.send(None)
    assert len(children() - before) == 1
    coroutine.close()
    await until(lambda: children() == before)


@ours
@pytest.mark.parametrize("failing", ["connect_write_pipe", "connect_read_pipe"])
async def test_a_pipe_that_can_not_be_connected(failing):
    """The error comes out, nothing is left, and the protocol is not told of anything."""
    before = children()
    protocol = mock.Mock()
    loop = asyncio.get_running_loop()
    with mock.patch.object(loop, failing, side_effect=OSError), pytest.raises(OSError):
        await loop.subprocess_exec(lambda: protocol, *BLOCKED)
    assert children() == before
    await until(lambda: not loop._children)
    assert protocol.mock_calls == []


@ours
async def test_cancelled_wait():
    process = await asyncio.create_subprocess_exec(*BLOCKED)
    waiters = [asyncio.ensure_future(process.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiters[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiters[0]
    assert len(process._transport._exit_waiters) == 2
    process.kill()
    assert await asyncio.gather(*waiters[1:], process.wait()) == [-signal.SIGKILL] * 3


@pytest.mark.parametrize("verb", ["kill", "terminate", "send_signal"])
async def test_signals(verb):
    process = await asyncio.create_subprocess_exec(*BLOCKED)
    sent = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "send_signal": signal.SIGHUP}[verb]
    getattr(process, verb)(*[sent] if verb == "send_signal" else [])
    assert await process.wait() == -sent


@ours
async def test_a_signal_to_a_child_that_has_ended_is_nothing():
    """And does not take its exit status from wait(), as asyncio's may before 3.13."""
    process = await asyncio.create_subprocess_shell("exit 7")
    with contextlib.suppress(ChildProcessError):  # the loop knows already
        kernel.wait_for_exit(process.pid)
    process.terminate()
    assert await process.wait() == 7


@ours
async def test_wait_ends_with_the_child_although_its_pipe_is_open():
    """A process that the child has left its stdout to may keep it for long. asyncio has it since 3.13.6."""
    process = await asyncio.create_subprocess_shell("sleep 3600 & echo $!", stdout=PIPE)
    assert await process.wait() == 0
    os.kill(int(await process.stdout.readline()), signal.SIGKILL)
    assert await process.stdout.read() == b""


async def test_somebody_elses_children_are_left_alone():
    other = subprocess.Popen(["sh", "-c", "exit 3"])
    kernel.wait_for_exit(other.pid)
    assert await shell_output("echo") == b"\n"
    assert other.wait() == 3


@ours
@pytest.mark.parametrize("pipes", [{}, {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}], ids=["none", "three"])
async def test_no_descriptor_left_for_it(pipes):
    """At each number of descriptors that may still be opened: it works or it fails, and nothing is left either way."""
    errors = []
    for more in range(14):
        with limited(more):
            try:
                process = await asyncio.create_subprocess_exec("true", **pipes)
                assert await process.wait() == 0
                await process.communicate()
            except OSError as exc:
                errors.append(exc.errno)
    assert set(errors) == {errno.EMFILE}
    assert len(errors) < 14


async def test_in_another_threads_loop():
    factory = type(asyncio.get_running_loop())
    results = []

    def run():
        with asyncio.Runner(loop_factory=factory) as runner:
            results.append(runner.run(shell_output("cat; echo thread", stdin=DEVNULL)))

    thread = threading.Thread(target=run)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert results == [b"thread\n"]


def run_program(source):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        env={**os.environ, "PYTHONPATH": str(Path(epoll_loop.__file__).parents[1])},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def test_hooks_of_fork_are_not_run():
    """They are for a child that goes on with Python, and may do anything."""
    assert run_program("""
        import asyncio, os, epoll_loop

        async def main():
            process = await asyncio.create_subprocess_exec("true")
            print(await process.wait())

        with asyncio.Runner(loop_factory=epoll_loop.new_event_loop) as runner:
            for when in ("before", "after_in_parent", "after_in_child"):
                os.register_at_fork(**{when: lambda: os.write(1, b"called")})
            runner.run(main())
    """) == "0\n"  # fmt: skip


def test_where_sigchld_is_ignored():
    """The kernel reaps, and nobody learns the status."""
    assert run_program("""
        import asyncio, logging, signal, sys, epoll_loop
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        logging.basicConfig(stream=sys.stdout, format="%(levelname)s")

        async def main():
            process = await asyncio.create_subprocess_shell("exit 7")
            print(await process.wait())

        with asyncio.Runner(loop_factory=epoll_loop.new_event_loop) as runner:
            runner.run(main())
    """) == "WARNING\n255\n"  # fmt: skip
