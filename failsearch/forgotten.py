"""What a copy of the model says of suspects after it has forgotten their labels."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from finetune.forgetting import forget
from finetune.inputs import IndexInputs, Inputs
from finetune.population import PLACES
from indexer.errors import AuditWarning
from indexer.images import IndexedImages
from indexer.progress import Progress, silent
from indexer.same_model import open_model
from indexer.schema import ID
from indexer.store import Store
from search.audit.copies import WHETHER

from .altered import BATCH, PAIRS, copies, trusted

KEPT = 0.25
"""The copy is asked if it knows at least this share of what the model knew beyond the most frequent
class: altered images are harder, but a copy that learnt nothing would say anything."""


class Forgetting:
    """Trains a copy of the model of an index without suspects, and asks it about them."""

    def __init__(self, store: Store, device: str = "cpu", progress: Progress = silent) -> None:
        self._store = store
        self._device = device
        self._progress = progress

    def __call__(self, suspects: Sequence[str], closely: int, mirror: bool) -> np.ndarray | None:
        """Return the copy's logits, see `answers`; None, with a warning, if it came to nothing.

        Args:
            suspects: ids, most suspicious first.
            closely: so many of them are asked about with all copies.
            mirror: whether mirrored images mean the same.

        Raises:
            SettingError: there are no other samples to learn from.
            DataError: an image can no longer be read.
            IncompatibleIndexError: the model is no longer the one of the index.
        """
        manifest = self._store.manifest
        loaded = open_model(self._store, self._device)
        table = self._store.read([ID, "label", "correct", *PLACES])
        row_of = {sample: row for row, sample in enumerate(table[ID].to_pylist())}
        config = manifest.transform
        found = answers(
            loaded.model,
            IndexInputs(
                IndexedImages(manifest, loaded.transform),
                table.select(PLACES),
                mean=config["mean"],
                std=config["std"],
            ),
            table["label"].to_numpy().astype(np.int64),
            np.asarray(table["correct"].to_numpy(), bool),
            np.array([row_of[sample] for sample in suspects], np.int64),
            closely=closely,
            mirror=mirror,
            progress=self._progress,
        )
        if found is None:
            warnings.warn(
                "a copy of the model learnt nothing from the samples that are not suspected: "
                "suspects are ranked without it, as with --deep",
                AuditWarning,
                stacklevel=2,
            )
        return found


def answers(
    model: nn.Module,
    inputs: Inputs,
    labels: np.ndarray,
    correct: np.ndarray,
    suspects: np.ndarray,
    *,
    closely: int,
    mirror: bool = True,
    progress: Progress = silent,
) -> np.ndarray | None:
    """Return what a copy of a model says of suspects after learning from all other samples.

    Args:
        model: in evaluation mode; it is left as it is.
        inputs: N images.
        labels: as given, int64 [N].
        correct: whether the model predicts them, bool [N].
        suspects: rows, most suspicious first, int64 [k].
        closely: so many of them are shown in all altered copies.
        mirror: whether mirrored images mean the same.
        progress: how the work is shown.

    Returns:
        logits float32 [1 + 2 len(PAIRS), k, C] for the images as they are and for the copies, NaN
        for those not shown or that mislead; None if the copy knows hardly anything.

    Raises:
        SettingError: there are no other samples to learn from.
    """
    others = np.setdiff1d(np.arange(len(labels)), suspects)
    washed = forget(model, inputs, labels, others, mirror=mirror, progress=progress)
    chance = np.bincount(labels[others]).max() / len(others)
    if washed.accuracy < chance + KEPT * (correct[others].mean() - chance):
        return None
    groups = ((suspects[:closely], len(PAIRS)), (suspects[closely:], WHETHER))
    said = []
    with progress("Asking again", len(suspects), 0) as tracker:
        for rows, pairs in groups:
            made = []
            for first in range(0, len(rows), BATCH):
                made.append(_ask(washed.model, inputs, rows[first : first + BATCH], pairs))
                tracker.advance(made[-1].shape[1])
            if made:
                said.append(_padded(np.concatenate(made, axis=1)))
    found = np.concatenate(said, axis=1)
    return found if np.isfinite(found[0]).all() else None


def _padded(said: np.ndarray) -> np.ndarray:
    """Return answers as of `_ask` without mirrored copies that mislead, NaN for further pairs."""
    pairs = [trusted(said[first : first + 2], said[0]) for first in range(1, len(said), 2)]
    left = np.full((1 + 2 * len(PAIRS) - len(said), *said.shape[1:]), np.nan, np.float32)
    return np.concatenate([said[:1], *pairs, left])


@torch.no_grad()
def _ask(model: nn.Module, inputs: Inputs, rows: np.ndarray, pairs: int) -> np.ndarray:
    """Return logits of images as they are, then of so many pairs of copies: [1 + 2 pairs, B, C]."""
    images = inputs.batch(rows).to(next(model.parameters()).device)
    plain = model(images).float().cpu().numpy()
    return np.concatenate([plain[None], *(copies(model, images, pair) for pair in range(pairs))])
