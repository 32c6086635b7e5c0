"""Approximate search: a one-bit index proposes candidates, exact cosines rank them.

The index (IVF_RQ: RaBitQ codes, one bit a filter) estimates every cosine. All its partitions are
probed, so the only thing that can go wrong is an estimate: a true neighbour whose estimate falls
below that of the last candidate. How far estimates are off is measured after each build on
failures; an answer counts as *complete* where the worst neighbour lies above everything that an
unseen sample could reach under that bound. The bound is an estimate from a sample, taken when the
index was built, and no proof: a query unlike those failures may have larger errors.
"""

# pyright: reportAttributeAccessIssue=false

import json
import math
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from indexer.durability import replace_file
from indexer.errors import SettingError, StoreError
from indexer.nearest import NearestRows
from indexer.progress import Progress, Tracker, silent
from indexer.schema import ANN_REPORT, ID, METRIC, PROFILE, SAMPLES
from indexer.store import Store

from . import topk
from .arrow import numbers
from .cosine import Asked, Hits, exact_search, rank_all
from .predicates import FAILURES, to_sql
from .snapshot import Among, Snapshot, snapshot

if TYPE_CHECKING:
    from indexer.store import Table

RECALL_AT = 10
CANDIDATES = 10
"""Candidates re-ranked per neighbour asked for."""

_LEAST_CANDIDATES = 100
_ROWS_A_PARTITION = 4096
_SAMPLED_QUERIES = 100
_SAMPLED_PAIRS = 500
_DOUBT = 1e-6
"""Probability that some sample exceeds the bound, if errors were Gaussian as those measured."""


@dataclass(frozen=True)
class AnnReport:
    """What was measured after a build.

    Attributes:
        index: unique id of the index in the database.
        rows: samples indexed; they are the first rows of the table.
        partitions: partitions of the index, all of which are probed.
        seconds: time of the build.
        bytes: size of the index.
        queries: failures that recall was measured on.
        recall: share of the true 10 nearest failures that approximate search returns.
        complete: share of these answers that count as complete by the bound.
        scale: estimated cosine = 1 - scale * distance given by the index.
        bound: how far true cosines are taken to exceed their estimates: measured, not proven.
        exact_ms: median time of an exact search, by "failures" and "all".
        ann_ms: median time of an approximate search, by "failures" and "all".
    """

    index: str
    rows: int
    partitions: int
    seconds: float
    bytes: int
    queries: int
    recall: float
    complete: float
    scale: float
    bound: float
    exact_ms: dict[str, float]
    ann_ms: dict[str, float]

    def __post_init__(self) -> None:
        if not 0 <= self.recall <= 1 or self.bound < 0 or self.scale <= 0:
            raise ValueError(f"recall {self.recall}, bound {self.bound}, scale {self.scale}")


@dataclass(frozen=True, eq=False)
class Approximate:
    """An approximate answer: hits with exact scores, and their margin over unseen samples.

    `margin` is the score of the worst neighbour less the highest score that an unseen sample can
    have under the measured bound; -inf where fewer than k were found among more samples.
    """

    hits: Hits
    margin: float

    @property
    def complete(self) -> bool:
        """Whether, by the measured bound, no unseen sample belongs among the hits."""
        return self.margin > 0


class AnnIndex:
    """The index of a snapshot, ready to search.

    Raises:
        StoreError: the samples of the snapshot changed, so that the index cannot be read with it.
    """

    def __init__(self, version: Snapshot, report: AnnReport) -> None:
        self.report = report
        self._version = version
        self._nearest = NearestRows(version.store.path, SAMPLES, version.version)
        # What the index finds it names by row ids: their positions spare a look-up by id.
        table = version.store.table_at(SAMPLES, version.version)
        known = table.search().select([ID]).with_row_id(True).to_arrow()
        if not known[ID].equals(version.samples[ID]):
            raise StoreError(f"samples of {version.store.path} change while they are read")
        rows = numbers(known["_rowid"], np.uint64)
        self._order = np.argsort(rows)
        self._rows = rows[self._order]

    def search(
        self,
        query: np.ndarray,
        k: int,
        *,
        where: str | None = None,
        among: np.ndarray | None = None,
        exclude: np.ndarray | None = None,
    ) -> Approximate:
        """Return approximate neighbours with exact scores.

        Args:
            query: profile, float32 [F], not zero.
            k: neighbours.
            where: SQL of the samples to search, built by `search.predicates`.
            among: positions of the same samples; None for all.
            exclude: positions not to return.
        """
        banned = np.empty(0, np.int64) if exclude is None else exclude
        wanted = max(CANDIDATES * (k + len(banned)), _LEAST_CANDIDATES)
        found, estimates = self.candidates(query, wanted, where)
        fresh = np.arange(self.report.rows, len(self._version))
        if among is not None and len(fresh):
            fresh = np.intersect1d(fresh, among, assume_unique=True)
        profiles = self._version.profiles()
        if len(fresh):
            every = np.union1d(found, fresh)
            (hits,) = exact_search(profiles, query[None], k, among=every, exclude=[banned])
        else:
            keys = topk.pack(estimates + np.float32(self.report.bound), found)
            (hits,) = rank_all(profiles, Asked.of(query[None], k, [banned]), keys[None])
        if len(found) < wanted:  # the index had no more to offer
            return Approximate(hits, math.inf)
        if len(hits.scores) < k:
            return Approximate(hits, -math.inf)
        ceiling = float(estimates.min()) + self.report.bound
        return Approximate(hits, float(hits.scores[-1]) - ceiling)

    def candidates(
        self, query: np.ndarray, count: int, where: str | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best candidates among indexed rows that match.

        Args:
            query: profile, float32 [F].
            count: how many.
            where: SQL of the samples to search.

        Returns:
            (positions int64 [n], estimated cosines float32 [n]), n at most `count`.
        """
        found = self._nearest.find(query, count, self.report.partitions, where)
        distances = numbers(found["_distance"], np.float32)
        rows = np.searchsorted(self._rows, numbers(found["_rowid"], np.uint64))
        return self._order[rows], 1 - self.report.scale * distances


def open_ann(version: Snapshot) -> AnnIndex | None:
    """Return the index of a snapshot; None where there is none that fits its rows.

    The database is asked for its index: one of another metric, or one that lost track of rows
    that were deleted or rewritten, is not used.
    """
    report = read_report(version.store)
    if report is None or report.rows > len(version):
        return None
    if version.ann is None or version.ann.report != report:
        found = _find_index(version.store.table_at(SAMPLES, version.version))
        if found is None or found[0] != report.index or found[1] != report.rows:
            return None
        version.ann = AnnIndex(version, report)
    return version.ann


def read_report(store: Store) -> AnnReport | None:
    """Return what was measured after the last build; None without one."""
    try:
        document = json.loads((store.path / ANN_REPORT).read_text(encoding="utf-8"))
        return AnnReport(**document)
    except (OSError, ValueError, TypeError):
        return None


def build_ann(
    store: Store, *, partitions: int | None = None, progress: Progress = silent
) -> AnnReport:
    """Build the index over all samples and measure it on failures.

    Args:
        store: the index to build for.
        partitions: of the index; None for one per 4,096 samples.
        progress: shows the rows indexed, all at once since the database says nothing on the way,
            and then the failures that were searched for.

    Raises:
        SettingError: too few samples or partitions.
        LockedError: another process is writing.
    """
    total = store.count()
    if total < 2:
        raise SettingError(f"{total} samples are too few to search approximately: index more")
    if partitions is None:
        partitions = max(1, total // _ROWS_A_PARTITION)
    if not 1 <= partitions <= total:
        raise SettingError(f"partitions={partitions}: give between 1 and {total}, one a sample")
    started = time.perf_counter()
    with progress("Building the approximate index", total, 0) as tracker:
        store.index_profiles(partitions)
        tracker.advance(total)
    seconds = time.perf_counter() - started
    found = _find_index(store.table(SAMPLES))
    if found is None:
        raise StoreError(f"the database did not keep the index of {store.path}")
    report = _measured(store, found, partitions, seconds, progress)
    with store.writer(), replace_file(store.path / ANN_REPORT) as file:
        file.write(json.dumps(asdict(report), indent=1).encode())
    return report


def _find_index(table: "Table") -> tuple[str, int, int] | None:
    """Return (unique id, indexed rows, bytes) of the index on profiles under our metric."""
    for index in table.list_indices():
        details = index.index_details or {}
        if index.columns == [PROFILE] and details.get("metric_type", "").lower() == METRIC:
            return str(index.index_uuid), index.num_indexed_rows or 0, index.size_bytes or 0
    return None


def _measured(
    store: Store,
    found: tuple[str, int, int],
    partitions: int,
    seconds: float,
    progress: Progress,
) -> AnnReport:
    version = snapshot(store)
    blank = AnnReport(
        index=found[0], rows=found[1], partitions=partitions, seconds=seconds, bytes=found[2],
        queries=0, recall=0, complete=0, scale=0.5, bound=0, exact_ms={}, ann_ms={},
    )  # fmt: skip
    pool = version.failures if len(version.failures) else np.arange(len(version))
    step = max(1, len(pool) // _SAMPLED_QUERIES)
    chosen = pool[::step][:_SAMPLED_QUERIES]
    index = AnnIndex(version, blank)
    with progress("Measuring the approximate index", 2 * len(chosen), 0) as tracker:
        scale, bound = _calibrate(version, index, chosen, tracker)
        index.report = replace(blank, scale=scale, bound=bound)
        index.report = replace(index.report, **_compare(version, index, chosen, tracker))
    version.ann = index  # opened again, the database would hold it in memory twice
    return index.report


def _calibrate(
    version: Snapshot, index: AnnIndex, chosen: np.ndarray, tracker: Tracker
) -> tuple[float, float]:
    """Return the scale of the index's distances and the bound on what they hide.

    The bound is where a Gaussian of the observed errors leaves `_DOUBT` for all N samples
    together, and never below the largest error seen.
    """
    raw, true = [], []
    for position in chosen:
        query = version.column.rows(position[None])[0]
        rows, estimates = index.candidates(query, _SAMPLED_PAIRS)
        lengths = version.norms[rows] * version.norms[position]
        with np.errstate(invalid="ignore", divide="ignore"):
            true.append(1 - np.vecdot(version.column.rows(rows), query) / lengths)
        raw.append((1 - estimates) / index.report.scale)
        raw[-1], true[-1] = raw[-1][rows != position], true[-1][rows != position]
        tracker.advance(1)
    given, distance = np.concatenate(raw), np.concatenate(true)
    present = np.isfinite(given) & np.isfinite(distance)
    given, distance = given[present].astype(np.float64), distance[present].astype(np.float64)
    if not len(given) or given @ given == 0:
        return index.report.scale, 2.0  # nothing to learn from: no answer counts as complete
    scale = float(given @ distance / (given @ given))
    hidden = scale * given - distance  # true cosine less estimated cosine
    width = math.sqrt(2 * math.log(len(version) / _DOUBT))
    return scale, float(max(hidden.mean() + width * hidden.std(), hidden.max(), 0))


def _compare(
    version: Snapshot, index: AnnIndex, chosen: np.ndarray, tracker: Tracker
) -> dict[str, Any]:
    """Return recall on failures, share of complete answers, and times of both paths."""
    version.coarse(make=True)
    both: tuple[Among, ...] = ("failures", "all")
    times: dict[str, dict[str, list[float]]] = {
        path: {among: [] for among in both} for path in ("exact_ms", "ann_ms")
    }
    shared, complete = [], []
    for position in chosen:
        query, itself = version.column.rows(position[None]), position[None]
        for among in both:
            positions = version.matching(among)
            where = to_sql([FAILURES]) if among == "failures" else None
            profiles = version.profiles(positions)
            at = time.perf_counter()
            (exact,) = exact_search(profiles, query, RECALL_AT, among=positions, exclude=[itself])
            between = time.perf_counter()
            found = index.search(query[0], RECALL_AT, where=where, among=positions, exclude=itself)
            times["ann_ms"][among].append(1e3 * (time.perf_counter() - between))
            times["exact_ms"][among].append(1e3 * (between - at))
            if among == "failures":
                hit = np.isin(exact.positions, found.hits.positions)
                shared.append(hit.mean() if len(hit) else 1.0)
                complete.append(found.complete)
        tracker.advance(1)
    return {
        "queries": len(chosen),
        "recall": float(np.mean(shared)),
        "complete": float(np.mean(complete)),
        **{path: {a: float(np.median(t)) for a, t in by.items()} for path, by in times.items()},
    }
