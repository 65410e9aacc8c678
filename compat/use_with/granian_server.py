"""granian, whose I/O is not asyncio's: the application runs on the loop, and the server wakes it from its own threads."""

import sys

from _http_work import work
from commands import serving

SERVE = """
import sys

import epoll_loop
import granian

granian.loops.register("epoll_loop")(epoll_loop.new_event_loop)

if __name__ == "__main__":
    granian.Granian(
        "app:app", port=int(sys.argv[1]), interface="asgi", loop="epoll_loop", log_level="warning"
    ).serve()
"""

with serving(f"{sys.executable} serve.py {{port}}", {"serve.py": SERVE}, output="shut down\n") as server:
    loop = work(server)
print(loop)
