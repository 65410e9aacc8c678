"""An echo on TCP, IPv6, a Unix socket and UDP, all on one loop.

    python examples/echo.py

It takes other addresses too: `python examples/echo.py tcp://0.0.0.0:7 udp://0.0.0.0:7`. SIGTERM ends it, and Ctrl+C.
"""

import argparse

import epoll_loop

ADDRESSES = ["tcp://127.0.0.1:5000", "tcp://[::1]:5001", "unix:///tmp/echo.sock", "udp://127.0.0.1:5002"]


class Echo(epoll_loop.Events):
    def serving(self, server):
        for address in server.addresses:
            print("listening on", address, flush=True)

    def data(self, conn, data):
        return data


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("addresses", nargs="*", default=ADDRESSES, help=f"default: {' '.join(ADDRESSES)}")
    try:
        epoll_loop.serve(Echo(), *parser.parse_args().addresses)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
