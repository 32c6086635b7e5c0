"""CIFAR-10 as arrays, the five super-classes, and what the plants need to know of an image."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

SUPERCLASS = np.array([0, 1, 2, 3, 4, 3, 2, 4, 0, 1])
"""Super-class of each CIFAR-10 class: two fine classes each (airplane and ship, ...)."""


@dataclass(frozen=True)
class Images:
    """Images with fine labels and labels of the task.

    Attributes:
        pixels: uint8 [N, 32, 32, 3].
        fine: CIFAR-10 class, int64 [N].
        labels: label of the task, int64 [N]: the fine class or its super-class.
    """

    pixels: np.ndarray
    fine: np.ndarray
    labels: np.ndarray

    def take(self, rows: np.ndarray) -> "Images":
        """Return the given rows."""
        return Images(self.pixels[rows], self.fine[rows], self.labels[rows])


def load(cifar: Path, split: str, *, superclasses: bool) -> Images:
    """Read `train.parquet` or `test.parquet` (Hugging Face layout) below `cifar`."""
    table = pq.read_table(cifar / f"{split}.parquet", columns=["image", "label"])
    encoded = table["image"].combine_chunks().field("bytes")
    pixels = np.stack(
        [np.asarray(Image.open(io.BytesIO(e.as_py())).convert("RGB")) for e in encoded]
    )
    fine = table["label"].to_numpy().astype(np.int64)
    return Images(pixels, fine, SUPERCLASS[fine] if superclasses else fine)


def brightness(pixels: np.ndarray) -> np.ndarray:
    """Mean of all channels, float64 [N], in 0..255."""
    return pixels.mean((1, 2, 3))


def background(pixels: np.ndarray) -> np.ndarray:
    """Mean brightness of the outer five pixels of each image, float64 [N], in 0..255."""
    outer = np.ones(pixels.shape[1:3], bool)
    outer[5:-5, 5:-5] = False
    return pixels[:, outer].mean((1, 2))
