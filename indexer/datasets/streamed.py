"""Data sets that can only be read from front to back: `tfds/NAME` and `hfids/NAME`."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from ..errors import DataError
from .base import ImageDataset, RowIndex
from .labels import Labels
from .offline import data_access, one_line

KEPT_IMAGES = 512
"""Images kept for workers that read in nearly the right order."""


class StreamedDataset(ImageDataset):
    """A data set behind one of timm's iterable readers; a reference is the row number.

    The stream is read once for the labels and once more for the images. Its decoder is the
    library's: where it stops at a damaged image, no later row can be reached, and that is an
    error of the whole data set.
    """

    kind: ClassVar[str] = "stream"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Image.Image] = OrderedDict()
        self._stream: Iterator[tuple[Image.Image, Any]] = iter(())
        self._next_row = -1

    @cached_property
    def _reader(self) -> Any:
        prefix = self.spec.partition("/")[0].lower()
        package = {"tfds": "tensorflow-datasets", "hfids": "datasets"}[prefix]
        try:
            from timm.data.readers import create_reader

            with data_access(self.options.download):
                return create_reader(
                    self.spec,
                    root=self.options.root,
                    split=self.options.split or "validation",
                    download=self.options.download,
                    input_key=self.options.image_column,
                    target_key=self.options.label_column,
                    is_training=False,
                )
        except (ImportError, NameError) as error:
            raise DataError(
                f"{self.spec} needs the package {package}: pip install {package}"
            ) from error
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, AssertionError) as error:
            raise DataError(f"{self.spec} cannot be opened: {one_line(error)}") from error

    def to_source(self) -> dict[str, Any]:
        """Return the description; what is not kept on disk has to be fetched to be read again."""
        source = super().to_source()
        if self.options.download and self.spec.lower().startswith("hfids/"):
            source["options"]["download"] = True
        return source

    def _iterate(self) -> Iterator[tuple[Image.Image, Any]]:
        try:
            yield from self._reader
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(
                f"{self.spec} stops at an image that its reader cannot decode: {one_line(error)}"
            ) from error

    def _build_index(self) -> RowIndex:
        values = [int(label) for _, label in self._iterate()]
        if not values:
            raise DataError(f"{self.spec} has no rows")
        classes: dict[str, int] = getattr(self._reader, "class_to_idx", None) or {}
        names = tuple(sorted(classes, key=classes.__getitem__)) or None
        refs = [str(row) for row in range(len(values))]
        return RowIndex.build(list(refs), refs, Labels(values, names, names is not None))

    def _fingerprint_parts(self) -> Iterable[str]:
        labels = np.asarray(self._index.labels.values, dtype=np.int64)
        yield f"{len(labels)}:{hashlib.sha256(labels.tobytes()).hexdigest()}"

    def read(self, ref: str) -> Image.Image:
        """Return the image of a row; going back starts the stream again."""
        row = int(ref)
        with self._lock:
            if row in self._kept:
                return self._kept[row]
            if not 0 <= self._next_row <= row:
                self._stream, self._next_row = self._iterate(), 0
            for image, _ in self._stream:
                self._next_row += 1
                self._kept[self._next_row - 1] = image
                if len(self._kept) > KEPT_IMAGES:
                    self._kept.popitem(last=False)
                if self._next_row > row:
                    return image
        raise DataError(f"{self.spec} has no row {row}: it has changed")
