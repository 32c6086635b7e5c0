"""cleanvision's checks of images; needs the extra `audit`."""

import io
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from indexer.errors import SettingError

DARK, LIGHT, GRAYSCALE = "dark", "light", "grayscale"
BLURRY, LOW_INFORMATION = "blurry", "low_information"
ODD_SIZE, ODD_ASPECT_RATIO = "odd_size", "odd_aspect_ratio"
CHECKS = (DARK, LIGHT, BLURRY, LOW_INFORMATION, ODD_SIZE, ODD_ASPECT_RATIO, GRAYSCALE)
EXACT, NEAR = "exact_duplicates", "near_duplicates"
PASSES = 2
"""How often cleanvision looks at every image: for its properties, and for its hashes."""


@dataclass(frozen=True)
class ImageIssues:
    """What cleanvision says of n images.

    Attributes:
        scores: of each of `CHECKS`, float64 [n] in 0..1: 1 is fine, 0 the worst.
        flagged: of each of `CHECKS`, bool [n].
        exact: groups of images with the same pixels, as row numbers.
        near: groups of images with the same perceptual hash, of which no group is in `exact`.
    """

    scores: Mapping[str, np.ndarray]
    flagged: Mapping[str, np.ndarray]
    exact: tuple[tuple[int, ...], ...]
    near: tuple[tuple[int, ...], ...]


def load_imagelab() -> Any:
    """Return cleanvision's `Imagelab`; raises SettingError where a package for it is missing."""
    try:
        from cleanvision import Imagelab
    except ImportError as error:
        raise SettingError(
            f"cleanvision cannot be used ({error}): pip install 'failsearch[audit]'"
        ) from error
    return Imagelab


def check_images(images: Sequence[Image.Image]) -> ImageIssues:
    """Run all of cleanvision's checks with its own limits.

    Args:
        images: n > 0 of them, in RGB or gray ("L"); each is asked for `PASSES` times.

    Raises:
        SettingError: cleanvision or a package it needs is not installed.
    """
    imagelab = load_imagelab()
    # Its bars and lines are not ours; progress can be counted where the images are read.
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        lab = imagelab(torchvision_dataset=_Pairs(images), verbose=False)
        lab.find_issues(n_jobs=1, verbose=False)
    sets = {name: tuple(map(tuple, lab.info[name]["sets"])) for name in (EXACT, NEAR)}
    return ImageIssues(
        scores={name: lab.issues[f"{name}_score"].to_numpy(np.float64) for name in CHECKS},
        flagged={name: lab.issues[f"is_{name}_issue"].to_numpy(bool) for name in CHECKS},
        exact=sets[EXACT],
        near=sets[NEAR],
    )


class _Pairs:
    """Images as cleanvision takes them from torchvision: tuples that hold one."""

    def __init__(self, images: Sequence[Image.Image]) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> tuple[Image.Image]:
        return (self._images[row],)
