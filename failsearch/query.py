"""Profiles under the model of an index: of new images, and of samples with other labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from indexer.classes import ClassMap
from indexer.images import STORED, IndexedImages, open_picture, pixel_limit
from indexer.models import LoadedModel
from indexer.profiling import Profiler, collect, engine_of
from indexer.same_model import open_model
from indexer.scoring import score
from indexer.statistics import standardize
from indexer.store import Store
from search.results import Sample

BATCH = 32


class ImageProfiler:
    """Profiles images under the model of an index, standardized with the index's statistics."""

    def __init__(
        self, store: Store, device: str = "cpu", *, loaded: LoadedModel | None = None
    ) -> None:
        self._manifest = store.manifest
        self._statistics = store.statistics
        self.loaded = loaded or open_model(store, device)
        self._profiler = Profiler(engine_of(self._manifest, self.loaded.model), BATCH)

    def profiles(self, pixels: torch.Tensor, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return standardized profiles, float32 [B, F], and logits, float32 [B, C]."""
        found = collect(self._profiler(pixels, torch.from_numpy(labels)))
        return standardize(found.raw, self._statistics, self._manifest.signed), found.logits

    def __call__(self, image: Path | Image.Image, label: str | int) -> tuple[np.ndarray, Sample]:
        """Return the standardized profile, float32 [F], and the image as a sample.

        Raises:
            DataError: the image cannot be read.
            ClassMapError: the model has no such class.
        """
        picture, name = open_picture(image, max_pixels=pixel_limit(self._manifest))
        target = ClassMap(self._manifest.classes).output_of(str(label))
        profiles, logits = self.profiles(self.loaded.transform(picture)[None], np.array([target]))
        scores = score(logits, np.array([target]))
        names = self._manifest.classes
        prediction = int(scores.prediction[0])
        return profiles[0], Sample(
            id=name,
            label=target,
            prediction=prediction,
            label_name=names[target],
            prediction_name=names[prediction],
            correct=bool(scores.correct[0]),
            confidence=float(scores.confidence[0]),
            label_probability=float(scores.label_probability[0]),
            loss=float(scores.loss[0]),
            margin=float(scores.margin[0]),
            entropy=float(scores.entropy[0]),
            top_classes=tuple(int(c) for c in scores.top_classes[0]),
            top_probabilities=tuple(float(p) for p in scores.top_probabilities[0]),
            width=picture.width,
            height=picture.height,
        )


class SampleRelabeler:
    """Profiles stored samples as if they had other labels: the evidence of label errors."""

    def __init__(self, store: Store, device: str = "cpu") -> None:
        self._store = store
        self._profiler = ImageProfiler(store, device)
        self._images = IndexedImages(store.manifest, self._profiler.loaded.transform)

    def __call__(self, ids: Sequence[str], labels: np.ndarray) -> np.ndarray:
        """Return standardized profiles, float32 [n, F], of samples under labels int64 [n]."""
        parts = [np.empty((0, len(self._store.manifest.layout)), np.float32)]
        for first in range(0, len(ids), BATCH):
            chosen = slice(first, first + BATCH)
            pixels = self._images.tensor(self._store.take(ids[chosen], STORED))
            parts.append(self._profiler.profiles(pixels, labels[chosen])[0])
        return np.concatenate(parts)
