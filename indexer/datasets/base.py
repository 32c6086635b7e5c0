"""What all kinds of data sets share: options, rows, and one way to list them."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar

import pyarrow as pa
from PIL import Image

from ..errors import DataError
from .labels import Labels

METADATA_BATCH = 1024
"""Rows of metadata that are turned into Python values at a time."""


@dataclass(frozen=True)
class DatasetOptions:
    """How to read a data set; every field can be given on the command line.

    Attributes:
        label_column: column with the label, as a class name or an integer.
        path_column: column with the image path, relative to the manifest's folder.
        image_column: column with embedded images; None takes the first that holds some.
        id_column: column with sample ids; None takes a column `id`, else the path, else the row.
        id_prefix: put before every id, to tell apart images of several sets in one index.
        split: split of a named data set, or sub-folder of a folder.
        root: folder of a named data set.
        download: whether a named data set may be fetched from the network.
    """

    label_column: str = "label"
    path_column: str = "path"
    image_column: str | None = None
    id_column: str | None = None
    id_prefix: str = ""
    split: str | None = None
    root: str | None = None
    download: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, but for `download`.

        Whether data had to be fetched says nothing of what it is.
        """
        values = asdict(self)
        del values["download"]
        return {
            f.name: values[f.name]
            for f in fields(self)
            if f.name in values and values[f.name] != f.default
        }


@dataclass(frozen=True)
class Row:
    """One row of a data set.

    Attributes:
        id: identifier of the sample; unique among rows without an error.
        ref: where `ImageDataset.read` finds the image.
        label: index into the data set's class names, or the integer that the data holds.
        label_name: name of that class, None where the data set names none.
        metadata: value of each `meta_` column.
        error: why the row cannot be used, None where it can.
    """

    id: str
    ref: str
    label: int | None
    label_name: str | None
    metadata: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class RowIndex:
    """The light part of all rows, in order: everything but the images.

    Attributes:
        ids: N sample ids.
        refs: N image references.
        labels: N labels with the names of their classes.
        metadata: N rows of `meta_` columns.
        errors: reason by row, for the rows that cannot be used.
        left_out: columns of the data that `metadata` cannot hold.
    """

    ids: list[str]
    refs: list[str]
    labels: Labels
    metadata: pa.Table
    errors: Mapping[int, str]
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lengths = {len(self.ids), len(self.refs), len(self.labels), self.metadata.num_rows}
        if len(lengths) != 1:
            raise ValueError(f"columns of a row index differ in length: {sorted(lengths)}")

    @classmethod
    def build(
        cls,
        ids: list[str],
        refs: list[str],
        labels: Labels,
        metadata: pa.Table | None = None,
        errors: Mapping[int, str] | None = None,
        left_out: Sequence[str] = (),
    ) -> "RowIndex":
        """Collect the columns; a row takes the first of its own, label's and duplicate's error."""
        if metadata is None or not metadata.num_columns:
            # A table without columns has no length of its own.
            metadata = pa.table({"": pa.nulls(len(ids))}).select([])
        found = duplicate_errors(ids)
        found.update(labels.errors)
        found.update(errors or {})
        return cls(ids, refs, labels, metadata, found, tuple(left_out))


class ImageDataset(ABC):
    """An ordered list of labelled images.

    Opening is cheap; the rows are listed at the first question about them.
    """

    kind: ClassVar[str]
    positional: ClassVar[bool] = True
    """Whether references are row numbers, which mean other images once the data has changed."""

    def __init__(self, spec: str, options: DatasetOptions) -> None:
        self.spec = spec
        self.options = options

    @abstractmethod
    def _build_index(self) -> RowIndex: ...

    @abstractmethod
    def _fingerprint_parts(self) -> Iterable[str]: ...

    @abstractmethod
    def read(self, ref: str) -> bytes | Image.Image:
        """Return the encoded bytes, or the image where the source holds decoded ones.

        Safe to call from several threads.

        Raises:
            RejectedImageError: there is nothing to read under this reference.
        """

    @cached_property
    def _index(self) -> RowIndex:
        index = self._build_index()
        prefix = self.options.id_prefix
        return replace(index, ids=[prefix + name for name in index.ids]) if prefix else index

    def __len__(self) -> int:
        return len(self._index.ids)

    def rows(self, start: int = 0) -> Iterator[Row]:
        """Yield the rows from number `start` on, always in the same order."""
        index = self._index
        metadata = _iterate_table(index.metadata, start)
        for number in range(start, len(index.ids)):
            label = index.labels.values[number]
            yield Row(
                id=index.ids[number],
                ref=index.refs[number],
                label=label,
                label_name=index.labels.name(label),
                metadata=next(metadata),
                error=index.errors.get(number),
            )

    def expecting(self, classes: Collection[str]) -> "ImageDataset":
        """Return the data set read with these class names in mind.

        A text file does not say whether "NA" is a class or a gap; other formats leave no doubt.
        """
        del classes
        return self

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the data set's classes by label, None where labels are bare integers."""
        return self._index.labels.names

    @property
    def declares_classes(self) -> bool:
        """Whether the class names are the data set's own list, or only the values that occur."""
        return self._index.labels.declared

    @cached_property
    def used_labels(self) -> frozenset[int]:
        """Labels that occur in at least one usable row."""
        values, errors = self._index.labels.values, self._index.errors
        return frozenset(
            label
            for number, label in enumerate(values)
            if label is not None and number not in errors
        )

    @property
    def metadata_schema(self) -> pa.Schema:
        """Schema of the columns that `Row.metadata` holds, prefixed with `meta_`."""
        return self._index.metadata.schema

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of the columns that are not kept, since no filter could use them."""
        return self._index.left_out

    @property
    def passed_over(self) -> tuple[str, ...]:
        """Names of folders with images that are no classes, since they are hidden."""
        return ()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over what the data set holds, without reading the pixels."""
        return self._digest(self.options.to_json())

    def is_source(self, source: Mapping[str, Any]) -> bool:
        """Return whether a description from `to_source` is of this data set, as it is now."""
        expected = source["fingerprint"]
        if expected == self.fingerprint or "download" not in source.get("options", {}):
            return expected == self.fingerprint
        # Early indexes counted it among the options that make a data set what it is.
        return expected == self._digest({**self.options.to_json(), "download": True})

    def _digest(self, options: Mapping[str, Any]) -> str:
        digest = hashlib.sha256()
        for part in (self.kind, repr(sorted(options.items()))):
            digest.update(part.encode())
        for part in self._fingerprint_parts():
            digest.update(part.encode("utf-8", "backslashreplace") + b"\0")
        return digest.hexdigest()

    def to_source(self) -> dict[str, Any]:
        """Return a JSON-ready description from which `open_source` reopens the data set."""
        return {
            "kind": self.kind,
            "path": self.spec,
            "options": self.options.to_json(),
            "fingerprint": self.fingerprint,
        }

    def require_source(self, source: Mapping[str, Any]) -> None:
        """Raise DataError where references are row numbers and the data is no longer the same."""
        if self.positional and not self.is_source(source):
            raise DataError(
                f"{self.spec} has changed since it was indexed, so its row numbers no longer "
                "name the same images: restore it, or index it again"
            )


def duplicate_errors(ids: Iterable[str]) -> dict[int, str]:
    """Return an error for every id that an earlier row has taken, by row number."""
    taken: set[str] = set()
    errors = {}
    for number, name in enumerate(ids):
        if name in taken:
            errors[number] = "duplicate id: an earlier row has it already"
        taken.add(name)
    return errors


def _iterate_table(table: pa.Table, start: int) -> Iterator[dict[str, Any]]:
    if not table.num_columns:
        while True:
            yield {}
    for batch in table.slice(start).to_batches(max_chunksize=METADATA_BATCH):
        yield from batch.to_pylist()
