"""Labels of a whole data set: integers, or names and the list of them."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .naming import natural_key

MAX_LABEL = 2**31 - 1
"""Labels are stored as 32-bit integers."""


@dataclass(frozen=True)
class Labels:
    """N labels.

    Attributes:
        values: label of each row, None where there is none.
        names: class names by label, None where labels are bare integers.
        declared: whether the names are the data set's own list (folders, a schema), not merely
            the values that occur in a column.
        errors: reason by row, for rows without a usable label.
    """

    values: Sequence[int | None]
    names: tuple[str, ...] | None = None
    declared: bool = False
    errors: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    def name(self, label: int | None) -> str | None:
        """Return the class name of a label, None where it has none."""
        return None if label is None or self.names is None else self.names[label]


def parse_labels(
    column: Sequence[Any], names: Sequence[str] | None = None, classes: Collection[str] = ()
) -> Labels:
    """Return the labels of a column of integers or class names.

    A column counts as integers where every value does; "3" and 3.0 are the integer 3, since CSV
    files and data frames with gaps write them so. Otherwise every value is a class name.

    Args:
        column: N values as the data holds them.
        names: the data set's own list of class names, where it has one.
        classes: values that are class names as they are written, even blank ones.
    """
    integers = [_as_integer(value) for value in column]
    texts = [_as_text(value, classes) for value in column]
    pairs = zip(integers, texts, strict=True)
    if all(number is not None for number, text in pairs if text is not None):
        return _integer_labels(column, integers, names)
    declared = names is not None
    if names is None:
        names = sorted({text for text in texts if text is not None}, key=natural_key)
    position = {name: label for label, name in enumerate(names)}
    values: list[int | None] = []
    errors = {}
    for row, text in enumerate(texts):
        label = None if text is None else position.get(text)
        if text is None:
            errors[row] = "no label"
        elif label is None and declared and _as_integer(text) in range(len(names)):
            label = _as_integer(text)
        elif label is None:
            errors[row] = f"label {text!r} is not one of the data set's {len(names)} classes"
        values.append(label)
    return Labels(values, tuple(names), declared, errors)


def _integer_labels(
    column: Sequence[Any], integers: list[int | None], names: Sequence[str] | None
) -> Labels:
    limit = MAX_LABEL + 1 if names is None else len(names)
    values: list[int | None] = []
    errors = {}
    for row, number in enumerate(integers):
        if number is None:
            errors[row] = "no label"
        elif not 0 <= number < limit:
            ranks = (
                "" if names is None else f", the data set has {limit} classes (0 to {limit - 1})"
            )
            errors[row] = f"label {column[row]} is out of range{ranks}"
            number = None
        values.append(number)
    return Labels(values, None if names is None else tuple(names), names is not None, errors)


def _as_text(value: Any, classes: Collection[str]) -> str | None:
    """Return a label as text, None where it is missing."""
    if isinstance(value, str):
        return value if value in classes else value.strip() or None
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return None if missing else str(value).strip()


def _as_integer(value: Any) -> int | None:
    """Return the integer that a value stands for, None where it is something else."""
    if isinstance(value, str):
        text = value.strip()
        return int(text) if text.removeprefix("-").isdecimal() else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return int(value) if isinstance(value, int) else None
