"""hypercorn, HTTP/1.1."""

import sys

from _http_work import work
from commands import serving

SERVE = """
import sys
import epoll_loop
from app import app
from hypercorn.asyncio import serve
from hypercorn.config import Config

config = Config.from_mapping(bind=sys.argv[1], loglevel="WARNING", keep_alive_timeout=60)
epoll_loop.run(serve(app, config))
"""

with serving(f"{sys.executable} serve.py 127.0.0.1:{{port}}", {"serve.py": SERVE}, output="shut down\n") as server:
    loop = work(server)
print(loop)
