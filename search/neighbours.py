"""The nearest neighbours of samples, of several liked samples, or of a new image's profile."""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from indexer.errors import FilterError, SettingError
from indexer.filters import FilterLayout
from indexer.store import Store

from .cosine import Hits, exact_search, query_block, unit_or_nan
from .predicates import FAILURES, Filter, columns, parse_filter, to_sql
from .products import FEW_QUERIES
from .results import CommonFilter, Neighbour, Sample, SearchResult
from .snapshot import Among, Snapshot, snapshot

if TYPE_CHECKING:
    from .ann import AnnIndex

Method = Literal["auto", "exact", "ann"]
SHARED_FILTERS = 5
_OF_A_MODE = re.compile(r"\s*mode\s*[^\w\s]")

LIBRARY_START_MS = 1000.0
"""What the first approximate search of a process pays for loading the database library."""


@dataclass(frozen=True)
class SearchSettings:
    """How to search.

    Attributes:
        k: neighbours a query.
        among: "failures" or "all" samples.
        filters: expressions such as "label=cat", or parsed filters; all must hold.
        shared: filters to name that a neighbour shares with the query.
        thumbnails: read the thumbnails of query and neighbours, for display.
        method: "exact", "ann", or "auto": whichever of the two was measured to be faster when the
            approximate index was built, and exact without one. Batches are always exact.
        exact_if_unsure: search again exactly where the measured error bound does not show an
            approximate answer to be complete.
    """

    k: int = 10
    among: Among = "failures"
    filters: tuple[Filter | str, ...] = ()
    shared: int = SHARED_FILTERS
    thumbnails: bool = False
    method: Method = "auto"
    exact_if_unsure: bool = False

    def __post_init__(self) -> None:
        if self.k < 1:
            raise SettingError(f"k={self.k}: ask for at least one neighbour")
        if self.among not in ("failures", "all"):
            raise SettingError(f"among={self.among!r}: search among 'failures' or 'all'")
        if self.method not in ("auto", "exact", "ann"):
            raise SettingError(f"method={self.method!r}: search 'exact', 'ann' or 'auto'")
        if self.shared < 0:
            raise SettingError(f"shared={self.shared} must not be negative")


DEFAULTS = SearchSettings()


def search(
    store: Store, ids: str | Sequence[str], settings: SearchSettings = DEFAULTS
) -> SearchResult:
    """Return the neighbours of a sample, or of several liked samples together.

    Several samples are searched for by the mean of their profiles, each scaled to length 1. The
    samples themselves are never among the neighbours.

    Raises:
        UnknownSampleError: an id is not in the index.
        FilterError: a filter does not parse.
        SettingError: no id at all.
    """
    names = [ids] if isinstance(ids, str) else list(dict.fromkeys(ids))
    if not names:
        raise SettingError("give at least one sample to search for")
    version = snapshot(store)
    positions = version.positions(names)
    profile = version.column.rows(positions)
    if len(names) > 1:
        profile = np.nan_to_num(unit_or_nan(profile)).mean(0, keepdims=True)
    queries = version.read_samples(positions, thumbnails=settings.thumbnails)
    query = queries[0] if isinstance(ids, str) else queries
    return _search_one(version, profile, query, positions, settings)


def search_profile(
    store: Store, profile: np.ndarray, query: Sample, settings: SearchSettings = DEFAULTS
) -> SearchResult:
    """Return the neighbours of an image that is not in the index.

    Args:
        store: the index.
        profile: standardized profile of the image, float32 [F]
            (`indexer.statistics.standardize` with `store.statistics`).
        query: what is known of the image.
        settings: how to search.

    Raises:
        FilterError: a filter does not parse.
        SettingError: the profile's length is not the index's.
    """
    version = snapshot(store)
    if profile.shape != (version.column.width,):
        raise SettingError(
            f"a profile of shape {profile.shape}: the index has {version.column.width} filters"
        )
    return _search_one(version, profile[None], query, np.empty(0, np.int64), settings)


def find_neighbours(
    store: Store,
    queries: np.ndarray,
    settings: SearchSettings = DEFAULTS,
    exclude: Sequence[Sequence[str]] | None = None,
) -> list[tuple[list[str], np.ndarray]]:
    """Return (ids, cosines float32) of the neighbours of each of many profiles.

    Args:
        store: the index.
        queries: standardized profiles, float32 [q, F].
        settings: how to search; `shared` and `thumbnails` have no effect.
        exclude: ids not to return, per query.
    """
    version = snapshot(store)
    among = version.matching(settings.among, parsed(version, settings))
    step = query_block(version.column)
    found = []
    for first in range(0, len(queries), step):
        part = slice(first, first + step)
        banned = None
        if exclude is not None:
            banned = [version.positions(list(names)) for names in exclude[part]]
        found += _exact(version, queries[part], settings.k, among, banned)
    return [(version.ids(hits.positions), hits.scores) for hits in found]


def search_many(
    store: Store, ids: Iterable[str], settings: SearchSettings = DEFAULTS
) -> Iterator[pa.RecordBatch]:
    """Stream the neighbours of many samples, with memory that does not grow with their number.

    Yields:
        Record batches with the columns `query` (id), `rank` (from 1), `score` and the light
        columns of the neighbour; `pa.Table.from_batches` joins them.

    Raises:
        UnknownSampleError: an id is not in the index.
    """
    version = snapshot(store)
    names = list(ids)
    positions = version.positions(names)
    among = version.matching(settings.among, parsed(version, settings))
    step = query_block(version.column)
    for first in range(0, max(len(names), 1), step):
        chosen = positions[first : first + step]
        profiles = version.column.rows(chosen)
        found = _exact(version, profiles, settings.k, among, [row[None] for row in chosen])
        yield from _batches(version, names[first : first + step], found)


def shared_filters(
    query: np.ndarray, neighbour: np.ndarray, layout: FilterLayout, count: int = SHARED_FILTERS
) -> tuple[CommonFilter, ...]:
    """Return the filters that contribute most to the cosine of two profiles.

    Args:
        query: float32 [F].
        neighbour: float32 [F].
        layout: columns of a profile.
        count: how many to return.

    Returns:
        Greatest part of the cosine first; none where a profile is zero.
    """
    parts = query.astype(np.float64) * neighbour
    lengths = np.linalg.norm(query.astype(np.float64)) * np.linalg.norm(neighbour)
    if lengths == 0:
        return ()
    top = np.argsort(-parts, kind="stable")[:count]
    found = []
    for column in top:
        layer, index = layout.locate(int(column))
        found.append(CommonFilter(layer.name, index, float(parts[column] / lengths)))
    return tuple(found)


def parsed(version: Snapshot, settings: SearchSettings) -> tuple[Filter, ...]:
    """Return the filters of the settings, those given as text parsed against the index."""
    classes = version.store.manifest.classes
    schema = version.samples.schema
    for item in settings.filters:
        if isinstance(item, str) and _OF_A_MODE.match(item) and "mode" not in columns(schema):
            raise FilterError(
                f"no column 'mode' for the filter {item!r}: "
                "`failsearch failures --mode` lists the members of a mode"
            )
    return tuple(
        parse_filter(item, schema, classes) if isinstance(item, str) else item
        for item in settings.filters
    )


def _search_one(
    version: Snapshot,
    profile: np.ndarray,
    query: Sample | tuple[Sample, ...],
    exclude: np.ndarray,
    settings: SearchSettings,
) -> SearchResult:
    filters = parsed(version, settings)
    among = version.matching(settings.among, filters)
    index = _index_to_use(version, settings) if profile.any() else None
    found = None
    if index is not None:
        chosen = [*filters, FAILURES] if settings.among == "failures" else filters
        found = index.search(
            profile[0], settings.k, where=to_sql(chosen), among=among, exclude=exclude
        )
        if settings.exact_if_unsure and not found.complete:
            found = None
    if found is None:
        (hits,) = _exact(version, profile, settings.k, among, [exclude])
    else:
        hits = found.hits
    return SearchResult(
        query,
        _neighbours(version, profile[0], hits, settings),
        among=settings.among,
        filters=tuple(map(str, filters)),
        method="exact" if found is None else "ann",
        complete=found is None or found.complete,
        margin=None if found is None else found.margin,
    )


def _index_to_use(version: Snapshot, settings: SearchSettings) -> "AnnIndex | None":
    """Return the approximate index if this search is to use it.

    Raises:
        SettingError: it was asked for and is not there.
    """
    if settings.method == "exact":
        return None
    from .ann import open_ann, read_report

    report = read_report(version.store)
    if settings.method == "auto":
        start = 0.0 if "lancedb" in sys.modules else LIBRARY_START_MS
        if (
            report is None
            or not report.ann_ms
            or (report.ann_ms[settings.among] + start >= report.exact_ms[settings.among])
        ):
            return None
    index = open_ann(version)
    if index is None and settings.method == "ann":
        raise SettingError(
            f"{version.store.path} has no approximate index of its samples: run "
            "`failsearch build-ann`, or search with another method"
        )
    return index


def _exact(
    version: Snapshot,
    queries: np.ndarray,
    k: int,
    among: np.ndarray | None,
    exclude: Sequence[np.ndarray] | None,
) -> list[Hits]:
    profiles = version.profiles(among, many=len(queries) > FEW_QUERIES)
    return exact_search(profiles, queries, k, among=among, exclude=exclude)


def _neighbours(
    version: Snapshot, profile: np.ndarray, hits: Hits, settings: SearchSettings
) -> tuple[Neighbour, ...]:
    samples = version.read_samples(hits.positions, thumbnails=settings.thumbnails)
    layout = version.store.manifest.layout
    rows = version.column.rows(hits.positions)
    return tuple(
        Neighbour(sample, float(score), shared_filters(profile, row, layout, settings.shared))
        for sample, score, row in zip(samples, hits.scores, rows, strict=True)
    )


def _batches(
    version: Snapshot, names: Sequence[str], found: Sequence[Hits]
) -> Iterator[pa.RecordBatch]:
    counts = [len(hits.positions) for hits in found]
    positions = np.concatenate([np.empty(0, np.int64), *(hits.positions for hits in found)])
    scores = np.concatenate([np.empty(0, np.float32), *(hits.scores for hits in found)])
    ranks = np.concatenate([np.empty(0, np.int32), *(np.arange(n) + 1 for n in counts)])
    table = version.sample_table(positions)
    table = table.add_column(0, "query", pa.array(np.repeat(np.array(names, object), counts)))
    table = table.add_column(1, "rank", pa.array(ranks.astype(np.int32)))
    table = table.add_column(2, "score", pa.array(scores.astype(np.float32)))
    batches = table.combine_chunks().to_batches()
    yield from batches or [pa.RecordBatch.from_pylist([], schema=table.schema)]
