"""Which of the back ends runs: the best that is there, or the one that the environment asks for."""

import os
import select
import subprocess
import sys

import pytest

CHOSEN = "from epoll_loop import Loop; loop = Loop(); print(type(loop._poller).__name__); loop.close()"


def chosen(program=CHOSEN, **environment):
    env = {key: value for key, value in os.environ.items() if key != "EPOLL_LOOP_POLLER"}
    return subprocess.run([sys.executable, "-c", program], env=env | environment, capture_output=True, text=True)


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="this is for Linux")
def test_the_environment_chooses():
    assert chosen().stdout.strip() == "Epoll"
    assert chosen(EPOLL_LOOP_POLLER="epoll").stdout.strip() == "Epoll"
    assert chosen(EPOLL_LOOP_POLLER="poll").stdout.strip() == "Level"
    assert chosen(EPOLL_LOOP_POLLER="select").stdout.strip() == "Level"
    wrong = chosen(EPOLL_LOOP_POLLER="fast")
    assert "EPOLL_LOOP_POLLER is 'fast'; it can be 'epoll' or 'kqueue' or 'poll' or 'select'" in wrong.stderr


@pytest.mark.skipif(hasattr(select, "kqueue"), reason="there is one")
def test_a_back_end_that_is_not_there():
    missing = chosen(EPOLL_LOOP_POLLER="kqueue")
    assert "RuntimeError: EPOLL_LOOP_POLLER=kqueue, but this platform has no select.kqueue()" in missing.stderr


@pytest.mark.parametrize(("without", "name"), [(["epoll"], "Level"), (["epoll", "poll"], "Level")])
def test_the_best_that_is_there(without, name):
    program = f"import select\nfor name in {without}: delattr(select, name)\n{CHOSEN}"
    assert chosen(program).stdout.strip() == name
