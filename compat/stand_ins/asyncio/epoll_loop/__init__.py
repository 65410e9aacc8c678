"""Found before the package of this name: what is written for epoll_loop runs on asyncio."""

import asyncio
import platform
from asyncio import SelectorEventLoop as Loop
from asyncio import new_event_loop, run
from pathlib import Path

__all__ = ["COMPILED", "EventLoopPolicy", "Loop", "install", "new_event_loop", "run"]

COMPILED = False
__version__ = platform.python_version()
EventLoopPolicy = asyncio.DefaultEventLoopPolicy
__path__ = [*__path__, str(Path(__file__).parents[4] / "epoll_loop")]  # pytest's plugin is the real one


def install() -> None:
    """Leave the policy as it is."""
