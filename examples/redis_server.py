"""A server that speaks Redis' protocol, and keeps strings in memory.

    python examples/redis_server.py

Then `redis-cli -p 6380`, `redis-benchmark -p 6380 -t get,set,incr,ping -P 16`, or any of Redis' client libraries. It
takes other addresses too, as echo.py does.

redis_protocol.py makes commands of a stream, redis_commands.py carries them out, on what redis_database.py keeps. Here
they meet: what a client has sent at once is done at once, and answered in one piece.
"""

import argparse

from redis_commands import COMMANDS, Client, CommandError, refuse
from redis_database import Database
from redis_protocol import error

import epoll_loop
from epoll_loop import Action

ADDRESSES = ["tcp://127.0.0.1:6380"]


class Redis(epoll_loop.Events):
    def __init__(self):
        self.database = Database()

    def serving(self, server):
        for address in server.addresses:
            print("listening on", address, flush=True)

    def tick(self):
        self.database.drop_expired()
        return 0.1

    def opened(self, conn):
        conn.context = Client(self.database)

    def data(self, conn, data):
        client = conn.context
        out = []
        for words in client.stream.feed(data):
            known = COMMANDS.get(words[0]) or COMMANDS.get(words[0].upper())
            if known is None or not known[1] <= len(words) <= known[2]:
                out.append(refuse(words))
                continue
            try:
                out.append(known[0](client, *words[1:]))
            except CommandError as exc:
                out.append(error(str(exc)))
            if client.quits:
                return b"".join(out), Action.CLOSE
        if client.stream.wrong is not None:
            out.append(error(f"ERR Protocol error: {client.stream.wrong}"))
            return b"".join(out), Action.CLOSE
        return b"".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("addresses", nargs="*", default=ADDRESSES, help=f"default: {' '.join(ADDRESSES)}")
    try:
        epoll_loop.serve(Redis(), *parser.parse_args().addresses)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
