"""Typed filters on samples: applied to a table, or turned into SQL that selects the same rows.

Comparisons are those of Arrow: NaN is neither less nor greater than a number, and -0.0 equals 0.0.
The database is asked only where it has to filter before it searches. It takes raw SQL without
parameters, so no text of a user ever reaches it as it came: a filter is parsed against the table's
schema into a column, an operator and a value of the column's type, and each of the three is
written by its own rule.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes its compute functions at import, where no type checker sees them)

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.errors import FilterError
from indexer.schema import HEAVY, METADATA_PREFIX

from .arrow import strings

_COMPARE = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
OPERATORS = tuple(_COMPARE)

_OPERATOR = re.compile(r"!=|<=|>=|==|=|<|>")
_NAMED = {"label": "label_name", "prediction": "prediction_name"}
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")


@dataclass(frozen=True)
class Filter:
    """One comparison of a column with a value.

    Attributes:
        column: name of the column in the table.
        operator: one of `OPERATORS`. `!=` also holds where the column is empty, so that it is
            the complement of `=`.
        value: bool, int, float, str, date or datetime, as the column's type asks: for times with a
            zone a datetime with a zone, for others one without, which is in UTC.
    """

    column: str
    operator: str
    value: bool | int | float | str | date | datetime

    def __post_init__(self) -> None:
        if self.operator not in OPERATORS:
            raise FilterError(f"unknown operator {self.operator!r}: use {' '.join(OPERATORS)}")

    def __str__(self) -> str:
        value = str(self.value).lower() if isinstance(self.value, bool) else self.value
        return f"{self.column.removeprefix(METADATA_PREFIX)}{self.operator}{value}"

    def mask(self, table: pa.Table) -> pa.ChunkedArray:
        """Return which rows of a table pass, without nulls.

        Raises:
            FilterError: the table has no such column, or it cannot be compared with the value.
        """
        if self.column not in table.schema.names:
            raise FilterError(f"no column {self.column!r} to filter on")
        column, unequal = table[self.column], self.operator == "!="
        try:
            if isinstance(self.value, bool) and self.operator in ("=", "!="):
                held = pc.invert(column) if self.value == unequal else column
            else:
                held = _COMPARE[self.operator](column, _scalar(self.value, column.type))
        except (pa.ArrowInvalid, NotImplementedError, OverflowError) as error:
            raise FilterError(f"{self} cannot be compared: {column.type} values") from error
        # Filling asks for a scalar of pyarrow's own making, which would import pandas.
        return pc.fill_null(held, unequal) if held.null_count else held

    def to_sql(self) -> str:
        """Return the comparison as an SQL expression, true for the rows that `mask` selects."""
        column = _quote_column(self.column)
        comparison = f"{column} {self.operator} {_quote_value(self.value)}"
        if self.operator == "!=":
            return f"({comparison} OR {column} IS NULL)"
        if isinstance(self.value, float) and self.operator != "=":
            return f"{comparison} AND NOT isnan({column})"  # it sorts NaN above all numbers
        return comparison


FAILURES = Filter("correct", "=", False)
"""The misclassified samples."""


def mask(filters: Sequence[Filter], table: pa.Table) -> pa.ChunkedArray:
    """Return which rows of a table pass all of at least one filter; see `Filter.mask`."""
    return reduce(pc.and_, [item.mask(table) for item in filters])


def to_sql(filters: Iterable[Filter]) -> str | None:
    """Return the conjunction of filters as SQL; None where there are none."""
    return " AND ".join(item.to_sql() for item in filters) or None


def parse_filter(text: str, schema: pa.Schema, classes: Sequence[str] = ()) -> Filter:
    """Parse an expression such as `label=cat`, `confidence>0.9` or `weather!=rain`.

    Columns of the data set go by their bare name; `label` and `prediction` take the name of a
    class or, where no class has that name, its number. Everything after the operator is the
    value, without quotes; a time without a zone is in UTC.

    Args:
        text: column, one of = != < <= > >= (== is read as =), value.
        schema: the samples table.
        classes: class names by number, to tell a wrong name from an absent one.

    Raises:
        FilterError: the expression has no operator, the column is not in the table or cannot be
            compared, or the value does not fit the column's type.
    """
    name, operator, value = _split(text, schema)
    if name in _NAMED:
        return _class_filter(name, operator, value, classes)
    column = _resolve(name, schema)
    if column is None:
        raise FilterError(f"no column {name!r} to filter on{suggest(name, columns(schema))}")
    if "`" in column:
        raise FilterError(f"column {name!r} has a backtick in its name: rename it in the data set")
    return Filter(column, operator, _typed(name, operator, value, schema.field(column).type))


def columns(schema: pa.Schema) -> list[str]:
    """Return the names that filters and sort keys may use, metadata by bare name."""
    return [
        _bare(field.name, schema)
        for field in schema
        if field.name not in HEAVY and not pa.types.is_nested(field.type)
    ]


def _bare(column: str, schema: pa.Schema) -> str:
    bare = column.removeprefix(METADATA_PREFIX)
    return column if bare in schema.names else bare


def _resolve(name: str, schema: pa.Schema) -> str | None:
    for column in (name, METADATA_PREFIX + name):
        if column in schema.names and column not in HEAVY:
            return column
    return None


def _split(text: str, schema: pa.Schema) -> tuple[str, str, str]:
    """Split at the first operator whose left side is a column, else at the first operator."""
    parts = [
        (text[: found.start()].strip(), found.group(), text[found.end() :].strip())
        for found in _OPERATOR.finditer(text)
    ]
    known = (part for part in parts if _resolve(part[0], schema) is not None)
    chosen = next(known, parts[0] if parts else None)
    if chosen is None or not chosen[0]:
        raise FilterError(
            f"filter {text!r} is not a comparison: write column=value, for example label=cat"
        )
    name, operator, value = chosen
    return name, "=" if operator == "==" else operator, value


def _class_filter(name: str, operator: str, value: str, classes: Sequence[str]) -> Filter:
    if operator not in ("=", "!="):
        raise FilterError(f"{name} names a class: compare it with = or !=, not {operator}")
    if value in classes or not (classes or value.isdecimal()):
        return Filter(_NAMED[name], operator, value)
    if value.isdecimal() and len(value) < 11 and int(value) < (len(classes) or 2**31):
        return Filter(name, operator, int(value))
    raise FilterError(f"no class {value!r}{suggest(value, classes)}")


def _typed(name: str, operator: str, value: str, kind: pa.DataType) -> Any:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_boolean(kind):
        return _boolean(name, operator, value)
    for fits, parse, wanted in _PARSERS:
        if fits(kind):
            try:
                return parse(value, kind)
            except (ValueError, OverflowError) as error:
                raise FilterError(f"{name} is compared with {wanted}, not {value!r}") from error
    raise FilterError(f"{name} holds {kind} values, which cannot be filtered on")


def _boolean(name: str, operator: str, value: str) -> bool:
    if value.lower() not in _TRUE + _FALSE or operator not in ("=", "!="):
        raise FilterError(f"{name} is true or false: write {name}=true, not {operator}{value}")
    return value.lower() in _TRUE


def _integer(value: str, kind: pa.DataType) -> int:
    return pa.scalar(int(value), kind).as_py()  # OverflowError or ArrowInvalid outside the type


def _float(value: str, kind: pa.DataType) -> float:
    """Round to the column's precision, so that 0.9 equals what the column holds as 0.9."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    number += 0.0  # the database tells -0.0 from 0.0
    if pa.types.is_float64(kind):
        return number
    limit = float(np.finfo(np.float32).max)
    return float(np.float32(min(max(number, -limit), limit)))


def _date(value: str, _: pa.DataType) -> date:
    return date.fromisoformat(value)


def _timestamp(value: str, kind: pa.DataType) -> datetime:
    """Round down to the column's unit, as the database would."""
    moment = datetime.fromisoformat(value)
    step = {"s": 1_000_000, "ms": 1_000}.get(kind.unit, 1)
    moment = moment.replace(microsecond=moment.microsecond // step * step)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if kind.unit == "ns":
        pa.scalar(moment, kind)  # ArrowInvalid outside the years 1677 to 2262
    return moment if kind.tz is not None else moment.replace(tzinfo=None)


def _text(value: str, _: pa.DataType) -> str:
    value.encode()  # UnicodeEncodeError for bytes of a command line that are no text
    return value


_PARSERS = (
    (pa.types.is_string, _text, "text in UTF-8"),
    (pa.types.is_large_string, _text, "text in UTF-8"),
    (pa.types.is_integer, _integer, "a whole number in the column's range"),
    (pa.types.is_floating, _float, "a number"),
    (pa.types.is_date, _date, "a date such as 2026-01-31"),
    (pa.types.is_timestamp, _timestamp, "a time in the column's range, as 2026-01-31T12:00:00"),
)


def _scalar(value: Any, kind: pa.DataType) -> pa.Scalar:
    """Return a value to compare a column with.

    Texts and numbers are made of their buffers, since pyarrow's own way imports pandas.
    """
    if isinstance(value, str):
        return strings([value])[0]
    if isinstance(value, int | float):
        whole = isinstance(value, int) and pa.types.is_integer(kind)
        number = kind if whole or pa.types.is_floating(kind) else pa.float64()
        data = pa.py_buffer(np.array([value], number.to_pandas_dtype()))
        return pa.Array.from_buffers(number, 1, [None, data])[0]
    return pa.scalar(value, kind)


def suggest(name: str, known: Sequence[str]) -> str:
    """Return the end of a message about an unknown name: a similar one, or those that there are."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f": did you mean {close[0]!r}?"
    shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return f": there are {shown}" if known else ""


def _quote_column(column: str) -> str:
    if "`" in column:
        raise FilterError(f"column {column!r} has a backtick in its name and cannot be queried")
    return f"`{column}`"


def _quote_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, datetime) and value.tzinfo is not None:
        # As a plain literal it would be local time in the zone of the column.
        moment = value.astimezone(UTC).isoformat()
        return f"arrow_cast('{moment}', 'Timestamp(Microsecond, Some(\"UTC\"))')"
    if isinstance(value, datetime):
        return f"timestamp '{value.isoformat(sep=' ')}'"
    if isinstance(value, date):
        return f"date '{value.isoformat()}'"
    return repr(value)
