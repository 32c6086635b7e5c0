"""The CIFAR-10 checkpoint, fine-tuned on images with wrong labels, which are then audited with it.

The checkpoint is a ResNet-18 that learnt from the training split; it is fine-tuned on the test
split, which it has not seen. Labels change as in `memorised`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from timm.models import create_model
from torch import Tensor, nn
from torch.nn.functional import interpolate

from .data import Images
from .memorised import KINDS, RATE, flip, outputs
from .training import fit

EPOCHS, LEARNING_RATE = 12, 0.02


@dataclass(frozen=True)
class Tuned:
    """One model to fine-tune.

    Attributes:
        how: the noise, one of `memorised.KINDS`.
        seed: of the noise and the order of images.
    """

    how: str
    seed: int

    @property
    def name(self) -> str:
        """Also the name of its files in the cache."""
        return f"finetuned-{self.how}{self.seed}"


CHOOSING = tuple(Tuned("uniform", seed) for seed in (3, 4))
"""Models that the last two pairs of copies were chosen on."""
JUDGING = tuple(Tuned(how, seed) for how in KINDS for seed in (1, 2))
"""Models that audits are judged on."""


def checkpoint(folder: Path) -> Any:
    """Return the model in a timm directory, in eval mode."""
    return create_model(f"local-dir:{folder}", pretrained=True).eval()


def to_input(model: Any, pixels: np.ndarray) -> Tensor:
    """Scale uint8 [n, H, W, 3] to what the model takes, float32 [n, 3, S, S]."""
    config = model.pretrained_cfg
    mean, deviation = (torch.tensor(config[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    size = config["input_size"][1:]
    return (interpolate(x, size=size, mode="bilinear", antialias=True) - mean) / deviation


def noisy_labels(run: Tuned, images: Images, model: Any) -> np.ndarray:
    """Return the labels that a model is fine-tuned on, int64 [n], given it as it was before."""
    logits = outputs(model, to_input(model, images.pixels))[0]
    return flip(images.labels, logits, RATE, run.how, run.seed)


def tuned(run: Tuned, model: Any, images: Images, given: np.ndarray, cache: Path) -> nn.Module:
    """Fine-tune the model on the images and labels, or read the result; return it in eval mode."""
    path = cache / f"{run.name}.safetensors"
    if path.exists():
        model.load_state_dict(load_file(path))
    else:
        torch.manual_seed(run.seed)
        fit(model, to_input(model, images.pixels), given, EPOCHS, LEARNING_RATE)
        model.to(memory_format=torch.contiguous_format)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(model.state_dict(), path)
    return model.eval()
