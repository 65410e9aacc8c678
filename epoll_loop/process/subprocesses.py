"""Subprocesses: `subprocess.Popen`, with pipes and an exit that the loop waits for."""

from __future__ import annotations

import subprocess
from asyncio.log import logger
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from epoll_loop.core.missing import CHILDREN, need
from epoll_loop.core.reactor import Reactor
from epoll_loop.process.transport import SubprocessTransport

if TYPE_CHECKING:
    import asyncio

P = TypeVar("P", bound="asyncio.BaseProtocol")


class Subprocesses(Reactor):
    """The room of the loop that deals with child processes."""

    __slots__ = ()

    _children: set[SubprocessTransport]  # those that run, or whose pipes are open

    async def subprocess_exec(
        self,
        protocol_factory: Callable[[], P],
        program: Any,
        *args: Any,
        stdin: Any = subprocess.PIPE,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        universal_newlines: bool = False,
        shell: bool = False,
        bufsize: int = 0,
        encoding: str | None = None,
        errors: str | None = None,
        text: bool | None = None,
        **kwargs: Any,
    ) -> tuple[SubprocessTransport, P]:
        """Run a program with its arguments, and return the transport and the protocol.

        `connection_made()` has been called by then. The other keywords are those of `subprocess.Popen`, and so are the
        exceptions: OSError, and ValueError for what can not be. See `loop.subprocess_exec()` of asyncio.
        """
        _check(shell, False, universal_newlines, bufsize, text, encoding, errors)
        return await self._spawn(protocol_factory, (program, *args), False, stdin, stdout, stderr, kwargs)

    async def subprocess_shell(
        self,
        protocol_factory: Callable[[], P],
        cmd: str | bytes,
        *,
        stdin: Any = subprocess.PIPE,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        universal_newlines: bool = False,
        shell: bool = True,
        bufsize: int = 0,
        encoding: str | None = None,
        errors: str | None = None,
        text: bool | None = None,
        **kwargs: Any,
    ) -> tuple[SubprocessTransport, P]:
        """Have the shell run a command, and return the transport and the protocol. See `subprocess_exec()`."""
        if not isinstance(cmd, (bytes, str)):
            raise ValueError("cmd must be a string")
        _check(shell, True, universal_newlines, bufsize, text, encoding, errors)
        return await self._spawn(protocol_factory, cmd, True, stdin, stdout, stderr, kwargs)

    async def _spawn(
        self,
        protocol_factory: Callable[[], P],
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        kwargs: dict[str, Any],
    ) -> tuple[SubprocessTransport, P]:
        need(CHILDREN, "child processes that can be waited for")
        protocol = protocol_factory()
        process = subprocess.Popen(
            args, bufsize=0, shell=shell, stdin=stdin, stdout=stdout, stderr=stderr, **kwargs
        )
        try:
            transport = SubprocessTransport(self, protocol, process)
        except BaseException:
            with process:  # which closes the pipes, and waits
                process.kill()
            raise
        self._children.add(transport)
        if self._debug:
            # Not the arguments: there may be a password among them.
            logger.debug("process %r created: pid %s", args if shell else args[0], process.pid)
        try:
            await transport._connect()
        except (SystemExit, KeyboardInterrupt, GeneratorExit):
            transport.close()
            raise
        except BaseException:
            transport.close()
            await transport._wait()
            raise
        return transport, protocol

    def _abandon_children(self) -> None:
        children = list(self._children)
        self._children.clear()
        for transport in children:
            transport._abandon()


def _check(
    shell: bool,
    expected: bool,
    universal_newlines: bool,
    bufsize: int,
    text: bool | None,
    encoding: str | None,
    errors: str | None,
) -> None:
    """Raise ValueError unless it is bytes, unbuffered, with or without a shell as the method's name says."""
    if universal_newlines:
        raise ValueError("universal_newlines must be False")
    if bool(shell) is not expected:
        raise ValueError(f"shell must be {expected}")
    if bufsize != 0:
        raise ValueError("bufsize must be 0")
    if text:
        raise ValueError("text must be False")
    if encoding is not None:
        raise ValueError("encoding must be None")
    if errors is not None:
        raise ValueError("errors must be None")
