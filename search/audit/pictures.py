"""What an image looks like, in a few numbers, from its stored thumbnail."""

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from indexer.schema import ID, THUMBNAIL

if TYPE_CHECKING:
    from indexer.store import Store

SIDE = 16
"""Pixels a side of the miniature that duplicates are checked on."""

PROPERTIES = {
    "brightness": ("dark", "bright"),
    "contrast": ("low in contrast", "high in contrast"),
    "saturation": ("colourless", "colourful"),
    "redness": ("poor in red", "rich in red"),
    "greenness": ("poor in green", "rich in green"),
    "blueness": ("poor in blue", "rich in blue"),
    "sharpness": ("blurred", "sharp"),
    "border contrast": ("plain at the border", "busy at the border"),
    "border brightness": ("dark at the border", "bright at the border"),
    "pixels": ("small", "large"),
    "aspect": ("tall", "wide"),
}
"""Properties, each with the words for its low and its high end."""


@dataclass(frozen=True)
class Pictures:
    """Images of an index, reduced to what the audit needs.

    Attributes:
        ids: n sample ids.
        digests: hash of the thumbnail's bytes and the original size: equal for equal files.
        miniatures: uint8 [n, SIDE·SIDE·3].
        hashes: difference hash of each miniature, uint64 [n].
        mirrored: the same of its mirror image.
        properties: float64 [n, len(PROPERTIES)].
    """

    ids: tuple[str, ...]
    digests: tuple[bytes, ...]
    miniatures: np.ndarray
    hashes: np.ndarray
    mirrored: np.ndarray
    properties: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


def read_pictures(store: "Store") -> Pictures:
    """Read every thumbnail of an index, a batch at a time; about 900 bytes a sample are kept.

    A sample without a readable thumbnail is left out.
    """
    ids, digests, miniatures, hashes, mirrored, properties = [], [], [], [], [], []
    for batch in store.scan([ID, "width", "height", THUMBNAIL]):
        for sample, width, height, data in zip(
            *(c.to_pylist() for c in batch.columns), strict=True
        ):
            image = _open(data)
            if image is None:
                continue
            size = f"{width}x{height}".encode()
            ids.append(sample)
            digests.append(hashlib.blake2b(data + size, digest_size=16).digest())
            miniatures.append(np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)).ravel())
            hashes.append(difference_hash(image))
            mirrored.append(difference_hash(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
            properties.append(measure(np.asarray(image), width or 0, height or 0))
    return Pictures(
        tuple(ids),
        tuple(digests),
        np.array(miniatures, np.uint8).reshape(len(ids), SIDE * SIDE * 3),
        np.array(hashes, np.uint64),
        np.array(mirrored, np.uint64),
        np.array(properties, np.float64).reshape(len(ids), len(PROPERTIES)),
    )


def difference_hash(image: Image.Image) -> int:
    """Return 64 bits: whether each cell of an 8×9 gray miniature is darker than its neighbour."""
    gray = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    return int.from_bytes(np.packbits(gray[:, 1:] > gray[:, :-1]).tobytes())


def measure(pixels: np.ndarray, width: int, height: int) -> list[float]:
    """Return the `PROPERTIES` of an image.

    Args:
        pixels: uint8 [H, W, 3] of the thumbnail.
        width: of the original, in pixels.
        height: of the original, in pixels.

    Returns:
        intensities in 0..255; sharpness as the deviation of the Laplacian over the contrast;
        aspect as log(width / height).
    """
    colour = pixels.astype(np.float64)
    gray = colour.mean(2)
    red, green, blue = colour.mean((0, 1))
    frame = np.concatenate([gray[0], gray[-1], gray[1:-1, 0], gray[1:-1, -1]])
    around = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:]
    laplacian = around - 4 * gray[1:-1, 1:-1]
    return [
        float(gray.mean()),
        float(gray.std()),
        float((colour.max(2) - colour.min(2)).mean()),
        float(red - (green + blue) / 2),
        float(green - (red + blue) / 2),
        float(blue - (red + green) / 2),
        float(laplacian.std() / (gray.std() + 1)) if laplacian.size else 0.0,
        float(frame.std()),
        float(frame.mean()),
        float(width * height),
        float(np.log(max(width, 1) / max(height, 1))),
    ]


def _open(data: bytes | None) -> Image.Image | None:
    if not data:
        return None
    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except OSError:  # a database filled by other tools may hold anything here
        return None
