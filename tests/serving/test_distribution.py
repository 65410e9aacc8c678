"""serve() on four loops, in processes and in threads: how many of 10,000 connections come to each of them."""

import collections
import os
import random

import pytest
from many import Client, Program

pytestmark = [
    pytest.mark.usefixtures("no_descriptor_left"),
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="they are watched by pidfd_open()"),
    pytest.mark.parametrize("threads", [False, True], ids=["processes", "threads"]),
]

LOOPS = 4
MANY = 10_000
ROUND = 50  # that many connect before the first is waited for


def distribute(program, count):
    """How many of so many connections come to each worker; each is closed before the next round."""
    counts = collections.Counter()
    for _ in range(count // ROUND):
        clients = [Client(program.addresses[0]) for _ in range(ROUND)]
        for client in clients:
            counts[client.arrive().index] += 1
            client.close()
    return counts


def test_random(tmp_path, threads):
    """The kernel chooses by a hash of the addresses, as by dice: 2500 are to be expected, give or take 43.

    That one of them has less than 1500 happens once in 10^86 times, by Hoeffding's inequality.
    """
    with Program(tmp_path, loops=LOOPS, threads=threads) as program:
        counts = distribute(program.ready(), MANY)
        assert sorted(counts) == list(range(LOOPS))
        assert counts.total() == MANY
        assert min(counts.values()) >= 1500, counts


def test_round_robin(tmp_path, threads):
    with Program(tmp_path, loops=LOOPS, balance="round-robin", threads=threads) as program:
        assert distribute(program.ready(), MANY) == dict.fromkeys(range(LOOPS), MANY // LOOPS)


def test_least_connections(tmp_path, threads):
    """Again and again most of the clients go, of one worker more than of the other; those that come make it good.

    The 400 that come are more than the workers lack. Each goes to the one with the fewest, so that in the end no two
    differ by more than one. One of each stays, to tell when its worker has noticed the end of the others.
    """
    dice = random.Random(1)
    with Program(tmp_path, loops=LOOPS, balance="least-connections", threads=threads) as program:
        program.ready()
        kept = []
        for _ in range(MANY // 400):
            for _ in range(400 // ROUND):
                clients = [Client(program.addresses[0]) for _ in range(ROUND)]
                kept += [client.arrive() for client in clients]
            counts = collections.Counter(client.index for client in kept)
            assert sorted(counts) == list(range(LOOPS))
            assert max(counts.values()) - min(counts.values()) <= 1, counts
            unlucky = dice.randrange(LOOPS)
            first = {client.index: client for client in reversed(kept)}
            stay = [client for client in kept if client.index != unlucky and dice.random() < 0.2 * client.index]
            stay += set(first.values()) - set(stay)
            for client in set(kept) - set(stay):
                client.close()
            for client in first.values():
                client.notice()
            kept = stay
        for client in kept:
            client.close()


def test_the_next_worker_makes_up_for_the_one_before(tmp_path, threads):
    """With least-connections: it begins with none, and has what comes until it has as many as the others."""
    with Program(tmp_path, loops=LOOPS, balance="least-connections", threads=threads) as program:
        program.ready()
        clients = [program.client() for _ in range(10 * LOOPS)]
        last = clients[-1].index
        clients[-1].sock.sendall(b"exit")
        assert {client.rest() for client in clients if client.index == last} == {0}
        clients = [client for client in clients if client.index != last]
        assert program.next_worker()["index"] == last
        while clients[-1].index != last:  # until the parent knows that it is ready
            clients.append(program.client())
        counts = collections.Counter(client.index for client in clients)
        most = max(counts.values())
        counts.update(program.client().index for _ in range(LOOPS * most - len(clients)))
        assert counts == dict.fromkeys(range(LOOPS), most)
