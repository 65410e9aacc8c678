"""granian embedded in a program of one's own, on its loop."""

import sys

from _http_work import work
from commands import serving

SERVE = """
import asyncio
import os
import signal
import sys

import epoll_loop
from app import app
from granian.server.embed import Server


async def main():
    server = Server(app, port=int(sys.argv[1]), interface="asgi", log_level="error")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
    await server.serve()


epoll_loop.run(main())
os._exit(0)
"""

# os._exit(): threads of granian outlive its server, and at times one wakes as Python takes itself down, and aborts.
with serving(f"{sys.executable} serve.py {{port}}", {"serve.py": SERVE}, output="shut down\n") as server:
    loop = work(server)
print(loop)
