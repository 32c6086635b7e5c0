"""The images behind stored samples, and a user's own, for everything that comes after indexing."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from PIL import Image

from .datasets import ImageDataset, open_source
from .datasets.files import read_image_file
from .decode import MAX_PIXELS, decode, shows
from .errors import DataError, RejectedImageError
from .manifest import Manifest
from .schema import THUMBNAIL

if TYPE_CHECKING:  # pages and montages need images without loading torch
    import torch

    from .transforms import Transform

STORED = ("source", "ref", "width", "height", THUMBNAIL)
"""Columns to take for `IndexedImages.tensor`: where an image is, and what it looked like."""
WORKERS = 2
KEPT_IMAGES = 16
"""Decoded images kept: a page of results shows the same few again and again."""


class IndexedImages:
    """Full-resolution images of an index, by the columns `source` and `ref`.

    An image that was changed in place is refused as far as the index can tell: where its size is
    another, or its thumbnail shows something else. Small retouches go unnoticed. Data sets whose
    references are row numbers are refused as a whole once they have changed. Safe to use from
    several threads.

    Attributes:
        sources: the data sets that they are in, from the manifest.
    """

    def __init__(self, manifest: Manifest, transform: "Transform | None" = None) -> None:
        self.sources = manifest.sources
        self._transform = transform
        self._datasets: dict[int, ImageDataset] = {}
        self._kept: OrderedDict[tuple[int, str], Image.Image] = OrderedDict()
        self._lock = threading.Lock()

    def pil(
        self, source: int, ref: str, stored: Mapping[str, Any] = MappingProxyType({})
    ) -> Image.Image:
        """Return one image in RGB.

        Args:
            source: number of the data set.
            ref: where the image is in it.
            stored: what the index holds of the image, to compare: those of the columns `width`,
                `height` and `thumbnail` that are at hand.

        Raises:
            DataError: the data set or the image is gone, or no longer the one that was indexed.
        """
        image = self._read(source, ref)
        change = _change(image, stored)
        if change is not None:
            raise DataError(
                f"image {ref!r} of {self.sources[source]['path']} has changed since it was indexed "
                f"({change}): restore it, or index the data again"
            )
        return image

    def _read(self, source: int, ref: str) -> Image.Image:
        key = (source, ref)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            dataset = self._dataset(source)
        try:
            limit = self.sources[source].get("max_pixels", MAX_PIXELS)
            image = decode(dataset.read(ref), max_pixels=limit)
        except RejectedImageError as error:
            raise DataError(
                f"image {ref!r} of {dataset.spec} can no longer be read ({error}): restore it, or "
                "index the data again"
            ) from error
        except MemoryError as error:
            raise DataError(f"memory does not suffice to read image {ref!r}: free some") from error
        with self._lock:
            self._kept[key] = image
            if len(self._kept) > KEPT_IMAGES:
                self._kept.popitem(last=False)
        return image

    def tensor(self, rows: pa.Table) -> "torch.Tensor":
        """Return the transformed images of a table with the columns `source` and `ref`.

        Args:
            rows: as stored; further columns are compared with the images, see `pil`.

        Returns:
            float32 [N, I, H, W] in the order of the table, on the CPU.
        """
        import torch

        transform = self._transform
        if transform is None:
            raise ValueError("images opened without a transform give no tensors")

        def read(row: Mapping[str, Any]) -> "torch.Tensor":
            return transform(self.pil(row["source"], row["ref"], row))

        with ThreadPoolExecutor(WORKERS) as pool:
            tensors = list(pool.map(read, rows.to_pylist()))
        if not tensors:
            raise ValueError("no rows to make a batch of")
        return torch.stack(tensors)

    def _dataset(self, source: int) -> ImageDataset:
        if not 0 <= source < len(self.sources):
            raise DataError(f"the index has no data set number {source}")
        if source not in self._datasets:
            self._datasets[source] = open_source(self.sources[source])
        return self._datasets[source]


def _change(image: Image.Image, stored: Mapping[str, Any]) -> str | None:
    """Return how an image differs from what the index holds of it, None where it does not."""
    size = (stored.get("width") or image.width, stored.get("height") or image.height)
    if image.size != size:
        return f"it has {image.width} × {image.height} pixels, and had {size[0]} × {size[1]}"
    small = stored.get(THUMBNAIL)
    if small and not shows(image, small):
        return "it shows something else than its thumbnail"
    return None


def pixel_limit(manifest: Manifest) -> int:
    """Return the most pixels that an image of an index, or one compared to them, may have."""
    return max(
        (source.get("max_pixels", MAX_PIXELS) for source in manifest.sources), default=MAX_PIXELS
    )


def open_picture(
    image: Image.Image | bytes | str | Path, *, max_pixels: int = MAX_PIXELS
) -> tuple[Image.Image, str]:
    """Return an image that is not in the index, in RGB, and its name: the file's, or "image".

    Args:
        image: decoded, encoded as a file, or the path of a file.
        max_pixels: see `pixel_limit`.

    Raises:
        DataError: the file cannot be read, or holds no image that can be used.
    """
    given = isinstance(image, Image.Image | bytes)
    place = "image" if given else str(image)
    try:
        data = image if given else read_image_file(Path(image))
        return decode(data, max_pixels=max_pixels), Path(place).name
    except RejectedImageError as error:
        raise DataError(f"cannot use {place}: {error}") from error
    except MemoryError as error:
        raise DataError(f"memory does not suffice to read {place}: free some") from error
