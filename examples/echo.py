"""An echo on TCP, IPv6, a Unix socket and UDP, all on one loop, or on several.

    python examples/echo.py

It takes other addresses too: `python examples/echo.py tcp://0.0.0.0:7 udp://0.0.0.0:7`, and with `--loops 4` four
loops serve them, each in a process of its own, or in a thread on a free-threaded Python. SIGTERM ends it, and Ctrl+C.
"""

import argparse

import epoll_loop

ADDRESSES = ["tcp://127.0.0.1:5000", "tcp://[::1]:5001", "unix:///tmp/echo.sock", "udp://127.0.0.1:5002"]


class Echo(epoll_loop.Events):
    def serving(self, server):
        if server.loop_index == 0:
            for address in server.addresses:
                print("listening on", address, flush=True)

    def data(self, conn, data):
        return data


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("addresses", nargs="*", default=ADDRESSES, help=f"default: {' '.join(ADDRESSES)}")
    parser.add_argument("--loops", type=int, default=1, help="default: 1")
    options = parser.parse_args()
    try:
        epoll_loop.serve(Echo(), *options.addresses, loops=options.loops)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":  # the processes of other loops import this file
    main()
