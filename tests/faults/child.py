"""Run a program once for each fault, in a process of its own: one JSON line a fault.

    python child.py PROGRAM library     by faults.c, which LD_PRELOAD has put in place
    python child.py PROGRAM injected    by injected.py, in the place of `core/syscalls`

`DEPTH` in the environment is how many of the calls of a name fail, one a run: the first, the second and so on.
"""

import asyncio
import ctypes
import itertools
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import errors
import garbage
from resources import open_fds

if sys.argv[2] == "injected":
    import injected

    injected.inject()
    arm, disarm = injected.arm, injected.disarm
    answers_of = injected.ANSWERS
else:
    library = ctypes.CDLL(None)
    disarm = library.fault_disarm
    answers_of = errors.ANSWERS

    def arm(name: str, number: int, answer: int) -> None:
        library.fault_arm(name.encode(), number, answer)


import programs

import epoll_loop

DEPTH = int(os.environ.get("DEPTH", "1"))


def run(program: programs.Program, call: str, number: int, answer: int) -> dict[str, Any]:
    """What one fault did to a program, and what it left."""
    fds, objects = open_fds(), garbage.ours()
    programs.connections.clear()
    reported: list[dict[str, Any]] = []
    late: list[int] = []

    def calm() -> None:
        late.append(disarm())

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context))
        return await program(calm)

    failure = None
    seen: list[str] = []
    arm(call, number, answer)
    try:
        with asyncio.Runner(loop_factory=epoll_loop.new_event_loop) as runner:
            seen = runner.run(main())
    except BaseException as exc:
        failure = exc
    finally:
        missed = disarm()
    result = {
        "fired": missed < 0 and not any(count >= 0 for count in late),
        "seen": seen,
        "failure": None if failure is None else repr(failure),
        "of the system": isinstance(failure, OSError),
        "reported": [repr(context.get("exception") or context["message"]) for context in reported],
        "unknown": sum(not isinstance(context.get("exception"), OSError) for context in reported),
        "unlost": sum(count != 0 for count in programs.connections.values()),
    }
    del failure
    reported.clear()
    programs.connections.clear()
    garbage.collect()
    result["descriptors"] = sorted(open_fds().items() - fds.items())
    grown = {name: count for name, count in garbage.ours().items() if count > objects.get(name, 0)}
    result["objects"] = grown if garbage.COUNTED else {}  # else the collector decides when
    return result


def main() -> None:
    logging.disable()
    program = programs.PROGRAMS[sys.argv[1]]
    run(program, "", 1, errors.PART)  # what is imported and made once
    for call, answers in answers_of.items():
        for answer, number in itertools.product(answers, range(1, DEPTH + 1)):
            result = run(program, call, number, answer)
            if result.pop("fired"):
                name = errors.name_of(answer)
                transient = answer in errors.TRANSIENT
                print(json.dumps({"call": call, "answer": name, "number": number, "transient": transient, **result}))
            elif number == 1:
                break  # it makes no such call
    os._exit(0)  # a client that still waits has been told of


if __name__ == "__main__":
    main()
