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

from .modes import ModeReport, known_modes, read_modes
from .neighbours import SearchSettings, parsed
from .predicates import Filter, columns, suggest
from .results import Sample, samples_from_arrow, samples_to_html
from .snapshot import Among, snapshot

if TYPE_CHECKING:
    import pandas as pd

_HTML_ROWS = 50
_MODE_COLUMNS = ("mode", "mode_name")


@dataclass(frozen=True, eq=False)
class Listing:
    """Samples in the order asked for; a table, so that a million of them stay cheap.

    Attributes:
        table: light columns of the samples table, `mode` and `mode_name`; see `with_modes`.
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
        """Return the light columns of the listed samples, and their modes."""
        return self.table

    def to_pandas(self) -> "pd.DataFrame":
        """Return `to_arrow` as a data frame; needs pandas."""
        return self.table.to_pandas()

    def to_json(self) -> dict[str, Any]:
        """Return {failures: [sample with `mode` and `mode_name`, ...], total}."""
        return {"failures": list(self.documents()), "total": self.total}

    def documents(self) -> Iterator[dict[str, Any]]:
        """Yield the listed samples as JSON-ready dictionaries, each with its mode."""
        modes = (self.table[name].to_pylist() for name in _MODE_COLUMNS)
        for sample, mode, name in zip(self, *modes, strict=True):
            yield {**sample.to_json(), "mode": mode, "mode_name": name}

    def _repr_html_(self) -> str:
        return samples_to_html(samples_from_arrow(self.table.slice(0, _HTML_ROWS)), self.total)


def list_samples(
    store: Store,
    *,
    filters: Sequence[Filter | str] = (),
    sort: str = "-loss",
    limit: int | None = None,
    among: Among = "failures",
    mode: str | None = None,
) -> Listing:
    """Return the failures of an index (or all samples).

    Args:
        store: the index.
        filters: expressions or parsed filters; all must hold.
        sort: name of a column, with a leading "-" for descending; ties are ordered by id.
        limit: most samples to return; None for all.
        among: "failures" or "all".
        mode: id of the failure mode whose members alone are listed; None for any.

    Raises:
        FilterError: a filter does not parse, or there is no such column to sort by.
        SettingError: the limit is negative.
        StoreError: a mode of an index that has none yet.
        UnknownSampleError: there is no such mode.
    """
    if limit is not None and limit < 0:
        raise SettingError(f"limit={limit} must not be negative")
    modes = known_modes(store) if mode is None else read_modes(store)
    version = snapshot(store)
    settings = SearchSettings(among=among, filters=tuple(filters))
    key, order = _sort_key(sort, version.samples.schema)
    positions = version.matching(among, parsed(version, settings))
    table = version.samples if positions is None else version.sample_table(positions)
    if mode is not None and modes is not None:
        members = pa.array(modes.mode(mode).samples, pa.string())
        table = table.filter(pc.is_in(table[ID], members))
    keys = [(key, order), (ID, "ascending")] if key != ID else [(ID, order)]
    chosen = pc.sort_indices(table, keys)[:limit]
    return Listing(with_modes(table.take(chosen), modes), len(table))


def with_modes(table: pa.Table, modes: ModeReport | None) -> pa.Table:
    """Return samples with the id (`mode`) and name (`mode_name`) of their failure mode.

    Args:
        table: samples with at least their ids.
        modes: those of the index; None where they were never looked for.

    Returns:
        the table and two columns more, null for samples in no mode.
    """
    of = {} if modes is None else modes.by_sample()
    found = [of.get(sample) for sample in table[ID].to_pylist()]
    values = ([mode and mode.id for mode in found], [mode and mode.name for mode in found])
    for name, column in zip(_MODE_COLUMNS, values, strict=True):
        table = table.append_column(name, pa.array(column, pa.string()))
    return table


def _sort_key(sort: str, schema: pa.Schema) -> tuple[str, str]:
    name = sort.removeprefix("-")
    known = columns(schema)
    column = name if name in schema.names else METADATA_PREFIX + name
    if column not in schema.names or pa.types.is_nested(schema.field(column).type):
        raise FilterError(f"cannot sort by {name!r}{suggest(name, known)}")
    return column, "descending" if sort.startswith("-") else "ascending"
