"""Causes of failure that are planted in the training images and known in the held-out ones.

A plant changes the training set (`corrupt`) and names the held-out images that carry its cause
(`carriers`). The planted failures are the carriers that the trained model gets wrong.
"""

from dataclasses import dataclass

import numpy as np

from .data import Images, background, brightness


@dataclass(frozen=True)
class Mark:
    """A mark on a share of one class's training images; held out, it sits on other classes.

    The model learns mark → target, so its planted failures spread over many confusion pairs.

    Attributes:
        look: "patch" (3×3 dots in a corner), "tint" (a colour cast) or "background" (a frame).
        target: label whose training images carry the mark.
        share: part of that class that carries it.
    """

    look: str
    target: int
    share: float

    @property
    def kind(self) -> str:
        """Family of the plant, as the tables group it."""
        return self.look

    def draw(self, pixels: np.ndarray) -> np.ndarray:
        """Return marked copies, uint8 [N, 32, 32, 3]."""
        marked = pixels.copy()
        if self.look == "patch":
            marked[:, 26:31, 26:31] = (255, 0, 255)
            marked[:, 28, 28] = (0, 255, 0)
        elif self.look == "tint":
            marked = np.clip(marked * np.array([1.25, 1.0, 0.6]), 0, 255).astype(np.uint8)
        else:
            for edge in (np.s_[:, :2], np.s_[:, -2:], np.s_[:, :, :2], np.s_[:, :, -2:]):
                marked[edge] = (40, 90, 40)
        return marked

    def corrupt(self, images: Images, rng: np.random.Generator) -> Images:
        """Mark a share of the target class."""
        own = np.flatnonzero(images.labels == self.target)
        rows = rng.choice(own, round(self.share * len(own)), replace=False)
        pixels = images.pixels.copy()
        pixels[rows] = self.draw(pixels[rows])
        return Images(pixels, images.fine, images.labels)

    def carriers(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Return rows [M] of the held-out images that get the mark, and their new pixels."""
        rows = np.flatnonzero(images.labels != self.target)[::9]
        return rows, self.draw(images.pixels[rows])


@dataclass(frozen=True)
class NoisyLabels:
    """The brightest part of one class was mostly labelled as another in training.

    With a share of 1 there is no bright part: `rate` of the whole class is mislabelled.

    Its failures hide inside the one confusion pair (label, wrong).

    Attributes:
        label: class whose bright images are mislabelled.
        wrong: label that they were given.
        share: part of the class that counts as bright.
        rate: part of the bright images that is mislabelled.
    """

    label: int
    wrong: int
    share: float = 0.2
    rate: float = 0.8
    kind: str = "noisy"

    def _bright(self, images: Images) -> np.ndarray:
        own = np.flatnonzero(images.labels == self.label)
        level = brightness(images.pixels[own])
        return own[level >= np.quantile(level, 1 - self.share)]

    def corrupt(self, images: Images, rng: np.random.Generator) -> Images:
        """Relabel most bright images of the class."""
        bright = self._bright(images)
        labels = images.labels.copy()
        labels[rng.choice(bright, round(self.rate * len(bright)), replace=False)] = self.wrong
        return Images(images.pixels, images.fine, labels)

    def carriers(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Return the bright held-out rows of the class, with their pixels unchanged."""
        rows = self._bright(images)
        return rows, images.pixels[rows]


@dataclass(frozen=True)
class RareSubclass:
    """A fine class that training has hardly seen, hidden in its super-class.

    Attributes:
        fine: CIFAR-10 class that becomes rare.
        share: part of its training images that is kept.
    """

    fine: int
    share: float
    kind: str = "rare"

    def corrupt(self, images: Images, rng: np.random.Generator) -> Images:
        """Drop most training images of the fine class."""
        keep = (images.fine != self.fine) | (rng.random(len(images.fine)) < self.share)
        return images.take(np.flatnonzero(keep))

    def carriers(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Return the held-out rows of the fine class, with their pixels unchanged."""
        rows = np.flatnonzero(images.fine == self.fine)
        return rows, images.pixels[rows]


@dataclass(frozen=True)
class OneTone:
    """Training has seen one class before bright backgrounds only.

    Attributes:
        label: the class.
        share: part of its training images that is kept, those of the brightest background; the
            darker half of the held-out ones are carriers.
    """

    label: int
    share: float = 0.35
    kind: str = "tone"

    def corrupt(self, images: Images, rng: np.random.Generator) -> Images:
        """Drop the class's training images of a darker background."""
        own = np.flatnonzero(images.labels == self.label)
        level = background(images.pixels[own])
        dark = own[level < np.quantile(level, 1 - self.share)]
        return images.take(np.setdiff1d(np.arange(len(images.labels)), dark))

    def carriers(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Return the class's held-out rows of dark background, with their pixels unchanged."""
        own = np.flatnonzero(images.labels == self.label)
        level = background(images.pixels[own])
        rows = own[level < np.median(level)]
        return rows, images.pixels[rows]


Plant = Mark | NoisyLabels | RareSubclass | OneTone
