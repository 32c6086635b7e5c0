"""A copy of a model that forgets what it learnt by heart of some samples.

It goes on to learn from all other samples with a large step, and never sees these: what they had
in common with nothing else is overwritten. Their labels are not trained away from, so a right one
that the others confirm stays. Steps, step size and shifts were chosen on planted label noise
(benchmarks/audit).
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from indexer.errors import SettingError
from indexer.progress import Progress, silent
from indexer.saliency.faults import SoundKernels

from .inputs import Inputs
from .training import PIXELS, endless

LEARNING_RATE = 5e-4
"""AdamW's, at its highest: after the warm-up, from where it falls in a line to nothing."""
STEPS, WARM_UP, BATCH = 150, 5, 64
SHIFT = 8
"""Images are shifted by up to one part in so many of their size."""
JUDGED = 30
"""So many of the last steps say how much of the training samples the copy knows."""


@dataclass(frozen=True, eq=False)
class Washed:
    """A model after forgetting.

    Attributes:
        model: in evaluation mode, without gradients.
        accuracy: how often it took the altered training images of the last steps for what they
            are labelled, in 0..1.
    """

    model: nn.Module
    accuracy: float


def forget(
    model: nn.Module,
    inputs: Inputs,
    labels: np.ndarray,
    rows: np.ndarray,
    *,
    mirror: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> Washed:
    """Train a copy of a model on some samples, so that it forgets the others.

    All parameters are trained, in float32 as they are, with the model in evaluation mode: the
    statistics of normalisation stay. Images are shifted, each by a distance of its own, and half
    of them mirrored.

    Args:
        model: in evaluation mode; it is left as it is.
        inputs: N images.
        labels: as given, int64 [N].
        rows: int64 [n], samples to learn from; none comes again before all have come.
        mirror: whether mirrored images mean the same.
        seed: of the order of samples and of how they are altered.
        progress: how the work is shown.

    Raises:
        SettingError: there are no samples to learn from.
    """
    if not len(rows):
        raise SettingError(
            "to forget suspects the model learns from all other samples, and there are none: "
            "audit a larger index"
        )
    washed = copy.deepcopy(model).eval()
    weights = [weight for weight in washed.parameters() if weight.is_floating_point()]
    for weight in weights:
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(weights, LEARNING_RATE, weight_decay=0)
    batches = endless(rows, BATCH, np.random.default_rng(seed))
    chance = torch.Generator().manual_seed(seed)
    known = []
    with progress("Forgetting suspects", STEPS, 0) as tracker:
        for step in range(STEPS):
            chosen = next(batches)
            images = altered(inputs.batch(chosen), mirror, chance)
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * _pace(step)
            optimizer.zero_grad()
            known.append(_learn(washed, images, torch.from_numpy(labels[chosen])))
            optimizer.step()
            tracker.advance(1)
    optimizer.zero_grad()
    return Washed(washed.requires_grad_(False), float(np.mean(known[-JUDGED:])))


def altered(images: Tensor, mirror: bool, chance: torch.Generator) -> Tensor:
    """Shift every image by a distance of its own, the edge repeated, and mirror half of them.

    Args:
        images: [B, I, H, W].
        mirror: whether to.
        chance: where shifts and mirrors come from.
    """
    height, width = images.shape[-2:]
    y, x = (max(1, round(size / SHIFT)) for size in (height, width))
    around = F.pad(images, (x, x, y, y), mode="replicate")
    downs, rights = (
        torch.randint(0, 2 * most + 1, (len(images),), generator=chance).tolist() for most in (y, x)
    )
    moved = torch.stack(
        [
            image[:, down : down + height, right : right + width]
            for image, down, right in zip(around, downs, rights, strict=True)
        ]
    )
    if mirror:
        turned = torch.rand(len(images), generator=chance) < 0.5
        moved[turned] = moved[turned].flip(-1)
    return moved


def _pace(step: int) -> float:
    """Return the factor on the learning rate: a short rise, then a line down to nothing."""
    return min(1.0, (step + 1) / WARM_UP) * (1 - step / STEPS)


def _learn(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Add the gradient of the mean cross-entropy; return how often the label was predicted.

    In evaluation mode samples do not mix: a batch in parts, as memory allows, is the same batch.
    """
    device = next(model.parameters()).device
    size = max(1, PIXELS // (images.shape[-2] * images.shape[-1]))
    hits = 0
    with torch.enable_grad():
        for part, target in zip(images.split(size), labels.split(size), strict=True):
            target = target.to(device)
            with SoundKernels():
                logits = model(part.to(device, memory_format=torch.channels_last)).float()
            (F.cross_entropy(logits, target, reduction="sum") / len(labels)).backward()
            hits += int((logits.argmax(1) == target).sum())
    return hits / len(labels)
