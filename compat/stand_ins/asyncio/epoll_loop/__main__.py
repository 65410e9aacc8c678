"""`python -m epoll_loop -m module args...`, on asyncio."""

import runpy
import sys

_, _, module, *args = sys.argv
sys.argv[:] = [module, *args]
runpy.run_module(module, run_name="__main__", alter_sys=True)
