"""The model of an index opened for explanations, and the images that it looks at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from indexer.classes import ClassMap
from indexer.errors import SettingError
from indexer.images import STORED, IndexedImages, open_picture, pixel_limit
from indexer.models import LoadedModel
from indexer.saliency.matching import Standardizer
from indexer.same_model import open_model
from search.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from indexer.store import Store


@dataclass(frozen=True, eq=False)
class Subject:
    """One image as the model sees it, with its true class.

    Attributes:
        id: of the sample, or the name of the file.
        label: index of the true class.
        pixels: the model's view before normalization, float32 [I, H, W] in [0, 1].
    """

    id: str
    label: int
    pixels: np.ndarray

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.dtype != np.float32:
            raise ValueError(f"pixels of {self.pixels.dtype} {self.pixels.shape}")

    @property
    def view(self) -> Image.Image:
        """The model's view as an RGB picture."""
        return to_image(self.pixels)


class Bench:
    """An index and its model, loaded once for any number of explanations.

    Attributes:
        store: the index.
        manifest: what it was made with.
        layout: units of a profile.
        classes: class names by model output.
        model: in eval mode, on `device`.
        standardize: raw to stored profiles, with the statistics of the index.
    """

    def __init__(
        self,
        store: Store,
        device: str | torch.device = "cpu",
        *,
        loaded: LoadedModel | None = None,
    ) -> None:
        self.store = store
        self.manifest = store.manifest
        self.layout = self.manifest.layout
        self.classes = self.manifest.classes
        self.device = torch.device(device)
        # A server that needs the model elsewhere too has it loaded already.
        self._loaded = loaded or open_model(store, self.device)
        self.model = self._loaded.model
        self.standardize = Standardizer.of(store.statistics, self.manifest.signed, self.device)
        # The view is what the transform leaves of the image, before it is normalized.
        config = self.manifest.transform
        self.mean = np.asarray(config["mean"], np.float32)[:, None, None]
        self.std = np.asarray(config["std"], np.float32)[:, None, None]

    @cached_property
    def images(self) -> IndexedImages:
        """The images behind the samples of the index."""
        return IndexedImages(self.manifest, self._loaded.transform)

    def samples(self, ids: Sequence[str]) -> list[Subject]:
        """Load samples of the index; raises UnknownSampleError and DataError."""
        snapshot(self.store).positions(ids)  # which knows what an id may stand for instead
        rows = self.store.take(ids, ["id", "label", *STORED])
        tensors = self.images.tensor(rows)
        return [
            Subject(id, label, self._to_pixels(tensor))
            for id, label, tensor in zip(
                rows["id"].to_pylist(), rows["label"].to_pylist(), tensors, strict=True
            )
        ]

    def image(self, image: Image.Image | str | Path, label: str | int) -> Subject:
        """Load an image that is not in the index.

        Raises:
            DataError: the file cannot be read.
            ClassMapError: no such class.
        """
        picture, name = open_picture(image, max_pixels=pixel_limit(self.manifest))
        return Subject(name, self.class_index(label), self._to_view(picture))

    def pixels_of(self, image: Image.Image | str | Path) -> np.ndarray:
        """Return the model's view of a picture or file, float32 [I, H, W] in [0, 1]."""
        return self._to_view(open_picture(image, max_pixels=pixel_limit(self.manifest))[0])

    def class_index(self, label: str | int) -> int:
        """Return the output of a class given by name or by number; raises ClassMapError."""
        return ClassMap(self.classes).output_of(str(label))

    def normalize(self, pixels: np.ndarray) -> Tensor:
        """Turn pixels [B, I, H, W] into the model's input on its device."""
        return torch.from_numpy((pixels - self.mean) / self.std).to(self.device)

    @torch.inference_mode()
    def probabilities(self, pixels: np.ndarray, batch: int = 64) -> np.ndarray:
        """Return class probabilities, float64 [B, C], of pixels [B, I, H, W]."""
        parts = [
            self.model(self.normalize(pixels[start : start + batch])).double().softmax(1)
            for start in range(0, len(pixels), batch)
        ]
        return torch.cat(parts).cpu().numpy()

    def _to_view(self, picture: Image.Image) -> np.ndarray:
        return self._to_pixels(self._loaded.transform(picture))

    def _to_pixels(self, tensor: Tensor) -> np.ndarray:
        # The view is a uint8 picture: what leaves [0, 1] here is rounding.
        # In one memory layout, however it was made: sums of convolutions depend on the layout.
        return (tensor.numpy() * self.std + self.mean).clip(0, 1).astype(np.float32, order="C")


def to_image(pixels: np.ndarray) -> Image.Image:
    """Return pixels [I, H, W] in [0, 1] as an RGB picture; one channel becomes gray."""
    values = np.round(pixels.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    return Image.fromarray(values.repeat(3, axis=2) if values.shape[2] == 1 else values)


def one_subject(
    bench: Bench,
    sample: str | None,
    image: Image.Image | str | Path | None,
    label: str | int | None,
) -> Subject:
    """Return the subject of a request: either a sample, or an image together with its label.

    Raises:
        SettingError: both or neither are given, or an image without a label, or the other way
            round.
    """
    if (sample is None) == (image is None):
        raise SettingError("give either the id of a sample, or an image and its label")
    if sample is not None:
        if label is not None:
            raise SettingError("a label goes with an image: drop it to explain a sample")
        return bench.samples([sample])[0]
    if label is None or image is None:
        raise SettingError("an image needs its true class: give a label")
    return bench.image(image, label)
