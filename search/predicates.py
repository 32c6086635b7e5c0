"""Typed filters on samples, and the one place that turns them into SQL.

The database takes raw SQL without parameters, so no text of a user ever reaches it as it came:
a filter is parsed against the table's schema into a column, an operator and a value of the
column's type, and each of the three is written by its own rule.
"""

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from indexer.errors import FilterError
from indexer.schema import HEAVY, METADATA_PREFIX

OPERATORS = ("=", "!=", "<", "<=", ">", ">=")

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
        value: bool, int, float, str, date or datetime, as the column's type asks.
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

    def to_sql(self) -> str:
        """Return the comparison as an SQL expression."""
        column = _quote_column(self.column)
        comparison = f"{column} {self.operator} {_quote_value(self.value)}"
        return f"({comparison} OR {column} IS NULL)" if self.operator == "!=" else comparison


FAILURES = Filter("correct", "=", False)
"""The misclassified samples."""


def to_sql(filters: Iterable[Filter]) -> str | None:
    """Return the conjunction of filters as SQL; None where there are none."""
    return " AND ".join(item.to_sql() for item in filters) or None


def parse_filter(text: str, schema: pa.Schema, classes: Sequence[str] = ()) -> Filter:
    """Parse an expression such as `label=cat`, `confidence>0.9` or `weather!=rain`.

    Columns of the data set go by their bare name; `label` and `prediction` take the name of a
    class or, where no class has that name, its number. Everything after the operator is the
    value, without quotes.

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
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return value
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


def _timestamp(value: str, _: pa.DataType) -> datetime:
    moment = datetime.fromisoformat(value)
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


_PARSERS = (
    (pa.types.is_integer, _integer, "a whole number in the column's range"),
    (pa.types.is_floating, _float, "a number"),
    (pa.types.is_date, _date, "a date such as 2026-01-31"),
    (pa.types.is_timestamp, _timestamp, "a time such as 2026-01-31T12:00:00"),
)


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
    if isinstance(value, datetime):
        return f"timestamp '{value.isoformat(sep=' ')}'"
    if isinstance(value, date):
        return f"date '{value.isoformat()}'"
    return repr(value)
