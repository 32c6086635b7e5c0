"""What pages list: one version of the samples, filtered, sorted and counted in memory.

A page must answer in milliseconds, so filters and sorts of the gallery run here on Arrow columns.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes its compute functions at import, where no type checker sees them)

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.errors import FilterError
from indexer.schema import ID
from indexer.store import Store
from search.arrow import integers, marked, numbers, strings
from search.confusion import ConfusionMatrix
from search.predicates import Filter, columns, mask
from search.results import plain
from search.snapshot import snapshot


@dataclass(frozen=True)
class Page:
    """One page of a gallery: samples as dictionaries, and where it stands among `total`."""

    samples: list[dict[str, Any]]
    total: int
    number: int
    size: int

    @property
    def last(self) -> int:
        """Number of the last page, counted from 1."""
        return max(1, -(-self.total // self.size))


class Gallery:
    """The samples at one version, as pages show them.

    Attributes:
        version: of the samples table.
        rows: positions, profiles and columns, shared with searches.
        table: the light columns.
        classes: class names by model output.
    """

    def __init__(self, store: Store) -> None:
        self.version = store.version
        self.rows = snapshot(store)
        self.table = self.rows.samples
        self.classes = store.manifest.classes

    @cached_property
    def names(self) -> list[str]:
        """Columns that filters and sorts may use."""
        return columns(self.table.schema)

    def samples(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return samples in the order asked, JSON-ready; raises UnknownSampleError."""
        return plain(self.rows.sample_table(self.rows.positions(ids)).to_pylist())

    def sample(self, sample: str) -> dict[str, Any]:
        """Return one sample with its most probable classes by name; raises UnknownSampleError."""
        (found,) = self.samples([sample])
        top = zip(found["top_classes"], found["top_probabilities"], strict=True)
        found["top"] = [{"name": self.classes[c], "probability": p} for c, p in top]
        return found

    def page(
        self,
        filters: Sequence[Filter],
        *,
        ids: Sequence[str] | None = None,
        sort: str = "-loss",
        number: int = 1,
        size: int = 60,
    ) -> Page:
        """Return one page of the samples that match.

        Args:
            filters: all must hold.
            ids: look only among these, for example the members of a mode.
            sort: name of a column; a leading minus sorts descending.
            number: page, counted from 1; beyond the last, the last.
            size: samples a page.
        """
        rows = self.matching(filters, ids)
        rows = rows[self._order(rows, sort)]
        last = max(1, -(-len(rows) // size))
        number = min(max(number, 1), last)
        shown = rows[(number - 1) * size : number * size]
        samples = plain(self.rows.sample_table(shown).to_pylist())
        return Page(samples, len(rows), number, size)

    def listing(
        self, filters: Sequence[Filter], *, ids: Sequence[str] | None = None, sort: str = "-loss"
    ) -> pa.Table:
        """Return all samples that match as a table, in the order asked."""
        rows = self.matching(filters, ids)
        return self.rows.sample_table(rows[self._order(rows, sort)])

    def matching(self, filters: Sequence[Filter], ids: Sequence[str] | None = None) -> np.ndarray:
        """Return the row numbers of the samples that match, ascending, int64."""
        held = [mask(filters, self.table)] if filters else []
        if ids is not None:
            held.append(pc.is_in(self.table[ID], value_set=strings(ids)))
        return marked(reduce(pc.and_, held)) if held else np.arange(len(self.table))

    def _order(self, rows: np.ndarray, sort: str) -> np.ndarray:
        name = sort.removeprefix("-")
        column = next((c for c in (name, f"meta_{name}") if c in self.table.schema.names), None)
        if column is None or pa.types.is_nested(self.table.schema.field(column).type):
            raise FilterError(f"cannot sort by {name!r}: choose from {', '.join(self.names)}")
        direction = "descending" if sort.startswith("-") else "ascending"
        # A table cannot hold a column twice: ids are their own tie-break.
        keys = [(column, direction)] + ([(ID, "ascending")] if column != ID else [])
        table = self.table.select([key for key, _ in keys]).take(integers(rows))
        return numbers(pc.sort_indices(table, keys), np.uint64).astype(np.int64)

    @cached_property
    def confusion(self) -> ConfusionMatrix:
        """Counts by label and prediction."""
        return ConfusionMatrix.of(self.table, self.classes)

    @property
    def failures(self) -> int:
        """Number of misclassified samples."""
        return self.confusion.failures
