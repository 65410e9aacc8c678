"""hypercorn, HTTP/2 over TLS, agreed upon by ALPN."""

import ssl
import sys

import trustme
from _http_work import work
from commands import serving

SERVE = """
import sys
import epoll_loop
from app import app
from hypercorn.asyncio import serve
from hypercorn.config import Config

tls = {"certfile": "cert.pem", "keyfile": "key.pem"}
config = Config.from_mapping(bind=sys.argv[1], loglevel="WARNING", keep_alive_timeout=60, **tls)
epoll_loop.run(serve(app, config))
"""

authority = trustme.CA()
certificate = authority.issue_cert("127.0.0.1")
files = {
    "serve.py": SERVE,
    "cert.pem": certificate.cert_chain_pems[0].bytes().decode(),
    "key.pem": certificate.private_key_pem.bytes().decode(),
}
context = ssl.create_default_context()
authority.configure_trust(context)

with serving(f"{sys.executable} serve.py 127.0.0.1:{{port}}", files, output="shut down\n") as server:
    loop = work(server, tls=context, http2=True)
print(loop)
