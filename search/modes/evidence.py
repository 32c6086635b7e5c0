"""What grouping and describing need of the store, read in streams.

Profiles are read twice and never held at once beyond `FIT_ROWS` of them: once to fit and fill the
feature space, once to sum up each mode.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from indexer.progress import Progress, silent
from indexer.schema import EMBEDDING, ID, PROFILE

from .. import predicates
from ..arrow import dense
from ..predicates import to_sql
from .representation import Space, fit_space
from .settings import ModeSettings

if TYPE_CHECKING:
    from indexer.store import Store

FAILURES = to_sql([predicates.FAILURES])
"""Predicate of the misclassified samples."""
FIT_ROWS = 4096
"""Failures that the space is fitted on; more are thinned out evenly."""
LIGHT = (ID, "label", "prediction", "label_name", "prediction_name", "label_probability")


@dataclass(frozen=True)
class Evidence:
    """Misclassified samples in the space of the modes.

    Attributes:
        table: columns `LIGHT` of the failures, n rows, sorted by id so that results do not depend
            on the order in which samples were added.
        features: unit features, float32 [n, d].
        space: that they live in; None where nothing failed.
    """

    table: pa.Table
    features: np.ndarray
    space: Space | None

    @property
    def ids(self) -> np.ndarray:
        """Ids of the failures, object [n]."""
        return np.array(self.table[ID].to_pylist(), object)

    def members(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (features, probability of their label) of some failures."""
        return self.features[rows], self.table["label_probability"].to_numpy()[rows]


def gather(store: "Store", settings: ModeSettings, progress: Progress = silent) -> Evidence:
    """Read all failures of an index into the space of the modes.

    Args:
        store: the index.
        settings: of the space; see `fit_space`.
        progress: shows how many failures were read: some to fit the space, then all to fill it.
    """
    table = store.read(LIGHT, FAILURES)
    order = np.argsort(np.array(table[ID].to_pylist(), object), kind="stable")
    table = table.take(order)
    if not table.num_rows:
        return Evidence(table, np.empty((0, 0), np.float32), None)
    every = -(-table.num_rows // FIT_ROWS)
    chosen = table[ID].to_pylist()[::every]
    with progress("Reading failures", len(chosen) + table.num_rows, 0) as tracker:
        fitted = store.take(chosen, _heavy(store)).combine_chunks()
        space = fit_space(*_views(fitted.to_batches()[0]), store.manifest.layout, settings)
        tracker.advance(len(chosen))
        features = np.empty((table.num_rows, space.width), np.float32)
        position = positions(table)
        for ids, block in stream_features(store, FAILURES, space):
            features[[position[i] for i in ids]] = block
            tracker.advance(len(ids))
    return Evidence(table, features, space)


def stream_features(
    store: "Store", where: str | None, space: Space
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yield (ids, unit features float32 [b, d]) of the matching samples in batches."""
    for batch in store.scan([ID, *_heavy(store)], where):
        if batch.num_rows:
            yield batch[ID].to_pylist(), space(*_views(batch))


def stream_profiles(store: "Store", where: str | None) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yield (ids, profiles float32 [b, F]) of the matching samples in batches."""
    for batch in store.scan([ID, PROFILE], where):
        if batch.num_rows:
            yield batch[ID].to_pylist(), dense(batch[PROFILE])


def positions(table: pa.Table) -> dict[str, int]:
    """Return the row of each id."""
    return {sample: row for row, sample in enumerate(table[ID].to_pylist())}


def _heavy(store: "Store") -> list[str]:
    return [PROFILE] if store.manifest.embedding is None else [PROFILE, EMBEDDING]


def _views(batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray | None]:
    """Return (profiles float32 [b, F], embeddings float32 [b, E] or None) of a batch."""
    embedded = EMBEDDING in batch.schema.names
    return dense(batch[PROFILE]), dense(batch[EMBEDDING]) if embedded else None
