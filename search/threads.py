"""Work that is spread over the processors while numpy has released the interpreter's lock."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Task = TypeVar("Task")


def in_threads(work: Callable[[Iterator[Task]], None], tasks: Sequence[Task]) -> None:
    """Run `work` on every processor at once; all share one iterator over the tasks."""
    shared = iter(list(tasks))  # that of a list: its next() is atomic
    threads = min(os.cpu_count() or 1, len(tasks))
    if threads < 2:
        work(shared)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, shared) for _ in range(threads)]:
            done.result()
