"""granian: its I/O is its own, the application runs on the loop, and threads that are not Python's wake it."""

import sys

from _http_work import work
from commands import serving

SERVE = """
import sys

import epoll_loop
import granian

granian.loops.register("epoll_loop")(epoll_loop.new_event_loop)

if __name__ == "__main__":
    port = int(sys.argv[1])
    granian.Granian("app:app", port=port, interface="asgi", loop="epoll_loop", log_level="warning").serve()
"""

with serving(f"{sys.executable} serve.py {{port}}", {"serve.py": SERVE}, output="shut down\n") as server:
    loop = work(server)
print(loop)
