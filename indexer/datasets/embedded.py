"""Parquet files with the images inside, as Hugging Face `datasets` writes them."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError, RejectedImageError
from .base import DatasetOptions, ImageDataset, RowIndex
from .columns import build_row_index, require_column
from .files import read_image_file
from .hf_schema import declared_class_names, is_image_type
from .row_groups import RowGroups


class EmbeddedDataset(ImageDataset):
    """Rows of one or several parquet files; a reference is the row number over all files."""

    kind: ClassVar[str] = "parquet"

    def __init__(self, spec: str, options: DatasetOptions, files: Sequence[Path]) -> None:
        super().__init__(spec, options)
        self._files = tuple(files)

    @cached_property
    def _column(self) -> str:
        return image_column(_schema(self._files[0]), self.options, self.spec)

    @cached_property
    def _images(self) -> RowGroups:
        return RowGroups(self._files, self._column)

    def _build_index(self) -> RowIndex:
        column, options = self._column, self.options
        schema = _schema(self._files[0])
        light = [name for name in schema.names if not is_image_type(schema.field(name).type)]
        inner = f"{column}.path" if pa.types.is_struct(schema.field(column).type) else None
        table = _read_columns(self._files, light)
        if options.path_column in light:
            paths = [None if v is None else str(v) for v in table[options.path_column].to_pylist()]
        elif inner is not None:
            structs = _read_columns(self._files, [inner])[column]
            paths = [value and value.get("path") for value in structs.to_pylist()]
        else:
            paths = [None] * table.num_rows
        return build_row_index(
            table,
            options,
            paths=paths,
            class_names=declared_class_names(schema, options.label_column),
            positional=True,
            source=self.spec,
            left_out=[name for name in schema.names if name not in (*light, column)],
        )

    def _fingerprint_parts(self) -> Iterable[str]:
        for file in self._files:
            # The footer holds sizes, offsets and statistics of every column chunk.
            with file.open("rb") as stream:
                stream.seek(-8, 2)
                length = int.from_bytes(stream.read(4), "little")
                stream.seek(-8 - length, 2)
                footer = stream.read(length)
            yield f"{file.name}:{file.stat().st_size}:{hashlib.sha256(footer).hexdigest()}"

    def read(self, ref: str) -> bytes:
        """Return the bytes embedded in this row, or those of the file that the row points to."""
        value: Any = self._images.value(int(ref))
        path = None
        if isinstance(value, dict):
            value, path = value["bytes"], value.get("path")
        if value:
            return value
        if value is None and path:
            return read_image_file(self._files[0].parent / path)
        raise RejectedImageError("the row holds no image (0 bytes)")


def image_column(schema: pa.Schema, options: DatasetOptions, source: str) -> str:
    """Return the column with the images: the one asked for, else the first that holds some.

    Raises:
        DataError: there is no such column.
    """
    if options.image_column is not None:
        require_column(schema.names, options.image_column, "--image-column", source)
        if not is_image_type(schema.field(options.image_column).type):
            raise DataError(f"column {options.image_column!r} of {source} holds no image bytes")
        return options.image_column
    found = [field.name for field in schema if is_image_type(field.type)]
    if not found:
        raise DataError(
            f"{source} has neither image bytes nor a column {options.path_column!r}: "
            f"its columns are {', '.join(schema.names)}"
        )
    return "image" if "image" in found else found[0]


def _schema(file: Path) -> pa.Schema:
    try:
        return pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} is not a readable parquet file: {error}") from error


def _read_columns(files: Sequence[Path], columns: list[str]) -> pa.Table:
    # Not `pq.read_table`, which flattens the struct that a nested column lies in.
    try:
        return pa.concat_tables([pq.ParquetFile(file).read(columns) for file in files])
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{files[0].parent}: the parquet files do not fit: {error}") from error
