"""Found before the package of this name: what is written for epoll_loop runs on uvloop."""

from pathlib import Path

import uvloop
from uvloop import EventLoopPolicy, Loop, install, new_event_loop, run

__all__ = ["COMPILED", "EventLoopPolicy", "Loop", "install", "new_event_loop", "run"]

COMPILED = True
__version__ = uvloop.__version__
__path__ = [*__path__, str(Path(__file__).parents[4] / "epoll_loop")]  # pytest's plugin is the real one
