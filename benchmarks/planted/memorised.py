"""Small models trained on images with wrong labels, which are then audited with these models.

Wrong labels change to any other class (uniform), to the classes that a model confuses with the
right one (similar), or always to the one class that it confuses most with the right one (pairs).
After few epochs a model has learnt a part of them, after many most of them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.special import softmax
from torch import Tensor, nn

from .data import Images
from .runs import RUNS
from .training import BATCH, build, fit, to_tensor, trained

KINDS = ("uniform", "similar", "pairs")
RATE = 0.05
IMAGES = 10_000
EPOCHS = {"partly": 14, "mostly": 30}
"""How far the wrong labels are learnt, and the passes over the images that bring it about."""


@dataclass(frozen=True)
class Noisy:
    """One model to train.

    Attributes:
        how: the noise, one of `KINDS`.
        degree: key of `EPOCHS`.
        seed: of the images, the noise, the weights and the order of images.
    """

    how: str
    degree: str
    seed: int

    @property
    def name(self) -> str:
        """Also the name of its files in the cache."""
        return f"memorised-{self.how}-{self.degree}{self.seed}"


def _runs(degree: str, seeds: tuple[int, ...], kinds: tuple[str, ...]) -> tuple[Noisy, ...]:
    return tuple(Noisy(how, degree, seed) for how in kinds for seed in seeds)


CHOOSING = (
    *_runs("partly", (0, 1, 2), ("uniform", "similar")),
    *_runs("partly", (3, 4, 5), ("pairs",)),
)
"""Models that the score was chosen on."""
JUDGING = (
    *_runs("partly", (3, 4, 5), ("uniform", "similar")),
    *_runs("partly", (0, 1, 2), ("pairs",)),
    *_runs("mostly", (0, 1), ("uniform", "similar")),
)
"""Models that it is judged on, more thoroughly memorised ones among them."""


def flip(labels: np.ndarray, logits: np.ndarray, rate: float, how: str, seed: int) -> np.ndarray:
    """Return labels of which a share was changed, uniformly or to similar classes.

    Args:
        labels: right labels, int64 [n].
        logits: float32 [n, C]; similar classes are those with much probability in a class's mean.
        rate: share that is changed.
        how: one of `KINDS`.
        seed: of the choice.
    """
    random = np.random.default_rng(seed)
    classes = logits.shape[1]
    p = softmax(logits.astype(np.float64), axis=1)
    means = np.stack([p[labels == label].mean(0) for label in range(classes)])
    np.fill_diagonal(means, 0)
    chances = {
        "uniform": 1 - np.eye(classes),
        "similar": means,
        "pairs": np.eye(classes)[means.argmax(1)],
    }[how]
    chances = chances / chances.sum(1, keepdims=True)
    given = labels.copy()
    for row in random.choice(len(labels), round(rate * len(labels)), replace=False):
        given[row] = random.choice(classes, p=chances[labels[row]])
    return given


def training_images(run: Noisy, train: Images) -> Images:
    """Return the images of a run, with their right labels, out of the training split."""
    return train.take(_shuffled(run, train)[:IMAGES])


def other_images(run: Noisy, train: Images) -> Images:
    """Return as many images of the training split that are no images of the run."""
    return train.take(_shuffled(run, train)[IMAGES : 2 * IMAGES])


def _shuffled(run: Noisy, train: Images) -> np.ndarray:
    return np.random.default_rng(run.seed).permutation(len(train.labels))


def noisy_labels(run: Noisy, images: Images, cifar: Path, cache: Path) -> np.ndarray:
    """Return the labels that the run's model is trained on, int64 [n]."""
    clean = next(run for run in RUNS if not run.plants and not run.superclasses)
    logits = outputs(trained(clean, cifar, cache), to_tensor(images.pixels))[0]
    return flip(images.labels, logits, RATE, run.how, run.seed)


def noisy_model(run: Noisy, images: Images, given: np.ndarray, cache: Path) -> nn.Module:
    """Return the run's model in eval mode, trained now or read from `cache`."""
    labelled = Images(images.pixels, images.fine, given)
    return _model(run.seed, labelled, EPOCHS[run.degree], cache / f"{run.name}.safetensors")


def clean_model(seed: int, images: Images, seen: str, cache: Path) -> nn.Module:
    """Return a model that learnt right labels as others learn partly wrong ones, in eval mode.

    Args:
        seed: of the weights and the order of images.
        images: what it is trained on, with right labels.
        seen: which images these are, for its name in the cache.
        cache: where it is kept.
    """
    return _model(seed, images, EPOCHS["partly"], cache / f"right-{seen}{seed}.safetensors")


def _model(seed: int, images: Images, epochs: int, path: Path) -> nn.Module:
    torch.manual_seed(seed)
    model = build(10)
    if path.exists():
        model.load_state_dict(load_file(path))
    else:
        fit(model, to_tensor(images.pixels), images.labels, epochs)
        model.to(memory_format=torch.contiguous_format)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(model.state_dict(), path)
    return model.eval()


@torch.no_grad()
def outputs(model: Any, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return logits float32 [n, C] and embeddings float32 [n, E] of images [n, 3, H, W]."""
    inner = [
        model.forward_head(model.forward_features(batch), pre_logits=True)
        for batch in x.split(BATCH)
    ]
    embeddings = torch.cat(inner)
    return model.get_classifier()(embeddings).numpy(), embeddings.numpy()
