"""The half of the one pair written twice that does not run in the compiled build."""

import importlib.util
from pathlib import Path

from epoll_loop.core import syscalls

SOURCE = Path(syscalls.__file__).with_name("syscalls.py")


def pure_half():
    spec = importlib.util.spec_from_file_location("pure_syscalls", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
