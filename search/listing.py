"""Lists of samples: the failures, or all, filtered, sorted and cut to a limit."""

# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from indexer.errors import FilterError, SettingError
from indexer.schema import ID, METADATA_PREFIX
from indexer.store import Store

from .neighbours import SearchSettings, parsed
from .predicates import Filter, columns, suggest
from .results import Sample, samples_from_arrow, samples_to_html
from .snapshot import Among, snapshot

if TYPE_CHECKING:
    import pandas as pd

_HTML_ROWS = 50


@dataclass(frozen=True, eq=False)
class Listing:
    """Samples in the order asked for; a table, so that a million of them stay cheap.

    Attributes:
        table: light columns of the samples table.
        total: how many samples passed the filters, before the limit.
    """

    table: pa.Table
    total: int

    def __post_init__(self) -> None:
        if len(self.table) > self.total:
            raise ValueError(f"{len(self.table)} of {self.total} samples listed")

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[Sample]:
        for batch in self.table.to_batches(max_chunksize=1024):
            yield from samples_from_arrow(pa.Table.from_batches([batch]))

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """All listed samples as records."""
        return tuple(self)

    def to_arrow(self) -> pa.Table:
        """Return the light columns of the listed samples."""
        return self.table

    def to_pandas(self) -> "pd.DataFrame":
        """Return `to_arrow` as a data frame; needs pandas."""
        return self.table.to_pandas()

    def to_json(self) -> dict[str, Any]:
        """Return {failures: [sample, ...], total}."""
        return {"failures": [sample.to_json() for sample in self], "total": self.total}

    def _repr_html_(self) -> str:
        return samples_to_html(samples_from_arrow(self.table.slice(0, _HTML_ROWS)), self.total)


def list_samples(
    store: Store,
    *,
    filters: Sequence[Filter | str] = (),
    sort: str = "-loss",
    limit: int | None = None,
    among: Among = "failures",
    members: Sequence[str] | None = None,
) -> Listing:
    """Return the failures of an index (or all samples).

    Args:
        store: the index.
        filters: expressions or parsed filters, evaluated in the database; all must hold.
        sort: name of a column, with a leading "-" for descending; ties are ordered by id.
        limit: most samples to return; None for all.
        among: "failures" or "all".
        members: ids that samples must be among, of a mode for example; None for any.

    Raises:
        FilterError: a filter does not parse, or there is no such column to sort by.
        SettingError: the limit is negative.
    """
    if limit is not None and limit < 0:
        raise SettingError(f"limit={limit} must not be negative")
    version = snapshot(store)
    settings = SearchSettings(among=among, filters=tuple(filters))
    key, order = _sort_key(sort, version.samples.schema)
    positions = version.matching(among, parsed(version, settings))
    table = version.samples if positions is None else version.sample_table(positions)
    if members is not None:
        table = table.filter(pc.is_in(table[ID], pa.array(members, pa.string())))
    keys = [(key, order), (ID, "ascending")] if key != ID else [(ID, order)]
    chosen = pc.sort_indices(table, keys)[:limit]
    return Listing(table.take(chosen), len(table))


def _sort_key(sort: str, schema: pa.Schema) -> tuple[str, str]:
    name = sort.removeprefix("-")
    known = columns(schema)
    column = name if name in schema.names else METADATA_PREFIX + name
    if column not in schema.names or pa.types.is_nested(schema.field(column).type):
        raise FilterError(f"cannot sort by {name!r}{suggest(name, known)}")
    return column, "descending" if sort.startswith("-") else "ascending"
