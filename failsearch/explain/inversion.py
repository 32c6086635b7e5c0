"""Recover an image from the stored profile of a sample, and say how well."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from indexer.durability import disk_errors, replace_file
from indexer.errors import SettingError, UnknownSampleError
from indexer.saliency.inversion import Descent, invert_profile
from indexer.saliency.matching import matching_distance
from indexer.schema import PROFILE

from ..montage import montage
from .quality import psnr, ssim
from .subjects import to_image

if TYPE_CHECKING:
    from PIL import Image

    from indexer.progress import Progress

    from .settings import InvertSettings
    from .subjects import Bench


@dataclass(frozen=True, eq=False)
class Inversion:
    """An image recovered from a profile.

    Attributes:
        id: of the sample whose profile was inverted.
        distance: cosine distance of the recovered image's profile to the stored one.
        distances: float64 [steps], at each step.
        psnr: of the recovered image against the original, in dB.
        ssim: likewise, at most 1.
        start_psnr: of the image it started from.
        start_ssim: likewise.
        pixels: the recovered image, float32 [I, H, W] in [0, 1].
        original: the model's view of the sample, float32 [I, H, W].
        frames: (step, pixels) on the way.
    """

    id: str
    distance: float
    distances: np.ndarray
    psnr: float
    ssim: float
    start_psnr: float
    start_ssim: float
    pixels: np.ndarray
    original: np.ndarray
    frames: tuple[tuple[int, np.ndarray], ...]

    def __post_init__(self) -> None:
        if self.pixels.shape != self.original.shape or not self.frames:
            raise ValueError("an inversion has frames, and an image of the original's shape")

    @property
    def steps(self) -> int:
        """Steps taken."""
        return len(self.distances)

    @property
    def image(self) -> Image.Image:
        """The recovered image."""
        return to_image(self.pixels)

    def strip(self) -> Image.Image:
        """Return the way from the start to the recovered image, and the original beside it."""
        entries = [
            (to_image(pixels), [f"step {step}", f"distance {self.distances[step]:.4f}"])
            for step, pixels in self.frames
        ]
        entries.append((to_image(self.original), ["original"]))
        return montage(entries, columns=len(entries), tile=112, highlight=len(entries) - 1)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the images, JSON-ready."""
        return {
            "id": self.id,
            "distance": self.distance,
            "start_distance": float(self.distances[0]),
            "steps": self.steps,
            "psnr": self.psnr,
            "ssim": self.ssim,
            "start_psnr": self.start_psnr,
            "start_ssim": self.start_ssim,
            "distances": self.distances.tolist(),
        }

    def save(self, folder: str | Path) -> list[Path]:
        """Write strip.png, recovered.png and arrays.npz into a folder and return the files.

        Raises:
            StoreError: a file cannot be written.
        """
        folder = Path(folder)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            pictures = {"strip.png": self.strip(), "recovered.png": self.image}
            for name, picture in pictures.items():
                with replace_file(folder / name) as file:
                    picture.save(file, "PNG")
            with replace_file(folder / "arrays.npz") as file:
                np.savez_compressed(
                    file, pixels=self.pixels, original=self.original, distances=self.distances
                )
        return [folder / name for name in (*pictures, "arrays.npz")]


def invert_sample(
    bench: Bench,
    sample: str,
    start: Image.Image | str | Path,
    settings: InvertSettings,
    progress: Progress,
) -> Inversion:
    """Recover an image from the stored profile of a sample.

    Args:
        bench: the opened index.
        sample: id.
        start: "noise", the id of a sample, or a picture or file.
        settings: steps, step size, patience, frames, seed.
        progress: where steps are reported.

    Raises:
        UnknownSampleError: no such sample.
        SettingError: the start is neither noise, a sample nor a file.
    """
    (subject,) = bench.samples([sample])
    stored = bench.store.take([sample], [PROFILE]).column(0).combine_chunks()
    target = torch.from_numpy(stored.flatten().to_numpy(zero_copy_only=False).astype(np.float64))
    first = _start(bench, start, subject.pixels.shape, settings.seed)
    with progress(f"Inverting {sample}", settings.steps, 0) as tracker:
        descent = invert_profile(
            bench.model,
            bench.layout,
            matching_distance(bench.standardize, target[None].to(bench.device)),
            torch.tensor([subject.label], device=bench.device),
            torch.from_numpy(first)[None].to(bench.device),
            mean=torch.from_numpy(bench.mean).to(bench.device),
            std=torch.from_numpy(bench.std).to(bench.device),
            steps=settings.steps,
            lr=settings.lr,
            patience=settings.patience,
            tolerance=settings.tolerance,
            on_step=lambda step, distance: tracker.advance(1),
        )
    recovered = _array(descent.pixels)
    return Inversion(
        id=sample,
        distance=descent.distances[descent.best],
        distances=np.array(descent.distances),
        psnr=psnr(recovered, subject.pixels),
        ssim=ssim(recovered, subject.pixels),
        start_psnr=psnr(first, subject.pixels),
        start_ssim=ssim(first, subject.pixels),
        pixels=recovered,
        original=subject.pixels,
        frames=_pick_frames(descent, settings.frames),
    )


def _start(
    bench: Bench, start: Image.Image | str | Path, shape: tuple[int, ...], seed: int
) -> np.ndarray:
    if not isinstance(start, (str, Path)):
        return bench.pixels_of(start)
    if start == "noise":
        return np.random.default_rng(seed).random(shape, dtype=np.float32)
    if Path(start).is_file():
        return bench.pixels_of(start)
    try:
        return bench.samples([str(start)])[0].pixels
    except UnknownSampleError as error:
        raise SettingError(
            f"start {str(start)!r}: give noise, the id of a sample, or an image file"
        ) from error


def _pick_frames(descent: Descent, count: int) -> tuple[tuple[int, np.ndarray], ...]:
    """Choose frames evenly; those of a descent are spaced geometrically."""
    chosen = np.unique(np.linspace(0, len(descent.frames) - 1, count).round().astype(int))
    return tuple((descent.frames[index][0], _array(descent.frames[index][1])) for index in chosen)


def _array(pixels: torch.Tensor) -> np.ndarray:
    return pixels[0].cpu().numpy().astype(np.float32)
