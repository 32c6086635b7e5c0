"""From the light columns of a table (all but the images) to the rows of a data set."""

import datetime
from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.types as pat

from ..errors import DataError
from ..schema import METADATA_PREFIX
from .base import DatasetOptions, RowIndex
from .labels import parse_labels
from .naming import column_names

ID = "id"


def build_row_index(
    table: pa.Table,
    options: DatasetOptions,
    *,
    paths: Sequence[str | None],
    class_names: Sequence[str] | None,
    positional: bool,
    source: str,
    left_out: Sequence[str] = (),
    classes: Collection[str] = (),
) -> RowIndex:
    """Return the rows of a table.

    Args:
        table: N rows of all columns but the images.
        options: names of the columns.
        paths: N image paths, None where a row has none.
        class_names: the data set's own list of classes, where its schema holds one.
        positional: references are row numbers; otherwise they are the paths.
        source: what the table was read from, for messages.
        left_out: columns of the source that the table is without.
        classes: labels that are class names as they are written, even blank ones.

    Raises:
        DataError: the table has no rows, or lacks a column that was asked for.
    """
    if not table.num_rows:
        raise DataError(f"{source} has no rows")
    require_column(table.column_names, options.label_column, "--label-column", source)
    labels = parse_labels(table[options.label_column].to_pylist(), class_names, classes)
    ids, errors = _ids(table, options, paths, positional=positional, source=source)
    if positional:
        refs = [str(row) for row in range(table.num_rows)]
    else:
        refs = [path or "" for path in paths]
        errors.update({row: "no path" for row, path in enumerate(paths) if not path})
    used = {options.label_column, options.id_column or ID}
    if ids == list(paths) or not positional:
        used.add(options.path_column)
    metadata, unfit = _metadata(table, used)
    return RowIndex.build(ids, refs, labels, metadata, errors, [*unfit, *left_out])


def require_column(names: Sequence[str], column: str, option: str, source: str) -> None:
    """Raise DataError naming the columns there are, where one is missing or ambiguous."""
    if column not in names:
        raise DataError(
            f"{source} has no column {column!r} ({option}): its columns are {', '.join(names)}"
        )
    if names.count(column) > 1:
        raise DataError(f"{source} has several columns {column!r} ({option}): rename all but one")


def _ids(
    table: pa.Table,
    options: DatasetOptions,
    paths: Sequence[str | None],
    *,
    positional: bool,
    source: str,
) -> tuple[list[str], dict[int, str]]:
    """Return the ids: the column asked for, else `id`, else the path, else the row number."""
    column = options.id_column or ID
    if options.id_column is not None or column in table.column_names:
        require_column(table.column_names, column, "--id-column", source)
        values = [None if v is None else str(v) for v in table[column].to_pylist()]
        missing = {row: "no id" for row, value in enumerate(values) if not value}
        return [value or f"row {row}" for row, value in enumerate(values)], missing
    # Embedded images often carry only a base name, which need not be unique.
    if not positional or len({path for path in paths if path}) == len(paths):
        return [path or f"row {row}" for row, path in enumerate(paths)], {}
    return [str(row) for row in range(len(paths))], {}


def _metadata(table: pa.Table, used: set[str]) -> tuple[pa.Table, list[str]]:
    """Return the scalar columns not used otherwise, under SQL-safe names with the prefix.

    Nested and binary columns are left out and named: no filter can use them.
    """
    kept: list[tuple[str, pa.ChunkedArray]] = []
    unfit = []
    # Not by name: a table may have several columns of one, or of none, as spreadsheets write them.
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name in used:
            continue
        if (storable := _storable(column)) is None:
            unfit.append(name)
        else:
            kept.append((name, storable))
    if not kept:
        return table.select([]).replace_schema_metadata(), unfit
    names, columns = zip(*kept, strict=True)
    return pa.table(dict(zip(column_names(names, METADATA_PREFIX), columns, strict=True))), unfit


def _storable(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    kind = column.type
    if pat.is_dictionary(kind):
        return _storable(column.cast(kind.value_type))
    if pat.is_null(kind) or pat.is_large_string(kind) or pat.is_string_view(kind):
        return column.cast(pa.string())
    if pat.is_decimal(kind) or pat.is_float16(kind):
        return column.cast(pa.float64())
    if pat.is_time(kind) or pat.is_duration(kind):
        return pa.chunked_array([[_text(value) for value in column.to_pylist()]], pa.string())
    scalar = pat.is_boolean(kind) or pat.is_integer(kind) or pat.is_floating(kind)
    return column if scalar or pat.is_string(kind) or pat.is_temporal(kind) else None


def _text(value: datetime.time | datetime.timedelta | None) -> str | None:
    return None if value is None else str(value)
