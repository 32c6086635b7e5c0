"""What the model of an index says of slightly altered copies of its samples."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from indexer.images import STORED, IndexedImages
from indexer.progress import Progress, silent
from indexer.same_model import open_model
from indexer.schema import LOGITS
from indexer.store import Store
from search.arrow import dense

BATCH = 64
MIRROR_TRUST = 0.6
"""Mirrored copies count where the model sees in them what it saw before, at least this often as
in those that are only shifted: a mirrored letter or digit is another one, or none."""


def shifted(images: Tensor, right: int, down: int) -> Tensor:
    """Move images [B, I, H, W] by sixteenths of their size; the edge is repeated."""
    height, width = images.shape[-2:]
    y, x = down * max(1, height // 16), right * max(1, width // 16)
    around = pad(images, (abs(x), abs(x), abs(y), abs(y)), mode="replicate")
    top, left = abs(y) - y, abs(x) - x
    return around[..., top : top + height, left : left + width]


def mirrored(images: Tensor) -> Tensor:
    """Swap left and right of images [B, I, H, W]."""
    return images.flip(-1)


SHIFTS = (((-1, -1), (-1, 1)), ((1, 1), (1, -1)), ((2, 0), (-2, 0)), ((0, 2), (0, -2)))
"""How far the two copies of each pair are shifted, right and down."""
PAIRS: tuple[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]], ...] = tuple(
    (
        lambda images, shift=plain: shifted(images, *shift),
        lambda images, shift=turned: mirrored(shifted(images, *shift)),
    )
    for plain, turned in SHIFTS
)
"""Copies that are shown together, the second one mirrored. A model that saw mirrored images in
training has not seen these, since all are shifted."""


class SecondLook:
    """Shows the model of an index shifted and mirrored copies of samples."""

    def __init__(self, store: Store, device: str = "cpu", progress: Progress = silent) -> None:
        self._store = store
        self._device = device
        self._progress = progress

    def __call__(self, ids: Sequence[str], pair: int) -> np.ndarray:
        """Return logits, float32 [2, n, C], of a pair of copies; NaN where mirroring misleads."""
        original = dense(self._store.take(ids, [LOGITS])[LOGITS])
        return trusted(self.logits(ids, pair), original)

    def logits(self, ids: Sequence[str], pair: int) -> np.ndarray:
        """Return logits, float32 [2, n, C], of a pair of copies of samples, the mirrored one last.

        Raises:
            DataError: an image can no longer be read.
            IncompatibleIndexError: the model is no longer the one of the index.
        """
        loaded = open_model(self._store, self._device)
        images = IndexedImages(self._store.manifest, loaded.transform)
        parts = []
        with self._progress("Looking again", len(ids), 0) as tracker:
            for first in range(0, len(ids), BATCH):
                rows = self._store.take(ids[first : first + BATCH], STORED)
                batch = images.tensor(rows).to(self._device)
                parts.append(copies(loaded.model, batch, pair))
                tracker.advance(len(rows))
        return np.concatenate(parts, axis=1)


@torch.no_grad()
def copies(model: torch.nn.Module, images: Tensor, pair: int) -> np.ndarray:
    """Return the logits of a pair of copies of images [B, I, H, W]: float32 [2, B, C]."""
    return np.stack([model(copy(images)).float().cpu().numpy() for copy in PAIRS[pair]])


def trusted(logits: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Leave out the mirrored copies, as NaN, where they mean something else to the model.

    Args:
        logits: of a pair of copies of samples, the mirrored one last, float32 [2, n, C].
        original: of the samples as they are, float32 [n, C].
    """
    agreement = (logits.argmax(2) == original.argmax(1)).mean(1)
    if agreement[1] >= MIRROR_TRUST * agreement[0]:
        return logits
    return np.stack([logits[0], np.full_like(logits[1], np.nan)])
