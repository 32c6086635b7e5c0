"""Work that is spread over the processors while numpy has released the interpreter's lock."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

Task = TypeVar("Task")


def in_threads(work: Callable[[Iterator[Task]], None], tasks: Sequence[Task]) -> None:
    """Run `work` on every processor at once, this thread's included; all share one iterator."""
    shared = iter(list(tasks))  # that of a list: its next() is atomic
    helpers = min(_processors(), len(tasks)) - 1
    started = [_pool(os.getpid()).submit(work, shared) for _ in range(helpers)]
    work(shared)
    for helper in started:
        if not helper.cancel():  # one that has not begun finds nothing left to do
            helper.result()


@cache
def _processors() -> int:
    return os.cpu_count() or 1


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Return helpers that wait for work: starting threads takes longer than some of it.

    Args:
        process: id of this process; one that was forked off has none of the threads.
    """
    del process
    return ThreadPoolExecutor(max(1, _processors() - 1), thread_name_prefix="search")
