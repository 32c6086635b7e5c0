"""A batch in parts, several at the same time.

Threads that share every operation wait for each other after each of them, and all but one rest
while Python goes from layer to layer. Threads that take a part of the batch through the whole pass
meet once, at its end.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from threading import Barrier
from typing import TypeVar

import torch
from torch import Tensor

ENOUGH, ENOUGH_PACKED = (400, 400), (600, 750)
"""How often a part has to use each weight, on average, where as many parts as run at once take the
batch, and where twice as many do; also where kernels pack the weights. With less work, it shows
that every part packs them for itself and fills the shared cache with them."""
ENOUGH_ALONE = 1500
"""The same for two parts, one after the other where none run at once; that only saves memory."""
MOST_AT_ONCE = 4
"""Python takes all threads from layer to layer in turn, so that many would wait for it."""

_Result = TypeVar("_Result")


def part_count(images: Tensor, reuse: float, packed: bool) -> int:
    """Return in how many parts a batch is computed fastest, twice as many where that costs little.

    A batch in twice as many parts as run at once takes about half the memory.

    Args:
        images: [B, ...].
        reuse: how often the forward pass of one image uses each weight, on average.
        packed: whether kernels pack the weights.
    """
    if images.device.type != "cpu":
        return 1
    workers = _at_once(torch.get_num_threads())
    once, twice = ENOUGH_PACKED if packed else ENOUGH
    if workers == 1:
        once = twice = ENOUGH_ALONE
    uses = {count: len(images) // count * reuse for count in (2 * workers, workers)}
    if uses[2 * workers] >= twice:
        return 2 * workers
    return workers if uses[workers] >= once else 1


def in_parts(
    compute: Callable[[Tensor, Tensor], _Result], images: Tensor, labels: Tensor, count: int
) -> list[_Result]:
    """Compute the parts of a batch, several at the same time where they can share threads.

    Args:
        compute: takes images and labels of a part; runs on several threads at once if there are.
        images: [B, ...].
        labels: [B].
        count: how many parts, 1..B, of sizes that differ by at most one.

    Returns:
        A result for each part, in order.

    Raises:
        Exception: what `compute` raised for the first part that failed, once all have ended.
    """
    if count == 1:
        return [compute(images, labels)]
    split = zip(images.tensor_split(count), labels.tensor_split(count), strict=True)
    if _at_once(torch.get_num_threads()) == 1:
        return [compute(*part) for part in split]
    futures = [_workers(torch.get_num_threads()).submit(compute, *part) for part in split]
    try:
        return [future.result() for future in futures]
    finally:
        wait(futures)


def _at_once(threads: int) -> int:
    """Return how many parts share so many threads evenly."""
    return next(count for count in range(MOST_AT_ONCE, 0, -1) if threads % count == 0)


@cache
def _workers(threads: int) -> ThreadPoolExecutor:
    """Return workers with a share of PyTorch's threads each."""
    count = _at_once(threads)
    started = Barrier(count + 1)
    pool = ThreadPoolExecutor(count, "profile-part", _take_threads, (threads // count,))
    for _ in range(count):
        pool.submit(started.wait)
    started.wait()
    # The number is each thread's own, but it is also what threads that start later begin with.
    torch.set_num_threads(threads)
    return pool


def _take_threads(count: int) -> None:
    # Asked first, since the first question of a thread takes over the number of the process.
    torch.get_num_threads()
    torch.set_num_threads(count)
