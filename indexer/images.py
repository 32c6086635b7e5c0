"""The images behind stored samples, and a user's own, for everything that comes after indexing."""

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from PIL import Image

from .datasets import ImageDataset, open_source
from .datasets.files import read_image_file
from .decode import MAX_PIXELS, decode
from .errors import DataError, RejectedImageError
from .manifest import Manifest

if TYPE_CHECKING:  # pages and montages need images without loading torch
    import torch

    from .transforms import Transform

WORKERS = 2
KEPT_IMAGES = 16
"""Decoded images kept: a page of results shows the same few again and again."""


class IndexedImages:
    """Full-resolution images of an index, by the columns `source` and `ref`.

    Safe to use from several threads.

    Attributes:
        sources: the data sets that they are in, from the manifest.
    """

    def __init__(self, manifest: Manifest, transform: "Transform | None" = None) -> None:
        self.sources = manifest.sources
        self._transform = transform
        self._datasets: dict[int, ImageDataset] = {}
        self._kept: OrderedDict[tuple[int, str], Image.Image] = OrderedDict()
        self._lock = threading.Lock()

    def pil(self, source: int, ref: str) -> Image.Image:
        """Return one image in RGB.

        Raises:
            DataError: the data set or the image is gone, or no longer the one that was indexed.
        """
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

        Returns:
            float32 [N, I, H, W] in the order of the table, on the CPU.
        """
        import torch

        transform = self._transform
        if transform is None:
            raise ValueError("images opened without a transform give no tensors")
        keys = zip(rows["source"].to_pylist(), rows["ref"].to_pylist(), strict=True)
        with ThreadPoolExecutor(WORKERS) as pool:
            tensors = list(pool.map(lambda key: transform(self.pil(*key)), keys))
        if not tensors:
            raise ValueError("no rows to make a batch of")
        return torch.stack(tensors)

    def _dataset(self, source: int) -> ImageDataset:
        if not 0 <= source < len(self.sources):
            raise DataError(f"the index has no data set number {source}")
        if source not in self._datasets:
            self._datasets[source] = open_source(self.sources[source])
        return self._datasets[source]


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
    name = "image" if given else Path(image).name
    try:
        data = image if given else read_image_file(Path(image))
        return decode(data, max_pixels=max_pixels), name
    except RejectedImageError as error:
        raise DataError(f"cannot use {name}: {error}") from error
    except MemoryError as error:
        raise DataError(f"memory does not suffice to read {name}: free some") from error
