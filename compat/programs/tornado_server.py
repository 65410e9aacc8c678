"""Tornado: its HTTP server and client, which work with add_reader() and add_writer()."""

import asyncio

import tornado.httpclient
import tornado.httpserver
import tornado.testing
import tornado.web


class Hello(tornado.web.RequestHandler):
    def get(self) -> None:
        self.write("hello")


class Big(tornado.web.RequestHandler):
    def get(self) -> None:
        self.write(b"x" * 2**21)


async def main() -> None:
    server = tornado.httpserver.HTTPServer(tornado.web.Application([("/", Hello), ("/big", Big)]))
    listener, port = tornado.testing.bind_unused_port()
    server.add_sockets([listener])
    client = tornado.httpclient.AsyncHTTPClient()
    answers = await asyncio.gather(*[client.fetch(f"http://127.0.0.1:{port}/") for _ in range(50)])
    assert [answer.body for answer in answers] == [b"hello"] * 50
    assert len((await client.fetch(f"http://127.0.0.1:{port}/big")).body) == 2**21
    server.stop()
    await server.close_all_connections()
    print(type(asyncio.get_running_loop()).__module__)


asyncio.run(main())
