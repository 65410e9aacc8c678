"""Tornado, over add_reader() and add_writer(): HTTP with bodies both ways, WebSockets, TLS, streams, its IOLoop."""

import asyncio
import ssl

import tornado.httpclient
import tornado.httpserver
import tornado.ioloop
import tornado.iostream
import tornado.tcpclient
import tornado.tcpserver
import tornado.testing
import tornado.web
import tornado.websocket
import trustme

BLOB = bytes(range(256)) * 2**13  # 2 MiB


class Echo(tornado.web.RequestHandler):
    def get(self) -> None:
        self.write(self.get_argument("word", "hello"))

    def put(self) -> None:
        self.write(self.request.body)


class Pieces(tornado.web.RequestHandler):
    async def get(self) -> None:
        for start in range(0, len(BLOB), 2**14):
            self.write(BLOB[start : start + 2**14])
            await self.flush()


@tornado.web.stream_request_body
class Counted(tornado.web.RequestHandler):
    def prepare(self) -> None:
        self.size = 0

    async def data_received(self, chunk: bytes) -> None:
        await asyncio.sleep(0)
        self.size += len(chunk)

    def put(self) -> None:
        self.write(str(self.size))


class Socket(tornado.websocket.WebSocketHandler):
    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message, binary=isinstance(message, bytes))


class Lines(tornado.tcpserver.TCPServer):
    async def handle_stream(self, stream: tornado.iostream.IOStream, address: tuple[str, int]) -> None:
        try:
            while True:
                await stream.write((await stream.read_until(b"\n")).upper())
        except tornado.iostream.StreamClosedError:
            pass


async def requests(base: str, authority: str) -> None:
    client = tornado.httpclient.AsyncHTTPClient(force_instance=True, max_clients=20, defaults={"ca_certs": authority})

    async def word(i: int) -> None:
        assert (await client.fetch(f"{base}/?word={i}")).body == b"%d" % i

    await asyncio.gather(*[word(i) for i in range(100)])
    assert (await client.fetch(f"{base}/", method="PUT", body=BLOB)).body == BLOB
    pieces: list[bytes] = []
    await client.fetch(f"{base}/pieces", streaming_callback=pieces.append)
    assert len(pieces) > 1
    assert b"".join(pieces) == BLOB

    async def produce(write) -> None:  # type: ignore[no-untyped-def]
        for start in range(0, len(BLOB), 2**14):
            await write(BLOB[start : start + 2**14])

    assert (await client.fetch(f"{base}/counted", method="PUT", body_producer=produce)).body == b"%d" % len(BLOB)
    client.close()


async def messages(base: str, authority: str) -> None:
    address = tornado.httpclient.HTTPRequest(f"{base.replace('http', 'ws')}/socket", ca_certs=authority)
    socket = await tornado.websocket.websocket_connect(address)
    sent = ["text", b"bytes", BLOB[: 2**20], *map(str, range(200))]
    for message in sent:
        await socket.write_message(message, binary=isinstance(message, bytes))
    for message in sent:
        assert await socket.read_message() == message
    socket.close()
    assert await socket.read_message() is None


async def lines() -> None:
    server = Lines()
    listener, port = tornado.testing.bind_unused_port()
    server.add_sockets([listener])

    async def talk(word: bytes) -> None:
        stream = await tornado.tcpclient.TCPClient().connect("127.0.0.1", port)
        for i in range(50):
            await stream.write(b"%s%d\n" % (word, i))
            assert await stream.read_until(b"\n") == b"%s%d\n" % (word.upper(), i)
        stream.close()

    await asyncio.gather(*[talk(word) for word in (b"one", b"two", b"three")])
    server.stop()


async def loop() -> None:
    loop = tornado.ioloop.IOLoop.current()
    assert loop.asyncio_loop is asyncio.get_running_loop()
    ticks = asyncio.Queue[None]()
    ticker = tornado.ioloop.PeriodicCallback(lambda: ticks.put_nowait(None), 1)
    ticker.start()
    for _ in range(20):
        await ticks.get()
    ticker.stop()
    cancelled = loop.call_later(0, ticks.put_nowait, None)
    loop.remove_timeout(cancelled)
    assert await loop.run_in_executor(None, sum, [1, 2]) == 3
    threaded = asyncio.Event()
    await asyncio.to_thread(loop.add_callback, threaded.set)
    await threaded.wait()


async def main() -> None:
    routes = [("/", Echo), ("/pieces", Pieces), ("/counted", Counted), ("/socket", Socket)]
    application = tornado.web.Application(routes)
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with authority.cert_pem.tempfile() as path:
        for scheme, tls in (("http", None), ("https", context)):
            server = tornado.httpserver.HTTPServer(application, ssl_options=tls)
            listener, port = tornado.testing.bind_unused_port()
            server.add_sockets([listener])
            await requests(f"{scheme}://127.0.0.1:{port}", path)
            await messages(f"{scheme}://127.0.0.1:{port}", path)
            server.stop()
            await server.close_all_connections()
    await lines()
    await loop()
    print(type(asyncio.get_running_loop()).__module__)


asyncio.run(main())
