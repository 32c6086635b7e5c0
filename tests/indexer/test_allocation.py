"""Keeping freed memory: fewer page faults, and nothing kept afterwards."""

import platform
import resource
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from indexer.allocation import kept_memory

glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own setting")
BYTES = 64 * 2**20


def faults_of_a_block() -> int:
    """Return the page faults of using and freeing a block that glibc would map by itself."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(BYTES, np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def measure() -> tuple[int, int, int, int]:
    """Return the faults of a block outside and inside, and the bytes resident inside and after."""
    outside = min(faults_of_a_block() for _ in range(3))
    with kept_memory():
        faults_of_a_block()
        inside = min(faults_of_a_block() for _ in range(3))
        held = resident()
    return outside, inside, held, resident()


@glibc_only
def test_a_freed_block_is_used_again_inside_and_given_back_at_the_end() -> None:
    # In a process of its own: what earlier tests have freed could hold the block.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        outside, inside, held, left = pool.submit(measure).result()
    assert outside > 10
    assert inside < 5
    assert left < held - BYTES // 2


def test_an_error_passes() -> None:
    with pytest.raises(ZeroDivisionError), kept_memory():
        raise ZeroDivisionError
