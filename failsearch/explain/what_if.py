"""What the model says when a region is taken away, beside controls of the same area."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .fills import fill_each
from .regions import least_salient_region, random_regions

if TYPE_CHECKING:
    from PIL import Image

    from .settings import ExplainSettings
    from .subjects import Bench, Subject


@dataclass(frozen=True, eq=False)
class Masked:
    """The outcome of filling one region, or of several random ones.

    Attributes:
        region: what was filled: "salient 5 %", "boxes", "least salient" or "random".
        control_for: name of the region whose area a control has; None for the region itself.
        area: share of the pixels.
        probabilities: mean over the images, float64 [C].
        deviation: unbiased standard deviation over random regions, float64 [C]; None for one.
        flipped: share of the images predicted as the true class.
        pixels: one of the filled images, float32 [I, H, W].
    """

    region: str
    control_for: str | None
    area: float
    probabilities: np.ndarray
    deviation: np.ndarray | None
    flipped: float
    pixels: np.ndarray


@dataclass(frozen=True, eq=False)
class WhatIf:
    """Class probabilities before and after filling regions of an image.

    Attributes:
        classes: class names by model output.
        label: index of the true class.
        before: class probabilities of the untouched image, float64 [C].
        pixels: of the untouched image.
        fill: what the regions were filled with.
        rows: each region, followed by its controls.
    """

    classes: tuple[str, ...]
    label: int
    before: np.ndarray
    pixels: np.ndarray
    fill: str
    rows: tuple[Masked, ...]

    def __post_init__(self) -> None:
        if not self.rows:
            raise ValueError("a what-if needs a region")

    @property
    def prediction(self) -> int:
        """Index of the class predicted for the untouched image."""
        return int(self.before.argmax())

    def summary(self) -> list[str]:
        """Return the probability of the true class, before and after, a line per region."""
        name = self.classes[self.label]
        lines = [f"P({name}) is {self.before[self.label]:.3f}; filled with {self.fill}:"]
        for row in self.rows:
            spread = "" if row.deviation is None else f" ± {row.deviation[self.label]:.3f}"
            after = row.probabilities[self.label]
            change = after - self.before[self.label]
            lines.append(
                f"  {row.region} ({100 * row.area:.3g} % of the pixels): {after:.3f}{spread} "
                f"({change:+z.3f})"
            )
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return probabilities of all classes, JSON-ready."""
        return {
            "fill": self.fill,
            "before": self._named(self.before),
            "regions": [
                {
                    "region": row.region,
                    "control_for": row.control_for,
                    "area": row.area,
                    "after": self._named(row.probabilities),
                    "deviation": None if row.deviation is None else self._named(row.deviation),
                    "flipped": row.flipped,
                }
                for row in self.rows
            ],
        }

    def picture(self) -> Image.Image:
        """Return the image before and after each filling, with its probabilities."""
        from ..montage import montage
        from .subjects import to_image

        def caption(title: str, probabilities: np.ndarray) -> list[str]:
            shown = dict.fromkeys((self.label, self.prediction))
            return [title, *(f"{self.classes[c]} {probabilities[c]:.3f}" for c in shown)]

        entries = [(to_image(self.pixels), caption("before", self.before))]
        entries += [
            (to_image(row.pixels), caption(row.region, row.probabilities)) for row in self.rows
        ]
        return montage(entries, columns=4, highlight=0, title=f"Filled with {self.fill}")

    def _named(self, values: np.ndarray) -> dict[str, float]:
        return dict(zip(self.classes, values.tolist(), strict=True))


def what_if(
    bench: Bench,
    subject: Subject,
    heat: np.ndarray,
    regions: Mapping[str, np.ndarray],
    settings: ExplainSettings,
) -> WhatIf:
    """Fill each region, its least salient counterpart and random ones, and ask the model.

    Args:
        bench: the opened model.
        subject: the image.
        heat: its heat-map [H, W].
        regions: bool [H, W] by name.
        settings: fill, number of random regions and seed.
    """
    random = np.random.default_rng(settings.seed)
    variants: list[tuple[str, str | None, float, np.ndarray]] = []
    for name, region in regions.items():
        area = float(region.mean())
        masks = {
            name: [region],
            "least salient": [least_salient_region(heat, int(region.sum()))],
            "random": random_regions(region, settings.controls, random),
        }
        for variant, chosen in masks.items():
            filled = fill_each(subject.pixels, chosen, settings.fill, random)
            variants.append((variant, None if variant == name else name, area, filled))
    # Everything in one pass of the model: a person waits for the answer with the brush in hand.
    images = [subject.pixels[None], *(filled for _, _, _, filled in variants)]
    ends = np.cumsum([len(part) for part in images])[:-1]
    (before,), *answers = np.split(bench.probabilities(np.concatenate(images)), ends)
    rows = [
        Masked(
            region=variant,
            control_for=control_for,
            area=area,
            probabilities=after.mean(axis=0),
            deviation=after.std(axis=0, ddof=1) if len(after) > 1 else None,
            flipped=float((after.argmax(axis=1) == subject.label).mean()),
            pixels=filled[0],
        )
        for (variant, control_for, area, filled), after in zip(variants, answers, strict=True)
    ]
    return WhatIf(bench.classes, subject.label, before, subject.pixels, settings.fill, tuple(rows))
