"""Found before the package of this name: what is written for epoll_loop runs on uvloop."""

from pathlib import Path

from uvloop import EventLoopPolicy, Loop, install, new_event_loop, run

__all__ = ["EventLoopPolicy", "Loop", "install", "new_event_loop", "run"]

__path__ = [*__path__, str(Path(__file__).parents[4] / "epoll_loop")]  # pytest's plugin is the real one
