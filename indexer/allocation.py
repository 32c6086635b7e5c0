"""Keep the memory that one batch frees for the next.

A batch allocates and frees the same hundreds of megabytes of activations as the one before. glibc
gives freed memory back to the system, so that every batch faults its pages in again, zeroed.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt(3), from malloc.h
LARGEST_DYNAMIC = 32 * 2**20
"""Block size up to which glibc itself would have learned to keep memory (mallopt(3))."""

KEEP = 2**30
"""Free bytes, and size of a block, up to which memory is kept."""


@contextmanager
def kept_memory() -> Iterator[None]:
    """Let freed memory stay with the process inside the block; at its end give it back.

    Does nothing where the C library is not glibc.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        yield
        return
    libc.mallopt(MMAP_THRESHOLD, KEEP)
    libc.mallopt(TRIM_THRESHOLD, KEEP)
    try:
        yield
    finally:
        libc.mallopt(MMAP_THRESHOLD, LARGEST_DYNAMIC)
        libc.mallopt(TRIM_THRESHOLD, 2 * LARGEST_DYNAMIC)
        libc.malloc_trim(0)
