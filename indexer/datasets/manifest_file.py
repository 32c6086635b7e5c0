"""A CSV, TSV or parquet file that lists image paths and labels."""

import hashlib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError
from .base import DatasetOptions, ImageDataset, RowIndex
from .columns import ID, build_row_index, require_column
from .delimited import DELIMITERS, MISSING, read_delimited
from .files import file_size, read_image_file
from .hf_schema import declared_class_names
from .labels import Labels


class ManifestDataset(ImageDataset):
    """Rows of a manifest; paths are relative to the folder that the manifest lies in."""

    kind: ClassVar[str] = "manifest"
    positional: ClassVar[bool] = False

    def __init__(self, spec: str, options: DatasetOptions, classes: Collection[str] = ()) -> None:
        super().__init__(spec, options)
        self._classes = frozenset(classes)

    def expecting(self, classes: Collection[str]) -> ImageDataset:
        """Return the manifest read with these names in mind, where one looks like no label."""
        doubtful = [name for name in classes if name in MISSING or name != name.strip() or not name]
        return ManifestDataset(self.spec, self.options, doubtful) if doubtful else self

    def _build_index(self) -> RowIndex:
        file = Path(self.spec)
        table, malformed = self._read(file)
        require_column(table.column_names, self.options.path_column, "--path-column", str(file))
        if malformed and not table.num_rows:
            line, reason = next(iter(malformed.items()))
            lines = "1 line" if len(malformed) == 1 else f"{len(malformed)} lines"
            raise DataError(f"{file} has {lines}, none usable; {line} has {reason}")
        paths = [None if v is None else str(v) for v in table[self.options.path_column].to_pylist()]
        index = build_row_index(
            table,
            self.options,
            paths=paths,
            class_names=declared_class_names(table.schema, self.options.label_column),
            positional=False,
            source=str(file),
            classes=self._classes,
        )
        return _append_malformed(index, malformed)

    def _read(self, file: Path) -> tuple[pa.Table, dict[str, str]]:
        """Return the table of a manifest, and the reason by id for lines that do not parse."""
        if file.suffix.lower() in DELIMITERS:
            options = self.options
            text_columns = (options.label_column, options.path_column, options.id_column or ID)
            return read_delimited(file, text_columns, options.label_column, self._classes)
        try:
            return pq.read_table(file), {}
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file} is not a readable parquet file: {error}") from error

    def _fingerprint_parts(self) -> Iterable[str]:
        yield hashlib.sha256(Path(self.spec).read_bytes()).hexdigest()
        folder = Path(self.spec).parent
        for ref in self._index.refs:
            yield str(file_size(folder / ref))

    def read(self, ref: str) -> bytes:
        """Return the bytes of the file at this path, relative to the manifest's folder."""
        return read_image_file(Path(self.spec).parent / ref)


def _append_malformed(index: RowIndex, malformed: dict[str, str]) -> RowIndex:
    """Add one row with an error for each line that did not parse."""
    if not malformed:
        return index
    rows, extra = len(index.ids), len(malformed)
    labels, metadata = index.labels, index.metadata
    if metadata.num_columns:
        gaps = pa.table({field.name: pa.nulls(extra, field.type) for field in metadata.schema})
        metadata = pa.concat_tables([metadata, gaps])
    return RowIndex.build(
        ids=index.ids + list(malformed),
        refs=index.refs + [""] * extra,
        labels=Labels(
            [*labels.values, *[None] * extra], labels.names, labels.declared, labels.errors
        ),
        metadata=metadata,
        errors={**index.errors, **{rows + i: why for i, why in enumerate(malformed.values())}},
        left_out=index.left_out,
    )
