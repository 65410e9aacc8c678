"""`python -m epoll_loop -m module args...`, on uvloop."""

import runpy
import sys
import warnings

import epoll_loop

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    epoll_loop.install()
_, _, module, *args = sys.argv
sys.argv[:] = [module, *args]
runpy.run_module(module, run_name="__main__", alter_sys=True)
