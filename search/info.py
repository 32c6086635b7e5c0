"""How an index will be searched: which path, in what state, at what recall and latency."""

import time
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from indexer.store import Store

from . import cache
from .ann import RECALL_AT, AnnReport, open_ann, read_report
from .cosine import exact_search
from .products import few_products
from .snapshot import PROFILES_FILE, Snapshot, snapshot

SAMPLED_BYTES = 64 * 2**20
"""Bytes of profiles that are multiplied to measure the speed of the exact path."""


@dataclass(frozen=True)
class SearchInfo:
    """The state of searching.

    Attributes:
        path: "exact" or "ann", by "failures" and "all": what a search among them uses in a running
            process.
        expected_ms: how long that takes: measured at the last build of the approximate index, else
            by reading a part of the profiles now.
        ann: "absent", "ready", "stale" (built over other rows: build it again).
        unindexed: samples added after the build, which are searched exactly.
        report: what was measured at that build.
        cache_bytes: size of the derived files beside the table.
        mapped: whether profiles are read where the database wrote them, rather than in a copy.
    """

    path: dict[str, str]
    expected_ms: dict[str, float]
    ann: str
    unindexed: int
    report: AnnReport | None
    cache_bytes: int
    mapped: bool

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)


def search_info(store: Store) -> SearchInfo:
    """Describe how the index is searched now."""
    version = snapshot(store)
    report = read_report(store)
    usable = report if report is not None and open_ann(version) is not None else None
    exact = _measured(version) if usable is None else usable.exact_ms
    times = {among: {"exact": exact[among]} for among in exact}
    if usable is not None:
        times = {among: {**times[among], "ann": usable.ann_ms[among]} for among in times}
    path = {among: min(ways, key=lambda way: ways[way]) for among, ways in times.items()}
    return SearchInfo(
        path=path,
        expected_ms={among: times[among][way] for among, way in path.items()},
        ann="absent" if report is None else "stale" if usable is None else "ready",
        unindexed=0 if usable is None else len(version) - usable.rows,
        report=report,
        cache_bytes=cache.size(store),
        mapped=not (version.folder / PROFILES_FILE).exists(),
    )


def _measured(version: Snapshot) -> dict[str, float]:
    """Return the milliseconds of an exact search, by what it takes to read some of the rows.

    Failures of which there are coarse profiles are searched.
    """
    column, profiles = version.column, version.profiles(version.failures)
    query = np.ones((1, column.width), np.float32)
    found = {}
    for name, positions in (("failures", version.failures), ("all", np.arange(len(version)))):
        some = positions[: column.rows_in(SAMPLED_BYTES)]
        if name == "failures" and profiles.coarse is not None:
            some, first = positions, column.rows(positions[:1])
            search = partial(exact_search, profiles, first, RECALL_AT, among=some)
        else:
            search = partial(few_products, column, some, query)
        times = []
        for _ in range(2):  # the first maps the pages
            started = time.perf_counter()
            search()
            times.append(1e3 * (time.perf_counter() - started))
        found[name] = min(times) * len(positions) / max(len(some), 1)
    return found
