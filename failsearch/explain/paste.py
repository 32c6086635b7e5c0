"""The salient region of a failure pasted onto other images (the paper's Figure 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from indexer.errors import SettingError
from search.predicates import Filter, to_sql

from .regions import least_salient_region, random_regions

if TYPE_CHECKING:
    from PIL import Image

    from .settings import ExplainSettings
    from .subjects import Bench, Subject


@dataclass(frozen=True, eq=False)
class Pasted:
    """What pasting one kind of region did to all images.

    Attributes:
        region: name of the pasted region, "least salient" or "random".
        before: probability of the wrong class before, float64 [n].
        after: and after, float64 [n].
        flipped: bool [n], whether the wrong class is now predicted.
    """

    region: str
    before: np.ndarray
    after: np.ndarray
    flipped: np.ndarray

    @property
    def moved(self) -> int:
        """How many images became more probable as the wrong class."""
        return int((self.after > self.before).sum())

    @property
    def change(self) -> float:
        """Mean change of the probability of the wrong class."""
        return float((self.after - self.before).mean())

    @property
    def deviation(self) -> float:
        """Unbiased standard deviation of that change over images; 0 for a single one."""
        changes = self.after - self.before
        return float(changes.std(ddof=1)) if len(changes) > 1 else 0.0


@dataclass(frozen=True, eq=False)
class Paste:
    """Whether a region carries the mistake to other images.

    Attributes:
        onto: class of the images.
        wrong: class that the source image was taken for.
        area: share of the pixels that was pasted.
        ids: the images, all correctly classified before.
        rows: the region, the least salient one of its size, random ones.
        pictures: images with the region pasted, float32 [n, I, H, W], at most 8.
    """

    onto: str
    wrong: str
    area: float
    ids: tuple[str, ...]
    rows: tuple[Pasted, ...]
    pictures: np.ndarray

    def summary(self) -> list[str]:
        """Return how the images moved, a line per kind of region."""
        lines = [
            f"pasted onto {len(self.ids)} images of {self.onto} "
            f"({100 * self.area:.3g} % of the pixels), P({self.wrong}):"
        ]
        lines += [
            f"  {row.region}: {row.moved} of {len(row.after)} rise, {row.change:+z.3f} "
            f"± {row.deviation:.3f}, {int(row.flipped.sum())} are now taken for {self.wrong}"
            for row in self.rows
        ]
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the figures, JSON-ready."""
        return {
            "onto": self.onto,
            "wrong": self.wrong,
            "area": self.area,
            "images": len(self.ids),
            "regions": [
                {
                    "region": row.region,
                    "moved": row.moved,
                    "change": row.change,
                    "deviation": row.deviation,
                    "flipped": int(row.flipped.sum()),
                }
                for row in self.rows
            ],
        }

    def picture(self) -> Image.Image:
        """Return some of the pasted images with the probability of the wrong class."""
        from ..montage import montage
        from .subjects import to_image

        chosen = self.rows[0]
        entries = [
            (to_image(pixels), [f"{self.wrong} {before:.3f} → {after:.3f}"])
            for pixels, before, after in zip(
                self.pictures, chosen.before, chosen.after, strict=False
            )
        ]
        return montage(entries, columns=4, title=f"Pasted onto {self.onto}")


def paste_onto(
    bench: Bench,
    subject: Subject,
    heat: np.ndarray,
    region: np.ndarray,
    settings: ExplainSettings,
    name: str = "salient",
) -> Paste:
    """Paste a region of a failure, in place, onto correctly classified images of a class.

    Args:
        bench: the opened index.
        subject: a misclassified image.
        heat: its heat-map [H, W].
        region: bool [H, W], what is pasted.
        settings: class to paste onto, how many images, and the seed of the random regions.
        name: of the region.

    Raises:
        SettingError: the image is classified correctly, as the class to paste onto, or the index
            has no correctly classified image of that class.
    """
    wrong = int(bench.probabilities(subject.pixels[None])[0].argmax())
    if wrong == subject.label:
        raise SettingError(
            f"{subject.id} is classified correctly: paste from a misclassified image"
        )
    onto = bench.class_index(settings.paste_onto if settings.paste_onto is not None else "")
    if onto == wrong:
        raise SettingError(
            f"{subject.id} is taken for {bench.classes[wrong]}: paste onto another class"
        )
    where = to_sql([Filter("label", "=", onto), Filter("correct", "=", True)])
    known = bench.store.read(["id"], where, limit=settings.paste_images + 1)["id"].to_pylist()
    ids = [id for id in known if id != subject.id][: settings.paste_images]
    if not ids:
        raise SettingError(f"the index has no correctly classified image of {bench.classes[onto]}")
    images = np.stack([target.pixels for target in bench.samples(ids)])
    random = np.random.default_rng(settings.seed)
    regions = {
        name: [region] * len(images),
        "least salient": [least_salient_region(heat, int(region.sum()))] * len(images),
        # A region for each image: their spread is that of images and of regions at once.
        "random": random_regions(region, len(images), random),
    }
    before = bench.probabilities(images)[:, wrong]
    rows, pictures = [], images
    for one, masks in regions.items():
        pasted = np.where(np.stack(masks)[:, None], subject.pixels, images)
        after = bench.probabilities(pasted)
        rows.append(Pasted(one, before, after[:, wrong], after.argmax(axis=1) == wrong))
        pictures = pasted if one == name else pictures
    return Paste(
        onto=bench.classes[onto],
        wrong=bench.classes[wrong],
        area=float(region.mean()),
        ids=tuple(ids),
        rows=tuple(rows),
        pictures=pictures[:8],
    )
