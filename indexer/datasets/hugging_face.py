"""Data sets of Hugging Face `datasets` under their timm name: `hfds/NAME`."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from ..errors import DataError, RejectedImageError
from .base import ImageDataset, RowIndex
from .columns import build_row_index
from .files import read_image_file
from .hf_schema import is_image_type
from .offline import data_access, one_line

NO_DOWNLOAD = "nothing is fetched without --download"


class HuggingFaceDataset(ImageDataset):
    """A map-style data set; a reference is the row number.

    Opened without timm's reader, which wants to be told the image column and stumbles over slices
    such as `test[:100]`.
    """

    kind: ClassVar[str] = "hfds"

    @cached_property
    def _loaded(self) -> Any:
        options = self.options
        try:
            import datasets

            with data_access(options.download):
                return datasets.load_dataset(
                    self.spec.partition("/")[2],
                    split=options.split or "validation",
                    cache_dir=options.root,
                )
        except ImportError as error:
            raise DataError(f"{self.spec} needs a package: pip install datasets") from error
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            why = "the hub cannot be reached" if options.download else NO_DOWNLOAD
            way_out = f" ({why})" if isinstance(error, ConnectionError) else ""
            raise DataError(f"{self.spec} cannot be opened: {one_line(error)}{way_out}") from error

    @cached_property
    def _column(self) -> str:
        """The image column asked for, else the first there is."""
        features, wanted = self._loaded.features, self.options.image_column
        for name, feature in features.items():
            if type(feature).__name__ == "Image" and wanted in (None, name):
                return name
        raise DataError(
            f"{self.spec} has no image column {wanted or ''}: its columns are {', '.join(features)}"
        )

    @cached_property
    def _dataset(self) -> Any:
        """The data with the images as bytes: decoding here would stop at a damaged one."""
        import datasets

        return self._loaded.cast_column(self._column, datasets.Image(decode=False))

    def _build_index(self) -> RowIndex:
        dataset, options = self._dataset, self.options
        schema: pa.Schema = dataset.features.arrow_schema
        light = [name for name in schema.names if not is_image_type(schema.field(name).type)]
        table: pa.Table = dataset.select_columns(light).with_format("arrow")[:]
        if options.path_column in light:
            paths = [None if v is None else str(v) for v in table[options.path_column].to_pylist()]
        else:
            paths = [None] * table.num_rows
        return build_row_index(
            table.replace_schema_metadata(),
            options,
            paths=paths,
            class_names=getattr(dataset.features.get(options.label_column), "names", None),
            positional=True,
            source=self.spec,
            left_out=[name for name in schema.names if name not in (*light, self._column)],
        )

    def _fingerprint_parts(self) -> Iterable[str]:
        # `datasets` derives its fingerprint from the source files and every step since.
        yield f"{len(self)}:{self._dataset._fingerprint}"

    def read(self, ref: str) -> bytes:
        """Return the encoded bytes of a row."""
        image = self._dataset[int(ref)][self._column]
        if image and image.get("bytes"):
            return image["bytes"]
        if image and image.get("path"):
            return read_image_file(Path(image["path"]))
        raise RejectedImageError("the row holds no image")
