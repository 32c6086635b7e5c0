"""What is put in place of masked pixels. Pure numpy on pixels [I, H, W] in [0, 1]."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.linalg import factorized

BLUR = 1 / 10
"""Standard deviation of the blur, as a share of the longer side: shapes go, tones stay."""


def fill(
    pixels: np.ndarray, region: np.ndarray, kind: str, random: np.random.Generator
) -> np.ndarray:
    """Return a copy of an image with a region replaced.

    Args:
        pixels: float32 [I, H, W] in [0, 1].
        region: bool [H, W].
        kind: "mean" (of the image, per channel), "blur" (a strongly blurred version), "noise"
            (normal, with the image's mean and deviation per channel), or "inpaint" (the smoothest
            continuation of the surroundings: Laplace's equation).
        random: for the noise.
    """
    return np.where(region, _content(pixels, region, kind, random), pixels).astype(np.float32)


def fill_each(
    pixels: np.ndarray, regions: Sequence[np.ndarray], kind: str, random: np.random.Generator
) -> np.ndarray:
    """Return one copy of an image for each region, that region replaced: float32 [K, I, H, W].

    Arguments as those of `fill`; what does not depend on the region is computed once.
    """
    if kind in ("mean", "blur"):
        content = _content(pixels, regions[0], kind, random)
        return np.where(np.stack(regions)[:, None], content, pixels).astype(np.float32)
    return np.stack([fill(pixels, region, kind, random) for region in regions])


def _content(
    pixels: np.ndarray, region: np.ndarray, kind: str, random: np.random.Generator
) -> np.ndarray:
    mean = pixels.mean(axis=(1, 2), keepdims=True)
    if kind == "mean":
        return mean
    if kind == "blur":
        width = BLUR * max(region.shape)
        return np.stack([gaussian_filter(channel, width, mode="reflect") for channel in pixels])
    if kind == "noise":
        deviation = pixels.std(axis=(1, 2), keepdims=True)
        return (mean + deviation * random.standard_normal(pixels.shape)).clip(0, 1)
    return inpaint(pixels, region)


def inpaint(pixels: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Continue an image into a region so that each pixel is the mean of its neighbours.

    Solves Laplace's equation with the surroundings as the boundary; at the border of the image
    a pixel has three or two neighbours.

    Args:
        pixels: [I, H, W].
        region: bool [H, W]; where it covers everything, the mean is returned.

    Returns:
        The image with the region filled, float64 [I, H, W].
    """
    inside = np.flatnonzero(region)
    if not len(inside) or len(inside) == region.size:
        return np.broadcast_to(pixels.mean(axis=(1, 2), keepdims=True), pixels.shape).copy()
    adjacency = _grid(region.shape)
    rows = adjacency[inside]
    degrees = diags_array(rows.sum(axis=1))
    solve = factorized((degrees - rows[:, inside]).tocsc())
    flat = pixels.reshape(len(pixels), -1).astype(np.float64)
    known = np.where(region.ravel(), 0.0, flat)
    flat[:, inside] = [solve(rows @ channel) for channel in known]
    return flat.reshape(pixels.shape)


def _grid(shape: tuple[int, int]) -> csr_array:
    """Return the adjacency matrix of a grid of pixels with four neighbours."""
    number = np.arange(shape[0] * shape[1]).reshape(shape)
    first = np.concatenate([number[:, :-1].ravel(), number[:-1].ravel()])
    second = np.concatenate([number[:, 1:].ravel(), number[1:].ravel()])
    ends = (np.concatenate([first, second]), np.concatenate([second, first]))
    size = number.size
    return coo_array((np.ones(2 * len(first)), ends), (size, size)).tocsr()
