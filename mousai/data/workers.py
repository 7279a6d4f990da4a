"""Worker processes. Where one dies, only the item it was working on is lost, and nothing waits for it for ever."""

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from mousai.data.locking import GUARD

AHEAD = 8  # items a process that are submitted before their results are needed

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """`jobs` worker processes; with one job the work is done in this process, which needs no start-up."""

    def __init__(self, jobs: int):
        """Raises ValueError where the processes cannot start."""
        self.jobs = jobs
        self.pool = new_pool(jobs) if jobs > 1 else None
        if self.pool is not None:
            check_start(self.pool)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool:
            self.pool.shutdown(cancel_futures=True)  # after an interruption nothing more is begun

    def each(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        dead: Callable[[Item], Result] | None = None,
    ) -> Iterator[tuple[Item, Result]]:
        """(item, function(item)) in order. For an item that kills its process, also when tried alone, `dead(item)`.

        Without `dead` such an item raises ChildProcessError.
        """
        if self.pool is None:
            yield from ((item, function(item)) for item in items)
            return
        waiting: deque[tuple[Item, Future]] = deque()
        for item in items:
            waiting.append((item, self.begun(function, item)))
            if len(waiting) >= AHEAD * self.jobs:
                yield self.finished(function, waiting, dead)
        while waiting:
            yield self.finished(function, waiting, dead)

    def begun(self, function: Callable, item: Any) -> Future:
        """Submit the item; where the pool is broken, a future that raises BrokenProcessPool."""
        try:
            return self.pool.submit(function, item)  # type: ignore[union-attr]
        except BrokenProcessPool as error:
            future: Future = Future()
            future.set_exception(error)
            return future

    def finished(self, function: Callable, waiting: deque, dead: Callable | None) -> tuple[Any, Any]:
        """(item, result) of the first that waits. Where the pool broke, that item is tried alone and the others are
        submitted to a new pool.
        """
        item, future = waiting.popleft()
        try:
            return item, future.result()
        except BrokenProcessPool:
            self.pool = new_pool(self.jobs)
            result = alone(function, item, dead)
            others = [other for other, _ in waiting]
            waiting.clear()
            waiting.extend((other, self.begun(function, other)) for other in others)
            return item, result


def new_pool(jobs: int) -> ProcessPoolExecutor:
    """`jobs` newly spawned processes, which ignore Ctrl-C."""
    return ProcessPoolExecutor(jobs, get_context("spawn"), ignore_interrupt)


def check_start(pool: ProcessPoolExecutor) -> None:
    """Raises ValueError where the processes of a pool die at once, because each runs the user's script again."""
    try:
        pool.submit(int).result()
    except BrokenProcessPool:
        raise ValueError(f"no worker could start, because each runs your script: {GUARD}, or use one job") from None


def ignore_interrupt() -> None:
    """Leave Ctrl-C to the parent process, which then stops the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def alone(function: Callable, item: Any, dead: Callable | None) -> Any:
    """The result of one item from a process of its own; `dead(item)`, or ChildProcessError, where that dies too."""
    with new_pool(1) as pool:
        try:
            return pool.submit(function, item).result()
        except BrokenProcessPool:
            if dead is None:
                mend = "run the same again, with fewer --jobs where memory is short: what is finished is kept"
                raise ChildProcessError(f"a worker process was killed: {mend}") from None
            return dead(item)
