"""Profiles of a planted model's held-out images, computed once and kept beside its weights."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from indexer.filters import FilterLayout
from indexer.saliency.engine import SaliencyEngine
from indexer.saliency.layout import profile_layout

from .data import Images, load
from .plants import Plant
from .runs import RUNS, Run
from .training import to_tensor, trained

BATCH = 64
BACKGROUND = -1


@dataclass(frozen=True)
class Pool:
    """Held-out samples of one model: plain ones and the carriers of each plant.

    Attributes:
        run: the model.
        layout: columns of the profiles.
        raw: raw profiles, float32 [n, F].
        logits: float32 [n, C].
        embeddings: penultimate activations, float32 [n, E].
        labels: int64 [n].
        plant: number of the plant a sample carries in `plants`, -1 for none, int64 [n].
    """

    run: Run
    layout: FilterLayout
    raw: np.ndarray
    logits: np.ndarray
    embeddings: np.ndarray
    labels: np.ndarray
    plant: np.ndarray

    @property
    def plants(self) -> tuple[Plant, ...]:
        """The plants that samples may carry; an unplanted model never learnt them."""
        return plants_shown_to(self.run)

    @property
    def prediction(self) -> np.ndarray:
        """Predicted label, int64 [n]."""
        return self.logits.argmax(1)

    def planted_failures(self, plant: int) -> np.ndarray:
        """Return the rows that fail for the planted cause.

        A carrier that a mark or a label error sends to another class than the planted one fails
        for reasons of its own.
        """
        cause = self.plants[plant]
        to = getattr(cause, "target", getattr(cause, "wrong", None))
        wrong = (self.plant == plant) & (self.prediction != self.labels)
        return np.flatnonzero(wrong if to is None else wrong & (self.prediction == to))


def pool_of(run: Run, cifar: Path, cache: Path) -> Pool:
    """Return a run's pool, read from `cache` or computed (and its model trained) now."""
    path = cache / f"{run.name}.npz"
    model = trained(run, cifar, cache)
    layout = profile_layout(model)
    if not path.exists():
        images, plant, _ = held_out_images(run, cifar)
        engine = SaliencyEngine(model, layout)
        outputs = []
        x, y = to_tensor(images.pixels), torch.from_numpy(images.labels)
        for batch, labels in zip(x.split(BATCH), y.split(BATCH), strict=True):
            output = engine(batch, labels)
            outputs.append((output.profiles, output.logits, output.embeddings))
        raw, logits, embeddings = (torch.cat(part).numpy() for part in zip(*outputs, strict=True))
        np.savez(
            path, raw=raw, logits=logits, embeddings=embeddings, labels=images.labels, plant=plant
        )
    with np.load(path) as stored:
        return Pool(run, layout, **{name: stored[name] for name in stored.files})


def held_out_images(run: Run, cifar: Path) -> tuple[Images, np.ndarray, np.ndarray]:
    """Return held-out images, the carriers of every plant after the plain ones, and their plant.

    The third array says which plain image each was made of, int64 [n].

    An unplanted model is shown carriers too: what is found of them there is a false alarm.
    """
    test = load(cifar, "test", superclasses=run.superclasses)
    images = test.take(np.random.default_rng(0).permutation(len(test.labels))[: run.held_out])
    plants = plants_shown_to(run)
    natural = np.zeros(len(images.labels), bool)
    parts, marks, origins = [], [], []
    for number, plant in enumerate(plants):
        rows, pixels = plant.carriers(images)
        if plant.kind in ("rare", "noisy", "tone"):  # such samples are carriers wherever they occur
            natural[rows] = True
        parts.append(Images(pixels, images.fine[rows], images.labels[rows]))
        marks.append(np.full(len(rows), number))
        origins.append(rows)
    plain = images.take(np.flatnonzero(~natural))
    everything = [plain, *parts]
    joined = Images(
        *(np.concatenate([getattr(p, n) for p in everything]) for n in ("pixels", "fine", "labels"))
    )
    numbers = np.concatenate([np.full(len(plain.labels), BACKGROUND), *marks])
    return joined, numbers, np.concatenate([np.flatnonzero(~natural), *origins])


def plants_shown_to(run: Run) -> tuple[Plant, ...]:
    """Return the run's own plants; for an unplanted one those of the first run with its task."""
    return next(r.plants for r in (run, *RUNS) if r.plants and r.superclasses == run.superclasses)
