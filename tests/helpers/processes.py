"""The same work in two processes at once."""

import os
from collections.abc import Callable


def in_two_processes(work: Callable[[], object]) -> list[int]:
    """Exit codes of two forks that each call `work`: 0 where nothing was raised. For tests of the tier `system`."""
    children = []
    for _ in range(2):
        if not (child := os.fork()):
            try:
                work()
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
