"""What the parts of the search benchmark share: queries, their true neighbours, clock, memory."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from indexer.store import Store
from search.cosine import Hits, exact_search
from search.snapshot import Snapshot, snapshot

K = 10
QUERIES = 60
BATCH = 100
MANY = 1487
"""Queries at once, the failures of the set that the target of one second was set on."""

Figures = dict[str, Any]


class Ground:
    """An opened index, its query rows and their exact neighbours among failures."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.version: Snapshot = snapshot(store)
        step = max(1, len(self.version.failures) // QUERIES)
        self.chosen = self.version.failures[::step][:QUERIES]
        self.queries = self.version.column.rows(self.chosen)
        self.truth = [set(hits.positions.tolist()) for hits in self.exact(self.queries)]

    def exact(self, queries: np.ndarray, among: str = "failures") -> list[Hits]:
        """Return hits of our exact path, the queries themselves included."""
        rows = self.version.failures if among == "failures" else None
        profiles = self.version.profiles(rows, many=True)
        return exact_search(profiles, queries, K, among=rows)

    def recall(self, found: list[set[int]]) -> float:
        """Return the mean share of the true neighbours, of as many queries as were searched."""
        pairs = zip(self.truth, found, strict=False)
        return float(np.mean([len(a & b) / K for a, b in pairs]))


def timed(call: Callable[[int], Any], count: int = QUERIES, warm: int = 2) -> Figures:
    """Return p50 and p99 of calls 0 .. count-1 in milliseconds."""
    times = []
    for number in [*range(warm), *range(count)]:
        at = time.perf_counter()
        call(number)
        times.append(1e3 * (time.perf_counter() - at))
    return {
        "p50_ms": float(np.median(times[warm:])),
        "p99_ms": float(np.quantile(times[warm:], 0.99)),
    }


def once(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return (seconds, result) of one call."""
    at = time.perf_counter()
    result = call()
    return time.perf_counter() - at, result


def repeated(call: Callable[[], Any], times: int = 5) -> Figures:
    """Return the median seconds of some calls."""
    return {"seconds": float(np.median([once(call)[0] for _ in range(times)]))}


@contextmanager
def anonymous_peak() -> Iterator[Figures]:
    """Sample the anonymous memory of this process (not its mapped files) inside the block.

    Yields:
        Figures that get `peak_mb`, the most that was seen, when the block ends.
    """
    figures: Figures = {}
    done = threading.Event()
    seen = [_anonymous_mb()]

    def sample() -> None:
        while not done.wait(0.005):
            seen.append(_anonymous_mb())

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield figures
    finally:
        done.set()
        sampler.join()
        figures["peak_mb"] = max(seen)


def _anonymous_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return float("nan")
