"""Train a narrow timm ResNet on planted images, once; later calls read the cached weights."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from timm.models import create_model
from torch import Tensor, nn

from .data import Images, load
from .runs import Run

BATCH = 128


def build(classes: int) -> nn.Module:
    """Return an untrained four-stage ResNet whose stem halves 32-pixel images once."""
    model = create_model(
        "resnet10t",
        num_classes=classes,
        channels=(24, 48, 96, 192),
        stem_width=12,
        stem_type="deep",
        avg_down=False,
    )
    model.maxpool = nn.Identity()
    return model


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Scale uint8 [N, 32, 32, 3] to float32 [N, 3, 32, 32] in about -2..2."""
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25


def trained(run: Run, cifar: Path, cache: Path) -> nn.Module:
    """Return the run's model in eval mode, trained now or read from `cache`."""
    path = cache / f"{run.name}.safetensors"
    torch.manual_seed(run.seed)
    model = build(5 if run.superclasses else 10)
    if path.exists():
        model.load_state_dict(load_file(path))
    else:
        images = planted_training_set(run, cifar)
        fit(model, to_tensor(images.pixels), images.labels, run.epochs)
        model.to(memory_format=torch.contiguous_format)
        cache.mkdir(parents=True, exist_ok=True)
        save_file(model.state_dict(), path)
    return model.eval()


def planted_training_set(run: Run, cifar: Path) -> Images:
    """Return the run's training images with all its plants in them."""
    rng = np.random.default_rng(run.seed)
    images = load(cifar, "train", superclasses=run.superclasses)
    images = images.take(rng.permutation(len(images.labels))[: run.images])
    for plant in run.plants:
        images = plant.corrupt(images, rng)
    return images


def fit(model: nn.Module, x: Tensor, labels: np.ndarray, epochs: int, rate: float = 0.1) -> None:
    """Train with momentum SGD and a one-cycle schedule; random choices follow torch's seed.

    Args:
        model: trained in place.
        x: images, float32 [n, 3, H, W].
        labels: int64 [n].
        epochs: passes over the images.
        rate: the highest learning rate.
    """
    y = torch.from_numpy(labels)
    steps = epochs * (len(y) // BATCH)
    optimizer = torch.optim.SGD(model.parameters(), rate, 0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    model.train().to(memory_format=torch.channels_last)
    for _ in range(epochs):
        for rows in torch.randperm(len(y))[: len(y) // BATCH * BATCH].split(BATCH):
            batch = x[rows]
            if torch.rand(()) < 0.5:
                batch = batch.flip(3)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(batch.to(memory_format=torch.channels_last))
            loss = nn.functional.cross_entropy(logits.float(), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
