"""Train a small timm model on a data set for some seconds and save it as a timm folder.

    python data/training.py DATA --out DIR [--model resnet10t] [--epochs 8] [--size 32] [--seed 0]

DATA is anything that `failsearch index` reads. The whole set is held in memory, so this is for
the small data sets of this folder.
"""

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from indexer.classes import match_classes
from indexer.datasets import ImageDataset, open_dataset
from indexer.decode import decode
from indexer.errors import DataError
from indexer.models import load_model, save_timm_directory
from indexer.progress import Progress, silent, track
from indexer.transforms import TransformOverrides
from indexer.weights import WEIGHTS_FILE, save_weights

CENTER = 0.5
"""Mean and standard deviation of every channel, as a fixed scaling to [-1, 1]."""


def train(
    dataset: ImageDataset,
    model: torch.nn.Module,
    *,
    size: int,
    epochs: int,
    batch_size: int = 32,
    learning_rate: float = 3e-3,
    seed: int = 0,
    progress: Progress = silent,
) -> torch.nn.Module:
    """Train with AdamW, one cycle of the learning rate and shifts by a few pixels.

    Args:
        dataset: images with labels.
        model: classifier of images [B, 3, size, size]; changed in place.
        size: side of the square images in pixels.
        epochs: passes over the data.
        batch_size: images per step; a smaller rest of an epoch is left out.
        learning_rate: peak of the cycle.
        seed: of order and shifts; the same on every run with as many threads.
        progress: where images read and images trained on are reported.

    Returns:
        the model in eval mode.
    """
    images, labels = load_arrays(dataset, size, len(dataset.class_names or ()), progress)
    batch_size = min(batch_size, len(labels))
    steps = epochs * (len(labels) // batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    model.train()
    with progress("Training", steps * batch_size, 0) as tracker:
        for epoch in range(epochs):
            for rows in _batches(len(labels), batch_size, seed + epoch):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(_shifted(images[rows], int(rows[0]))), labels[rows])
                loss.backward()
                optimizer.step()
                schedule.step()
                tracker.advance(batch_size)
    # So few steps leave the running statistics near their start: measure them anew.
    update_bn(images.split(batch_size), model)
    return model.eval()


def load_arrays(
    dataset: ImageDataset, size: int, classes: int, progress: Progress = silent
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images float32 [N, 3, size, size] in [-1, 1] and labels int64 [N]."""
    class_map = match_classes(dataset, num_classes=classes)
    pixels, labels = [], []
    with progress("Reading", len(dataset), 0) as tracker:
        for row in dataset.rows():
            image = decode(dataset.read(row.ref)).resize((size, size), Image.Resampling.BILINEAR)
            pixels.append(np.asarray(image))
            labels.append(class_map.target(row))
            tracker.advance(1)
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float()
    return (images / 255 - CENTER) / CENTER, torch.tensor(labels)


def _batches(count: int, batch_size: int, seed: int) -> Iterator[torch.Tensor]:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return (chunk for chunk in order.split(batch_size) if len(chunk) == batch_size)


def _shifted(images: torch.Tensor, seed: int, reach: int = 2) -> torch.Tensor:
    """Move a batch by up to `reach` pixels, repeating the border."""
    down, right = np.random.default_rng(seed).integers(0, 2 * reach + 1, 2)
    height, width = images.shape[2:]
    padded = F.pad(images, (reach,) * 4, mode="replicate")
    return padded[:, :, down : down + height, right : right + width]


def save(model: torch.nn.Module, name: str, names: tuple[str, ...], size: int, out: Path) -> None:
    """Save a trained timm model with its transform and class names."""
    overrides = TransformOverrides(
        (size, size), (CENTER,), (CENTER,), interpolation="bilinear", crop_pct=1.0
    )
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / WEIGHTS_FILE
        save_weights(model.state_dict(), weights)
        loaded = load_model(name, checkpoint=weights, overrides=overrides)
    save_timm_directory(model, dataclasses.replace(loaded, class_names=names), out)


def main() -> None:
    """Parse, train, save."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("data", help="data set to train on")
    parser.add_argument("--out", type=Path, required=True, help="folder to save the model in")
    parser.add_argument("--model", default="resnet10t", help="timm name")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    start = time.perf_counter()
    try:
        dataset = open_dataset(arguments.data)
        names = dataset.class_names
    except DataError as error:
        parser.error(str(error))
    if names is None:
        parser.error(f"{arguments.data} has no class names")
    torch.manual_seed(arguments.seed)
    model = timm.create_model(arguments.model, num_classes=len(names))
    train(
        dataset,
        model,
        size=arguments.size,
        epochs=arguments.epochs,
        seed=arguments.seed,
        progress=track,
    )
    save(model, arguments.model, names, arguments.size, arguments.out)
    seconds = time.perf_counter() - start
    print(f"{arguments.out}: {arguments.model}, {len(dataset)} images, {seconds:.0f} s")


if __name__ == "__main__":
    main()
