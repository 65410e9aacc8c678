"""gunicorn with aiohttp's worker, which takes the loop that the policy gives."""

from _http_work import work
from commands import serving

CONF = """
import epoll_loop

epoll_loop.install()
"""
LINE = "gunicorn aiohttp_app:app --worker-class aiohttp.GunicornWebWorker"

with serving(
    f"{LINE} --workers 2 --keep-alive 60 --bind 127.0.0.1:{{port}} --log-level warning",
    {"gunicorn.conf.py": CONF},
    output="shut down\n" * 2,
) as server:
    loop = work(server)
print(loop)
