"""hypercorn as a command, with several processes: each reads the application before it asks the policy for a loop."""

from _http_work import meet
from commands import serving

APPLICATION = """
import epoll_loop
from app import app

epoll_loop.install()
"""
LINE = "hypercorn application:app"

with serving(
    f"{LINE} --workers 2 --bind 127.0.0.1:{{port}} --log-level WARNING",
    {"application.py": APPLICATION},
    output="shut down\n" * 2,
    least="shut down\n",  # hypercorn terminates the others when the first one has ended
) as server:
    loop = meet(server, workers=2)
print(loop)
