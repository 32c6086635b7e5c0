"""A batch in parts, each on a thread of its own.

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

ENOUGH, ENOUGH_PACKED = 400, 1000
"""How often a part has to use each weight, on average, also where kernels pack the weights. With
less work, it shows that every part packs them for itself and fills the shared cache with them."""

_Result = TypeVar("_Result")


def part_count(images: Tensor, reuse: float, packed: bool) -> int:
    """Return in how many parts a batch is computed fastest: 1 or the number of PyTorch's threads.

    Args:
        images: [B, ...].
        reuse: how often the forward pass of one image uses each weight, on average.
        packed: whether kernels pack the weights.
    """
    threads = torch.get_num_threads()
    pays = len(images) // threads * reuse >= (ENOUGH_PACKED if packed else ENOUGH)
    return threads if images.device.type == "cpu" and pays else 1


def in_parts(
    compute: Callable[[Tensor, Tensor], _Result], images: Tensor, labels: Tensor, count: int
) -> list[_Result]:
    """Compute the parts of a batch at the same time, with one thread of PyTorch's each.

    Args:
        compute: takes images and labels of a part; runs on several threads at once if `count` > 1.
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
    futures = [_workers(count).submit(compute, *part) for part in split]
    try:
        return [future.result() for future in futures]
    finally:
        wait(futures)


@cache
def _workers(count: int) -> ThreadPoolExecutor:
    """Return threads whose PyTorch operations run on them alone."""
    threads = torch.get_num_threads()
    started = Barrier(count + 1)
    pool = ThreadPoolExecutor(count, "profile-part", _work_alone)
    for _ in range(count):
        pool.submit(started.wait)
    started.wait()
    # The number is each thread's own, but it is also what threads that start later begin with.
    torch.set_num_threads(threads)
    return pool


def _work_alone() -> None:
    # Asked first, since the first question of a thread takes over the number of the process.
    torch.get_num_threads()
    torch.set_num_threads(1)
