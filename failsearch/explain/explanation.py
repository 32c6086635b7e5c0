"""The result of an explanation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from indexer.durability import disk_errors, replace_file

if TYPE_CHECKING:
    from PIL import Image

    from indexer.filters import FilterLayout

    from .paste import Paste
    from .what_if import WhatIf


@dataclass(frozen=True)
class SalientFilter:
    """One of the filters that an explanation is about.

    Attributes:
        layer: name of the layer.
        filter: index within the layer.
        column: of the profile.
        standardized: entry of the standardized profile.
        raw: mean absolute loss gradient over the filter's weights.
        percentile: share of the indexed samples with a smaller standardized entry, in percent.
        modes: ids of the failure modes that name the filter among theirs.
    """

    layer: str
    filter: int
    column: int
    standardized: float
    raw: float
    percentile: float
    modes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Explanation:
    """Which filters and which pixels are behind the loss of one image.

    Attributes:
        id: of the sample, or the name of the image file.
        label: index of the true class.
        classes: class names by model output.
        probabilities: float64 [C].
        filters: the boosted filters, most salient first.
        distance: cosine distance of the profile to its boosted version.
        heatmap: float32 [H, W], sum over channels of |d distance / d pixel|.
        gradient: the derivative itself, by pixels in [0, 1], float32 [I, H, W].
        pixels: the model's view, float32 [I, H, W] in [0, 1].
        profile: standardized, float32 [F].
        raw: raw profile, float32 [F].
        layout: columns of the profile.
        what_if: what masking changes, where it was asked for.
        paste: what pasting changes, where it was asked for.
    """

    id: str
    label: int
    classes: tuple[str, ...]
    probabilities: np.ndarray
    filters: tuple[SalientFilter, ...]
    distance: float
    heatmap: np.ndarray
    gradient: np.ndarray
    pixels: np.ndarray
    profile: np.ndarray
    raw: np.ndarray
    layout: FilterLayout
    what_if: WhatIf | None = None
    paste: Paste | None = None

    def __post_init__(self) -> None:
        if self.gradient.shape != self.pixels.shape or self.heatmap.shape != self.pixels.shape[1:]:
            raise ValueError(
                f"heat-map {self.heatmap.shape}, gradient {self.gradient.shape} and pixels "
                f"{self.pixels.shape} do not fit together"
            )
        if not len(self.profile) == len(self.raw) == len(self.layout):
            raise ValueError("profile and layout differ in length")

    @property
    def prediction(self) -> int:
        """Index of the predicted class."""
        return int(self.probabilities.argmax())

    @property
    def label_name(self) -> str:
        """Name of the true class."""
        return self.classes[self.label]

    @property
    def prediction_name(self) -> str:
        """Name of the predicted class."""
        return self.classes[self.prediction]

    @property
    def view(self) -> Image.Image:
        """The model's view as an RGB picture."""
        from .subjects import to_image

        return to_image(self.pixels)

    def overlay(self) -> Image.Image:
        """Return the heat-map over the grayed view, in the view's size or a whole multiple."""
        from .plots import overlay

        return overlay(self.view, self.heatmap)

    def panel(self) -> Image.Image:
        """Return image, heat-map and saliency profile in one picture, as the paper's Figure 1."""
        from .plots import panel

        return panel(self)

    def summary(self) -> list[str]:
        """Return what masking and pasting changed, a line each."""
        parts = [part for part in (self.what_if, self.paste) if part is not None]
        return [line for part in parts for line in part.summary()]

    def to_json(self) -> dict[str, Any]:
        """Return everything but the arrays, JSON-ready."""
        order = np.argsort(-self.probabilities, kind="stable")[:5]
        return {
            "id": self.id,
            "label": self.label,
            "label_name": self.label_name,
            "prediction": self.prediction,
            "prediction_name": self.prediction_name,
            "probabilities": [
                {"class": self.classes[c], "probability": float(self.probabilities[c])}
                for c in order
            ],
            "distance": self.distance,
            "filters": [asdict(item) for item in self.filters],
            "what_if": self.what_if.to_json() if self.what_if else None,
            "paste": self.paste.to_json() if self.paste else None,
        }

    def save(self, folder: str | Path) -> list[Path]:
        """Write panel.png and arrays.npz, what-if.png and paste.png where there are any.

        Args:
            folder: made where it does not exist.

        Returns:
            The files written.

        Raises:
            StoreError: a file cannot be written.
        """
        folder = Path(folder)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            pictures = {"panel.png": self.panel()}
            if self.what_if is not None:
                pictures["what-if.png"] = self.what_if.picture()
            if self.paste is not None:
                pictures["paste.png"] = self.paste.picture()
            for name, picture in pictures.items():
                with replace_file(folder / name) as file:
                    picture.save(file, "PNG")
            with replace_file(folder / "arrays.npz") as file:
                np.savez_compressed(
                    file,
                    heatmap=self.heatmap,
                    gradient=self.gradient,
                    pixels=self.pixels,
                    profile=self.profile,
                    raw=self.raw,
                    probabilities=self.probabilities,
                    columns=np.array([item.column for item in self.filters]),
                )
        return [folder / name for name in (*pictures, "arrays.npz")]
