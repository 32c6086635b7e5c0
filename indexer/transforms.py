"""From a decoded image to the model's input, as the model's own data config says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

from .errors import ModelError, SettingError

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
CROP_MODES = ("center", "squash", "border")
CONFIG_KEYS = ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode")

Transform = Callable[[Image.Image], torch.Tensor]


@dataclass(frozen=True)
class TransformOverrides:
    """What to change in the model's own data config; None keeps its value.

    Attributes:
        input_size: (height, width) in pixels.
        mean: mean per channel, in [0, 1].
        std: standard deviation per channel.
        interpolation: one of `INTERPOLATIONS`.
        crop_pct: share of the resized image that the crop keeps, in (0, 1].
        crop_mode: one of `CROP_MODES`.
    """

    input_size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str | None = None
    crop_pct: float | None = None
    crop_mode: str | None = None

    def __post_init__(self) -> None:
        if self.input_size is not None and (len(self.input_size) != 2 or min(self.input_size) < 1):
            raise SettingError(f"input size {self.input_size}: give height and width in pixels")
        if self.interpolation not in (None, *INTERPOLATIONS):
            raise SettingError(
                f"interpolation {self.interpolation!r}: choose {', '.join(INTERPOLATIONS)}"
            )
        if self.crop_mode not in (None, *CROP_MODES):
            raise SettingError(f"crop mode {self.crop_mode!r}: choose {', '.join(CROP_MODES)}")
        if self.crop_pct is not None and not 0 < self.crop_pct <= 1:
            raise SettingError(f"crop share {self.crop_pct}: give a number above 0 and at most 1")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values is not None and len(values) not in (1, 3):
                raise SettingError(f"{name} {values}: give one number, or one for each channel")
        if self.std is not None and min(self.std) <= 0:
            raise SettingError(f"std {self.std}: every value must be above 0")

    def given(self) -> dict[str, Any]:
        """Return the fields that are set."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def transform_config(
    model: torch.nn.Module, channels: int, overrides: TransformOverrides | None = None
) -> dict[str, Any]:
    """Return a JSON-ready description of the transform of a model.

    Args:
        model: a timm model, or one with an attribute `pretrained_cfg`; timm's defaults otherwise.
        channels: input channels of the model, 1 or 3.
        overrides: values that replace the model's own.
    """
    pretrained = getattr(model, "pretrained_cfg", None)
    pretrained = dict(pretrained) if isinstance(pretrained, Mapping) else {}
    resolved = resolve_model_data_config(model, pretrained_cfg=pretrained)
    config = {key: resolved[key] for key in CONFIG_KEYS} | (overrides.given() if overrides else {})
    config["input_size"] = [channels, *list(config["input_size"])[-2:]]
    for key in ("mean", "std"):
        config[key] = _per_channel(config[key], channels, key)
    if config["interpolation"] == "random":  # some models were trained so; evaluation is fixed
        config["interpolation"] = "bicubic"
    config["crop_pct"] = float(config["crop_pct"])
    return config


def unstated(
    model: torch.nn.Module, overrides: TransformOverrides | None = None
) -> tuple[str, ...]:
    """Return which of input size, mean and std are timm's defaults: nobody has stated them."""
    pretrained = getattr(model, "pretrained_cfg", None)
    pretrained = pretrained if isinstance(pretrained, Mapping) else {}
    given = overrides.given() if overrides else {}
    names = ("input_size", "mean", "std")
    return tuple(name for name in names if pretrained.get(name) is None and name not in given)


class EvaluationTransform:
    """timm's evaluation transform in two steps, so that a run scales whole batches, not images.

    Called with an image it gives what timm gives, and so do its two steps one after the other, bit
    for bit. Images wait for their batch as bytes, a quarter of the memory.

    Args:
        config: from `transform_config`. A model with one input channel gets the image in gray
            (ITU-R 601 luma).
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        channels, height, width = config["input_size"]
        self._gray = channels == 1
        self._size = (width, height)
        timms: Any = create_transform(
            input_size=tuple(config["input_size"]),
            is_training=False,
            interpolation=config["interpolation"],
            mean=tuple(config["mean"]),  # the color of borders
            crop_pct=config["crop_pct"],
            crop_mode=config["crop_mode"],
            normalize=False,
        )
        self._resize, self._crop, _to_tensor = timms.transforms
        # As a whole row of pixels needs them: three numbers at a time would be slow.
        self._mean = np.tile(np.array(config["mean"], np.float32), width)
        self._std = np.tile(np.array(config["std"], np.float32), width)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return an RGB image as the model's input, float32 [I, H, W]."""
        return self.batch([self.pixels(image)])[0].contiguous()

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Return an RGB image resized and cropped, uint8 [H, W, I]."""
        image = self._resize(image.convert("L") if self._gray else image)
        if image.size != self._size:
            image = self._crop(image)
        pixels = np.asarray(image)
        return pixels[..., None] if self._gray else pixels

    def batch(self, images: list[np.ndarray]) -> torch.Tensor:
        """Return n ≥ 1 results of `pixels` in [0, 1], centered and divided.

        Returns:
            float32 [n, I, H, W], with the channels last in memory, where convolutions want them.
        """
        values = np.stack(images)
        rows = values.reshape(*values.shape[:2], -1).astype(np.float32)
        rows /= 255
        rows -= self._mean
        rows /= self._std
        return torch.from_numpy(rows.reshape(values.shape)).permute(0, 3, 1, 2)


def build_transform(config: Mapping[str, Any]) -> EvaluationTransform:
    """Return timm's evaluation transform: an RGB image to a float32 tensor [I, H, W]."""
    return EvaluationTransform(config)


def in_two_steps(
    transform: Transform,
) -> tuple[Callable[[Image.Image], Any], Callable[[list[Any]], torch.Tensor]]:
    """Return what to do with each image, and then with all results of a batch.

    A transform of another kind does all of its work on the image.
    """
    if isinstance(transform, EvaluationTransform):
        return transform.pixels, transform.batch
    return transform, torch.stack


def _per_channel(values: Any, channels: int, name: str) -> list[float]:
    numbers = [float(value) for value in values]
    if len(numbers) == channels:
        return numbers
    if channels == 1:
        return [sum(numbers) / len(numbers)]
    if len(numbers) == 1:
        return numbers * channels
    raise ModelError(f"the model takes {channels} channels and its config has {name} {numbers}")
