"""An HTTP/1.1 server: keep-alive, pipelining, and a plain reply.

    python examples/http_server.py

Then `curl -i http://127.0.0.1:8080/`, or `wrk http://127.0.0.1:8080/`. It takes other addresses too, as echo.py does.

`Http.data()` cuts heads and bodies out of the stream, and skips the bodies. What a head is answered with is found by
`understand()`, and remembered: clients send the same heads again and again. Only the date in it is new every second.

The file is not called http.py: that would be imported in the place of the standard library's package.
"""

import argparse
import functools
import math
import re
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple

import epoll_loop
from epoll_loop import Action

ADDRESSES = ["tcp://127.0.0.1:8080"]
PAGES = {b"/": b"Hello, World!\n"}
METHODS = {b"GET", b"HEAD", b"POST"}
HEAD_LIMIT = 8192  # bytes
REMEMBERED = HEAD_LIMIT + 1  # of a head: enough to see that it is too large
IDLE_TIMEOUT = 60  # seconds

# RFC 9112, sections 3 and 5: no bare line feeds, no folded lines, no space before a colon.
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
REQUEST_LINE = re.compile(rb"(%b) (?:(?:http://[^/?\s]+)?(/[!-~]*)|\*|http://[^/?\s]+) HTTP/(\d)\.(\d)\r\n" % TOKEN)
FIELD = re.compile(rb"(%b):([^\r\n\0]*)\r\n" % TOKEN)


class Answer(NamedTuple):
    """What a head is answered with."""

    before: bytes
    after: bytes
    """The date comes in between."""
    last: bool
    """Whether the connection ends with it."""
    size: float
    """How many bytes of a body come before it; `inf` if it is not known where the next request begins."""
    expects: bool
    """Whether the client waits for a word before it sends the body."""


class Http(epoll_loop.Events):
    """Of a connection, `conn.context` keeps what is not whole: the beginning of a head, or how much of a body is still
    to come and its answer. Between two requests it is None."""

    def __init__(self):
        self.tick()

    def serving(self, server):
        for address in server.addresses:
            print("listening on", address, flush=True)

    def tick(self):
        now = time.time()
        self.date = formatdate(now, usegmt=True).encode()
        return 1 - now % 1

    def data(self, conn, data):
        out = []  # of all the requests that have come at once
        start = 0
        kept = conn.context
        if kept is not None:
            conn.context = None
            if type(kept) is bytes:
                data = kept + data
            else:
                start, answer = kept
                if start > len(data):
                    conn.context = start - len(data), answer
                    return None
                out += answer.before, self.date, answer.after
                if answer.last:
                    return b"".join(out), Action.CLOSE
        while (end := data.find(b"\r\n\r\n", start) + 4) > 3:
            before, after, last, size, expects = answer = understand(data[start:end][:REMEMBERED])
            start = end + size
            if size:
                if size == math.inf:
                    return self.refuse(conn, out, answer)
                if expects:
                    out.append(b"HTTP/1.1 100 Continue\r\n\r\n")
                if start > len(data):
                    conn.context = start - len(data), answer
                    return b"".join(out)
            out += before, self.date, after
            if last:
                return b"".join(out), Action.CLOSE
        if start < len(data):
            conn.context = data[start:]
            if (answer := refusal(conn.context)) is not None:
                return self.refuse(conn, out, answer)
        return b"".join(out)

    def refuse(self, conn, out, answer):
        """Answer for the last time, with more on its way: all of that is skipped until the client closes.

        If the connection were closed now, the kernel would reset it, and the client might never see the answer.
        """
        out += answer.before, self.date, answer.after
        conn.write(b"".join(out))
        conn.write_eof()
        conn.context = answer.size, answer


class RequestError(Exception):
    """The status that a head is answered with, where it is not known where the next one begins."""


@functools.lru_cache(256)
def understand(head):
    """Return the `Answer` to a head, from its first byte to its empty line."""
    try:
        line = request_line(head)
        if len(head) > HEAD_LIMIT:
            raise RequestError(431)
        return answer_to(line, read_fields(head, line.end()))
    except RequestError as exc:
        return last_answer(exc)


def refusal(head):
    """Return the `Answer` to a head that is not whole, but wrong already; else None."""
    try:
        if request_line(head) and len(head) >= HEAD_LIMIT:
            raise RequestError(431)
    except RequestError as exc:
        return last_answer(exc)
    return None


def request_line(head):
    """Return a match of `REQUEST_LINE`, or None if the line is not whole."""
    start = 2 * head.startswith(b"\r\n")  # some clients send an empty line after a body
    if head.find(b"\n", start, HEAD_LIMIT) < 0:
        if len(head) >= HEAD_LIMIT:
            raise RequestError(431)
        return None
    line = REQUEST_LINE.match(head, start)
    if line is None:
        raise RequestError(400)
    if line[3] != b"1":
        raise RequestError(505)
    return line


def read_fields(head, start):
    """Return the fields from a place in a head to its end: the values by the name in lower case."""
    fields = {}
    while start < len(head) - 2:
        field = FIELD.match(head, start)
        if field is None:
            raise RequestError(400)
        fields.setdefault(field[1].lower(), []).append(field[2].strip(b" \t"))
        start = field.end()
    return fields


def answer_to(line, fields):
    method, target, _, minor = line.groups()
    if minor != b"0" and len(fields.get(b"host", ())) != 1:
        raise RequestError(400)
    size = body_size(fields)
    options = {option.strip() for value in fields.get(b"connection", ()) for option in value.lower().split(b",")}
    last = b"close" in options or (minor == b"0" and b"keep-alive" not in options)
    connection = b"Connection: close\r\n" if last else b"Connection: keep-alive\r\n" if minor == b"0" else b""
    page = PAGES.get((target or b"/").partition(b"?")[0])
    if page is None:
        status, page = 404, b"There is no such page.\n"
    elif method not in METHODS:
        status, page = 405, b"That can not be done with this page.\n"
        connection += b"Allow: %b\r\n" % b", ".join(sorted(METHODS))
    else:
        status = 200
    before, after = reply(status, page, connection)
    if method == b"HEAD":
        after = after.removesuffix(page)
    expects = minor != b"0" and fields.get(b"expect", [b""])[0].lower() == b"100-continue"
    return Answer(before, after, last, size, expects)


def body_size(fields):
    """Return how many bytes follow the head. A body in chunks is refused, which a client may answer with a length."""
    lengths = set(fields.get(b"content-length", ()))
    codings = fields.get(b"transfer-encoding")
    if codings is not None:
        if lengths:
            raise RequestError(400)  # one of the two lies
        raise RequestError(411 if codings[-1].lower() == b"chunked" else 501)
    if len(lengths) > 1 or not all(re.fullmatch(rb"\d{1,18}", length) for length in lengths):
        raise RequestError(400)
    return int(lengths.pop()) if lengths else 0


def reply(status, body, fields=b""):
    """Return a reply, without its date: what comes before and after it."""
    line = b"HTTP/1.1 %d %b\r\nDate: " % (status, HTTPStatus(status).phrase.encode())
    rest = b"\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), fields, body)
    return line, rest


def last_answer(error):
    status = error.args[0]
    before, after = reply(status, b"%b\n" % HTTPStatus(status).phrase.encode(), b"Connection: close\r\n")
    return Answer(before, after, last=True, size=math.inf, expects=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("addresses", nargs="*", default=ADDRESSES, help=f"default: {' '.join(ADDRESSES)}")
    try:
        epoll_loop.serve(Http(), *parser.parse_args().addresses, idle_timeout=IDLE_TIMEOUT)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
