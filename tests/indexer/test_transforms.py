"""The transform in two steps against timm's own, bit for bit."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

from indexer.errors import SettingError
from indexer.models import load_model
from indexer.transforms import TransformOverrides, build_transform, in_two_steps, transform_config
from tests.support.models import ARCHITECTURE
from tests.support.pictures import noise

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
SIZES = [(300, 200), (31, 47), (64, 64), (5, 90)]
CONFIGS = [
    {"input_size": [3, 64, 64], "interpolation": "bilinear", "crop_pct": 1.0, **IMAGENET},
    {"input_size": [3, 56, 56], "interpolation": "bicubic", "crop_pct": 0.875, **IMAGENET},
    {"input_size": [3, 40, 56], "interpolation": "bicubic", "crop_pct": 0.9, **IMAGENET},
    {"input_size": [3, 32, 48], "interpolation": "nearest", "crop_mode": "squash", **IMAGENET},
    {"input_size": [3, 48, 48], "interpolation": "lanczos", "crop_mode": "border", **IMAGENET},
    {"input_size": [3, 33, 33], "crop_pct": 0.95, "mean": [0.5] * 3, "std": [0.5] * 3},
    {"input_size": [1, 20, 24], "crop_mode": "border", "mean": [0.4], "std": [0.3]},
]


@pytest.mark.parametrize("given", CONFIGS)
def test_both_steps_together_are_timms_evaluation(given: dict[str, Any]) -> None:
    config: dict[str, Any] = {
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "center",
    } | given
    transform = build_transform(config)
    options: dict[str, Any] = config | {"input_size": tuple(config["input_size"])}
    timms: Any = create_transform(**options, is_training=False)
    each, batch = in_two_steps(transform)
    images = [noise(size) for size in SIZES]
    mode = "L" if config["input_size"][0] == 1 else "RGB"
    expected = torch.stack([timms(image.convert(mode)) for image in images])
    pixels = [each(image) for image in images]
    assert {values.dtype for values in pixels} == {np.dtype(np.uint8)}
    assert torch.equal(batch(pixels), expected)
    assert batch(pixels).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(torch.stack([transform(image) for image in images]), expected)


def test_every_byte_is_scaled_as_timm_scales_it() -> None:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB")
    config: dict[str, Any] = {
        "input_size": (3, 16, 16),
        "interpolation": "nearest",
        "crop_pct": 1.0,
        **IMAGENET,
    }
    timms: Any = create_transform(**config, is_training=False)
    assert torch.equal(build_transform(config | {"crop_mode": "center"})(ramp), timms(ramp))


def test_a_foreign_transform_works_on_the_image_alone() -> None:
    each, batch = in_two_steps(lambda image: torch.tensor(image.size))
    assert torch.equal(batch([each(noise((3, 4)))]), torch.tensor([[3, 4]]))


def test_the_transform_is_that_of_timms_evaluation(checkpoint):
    loaded = load_model(ARCHITECTURE, checkpoint=checkpoint)
    reference: Any = create_transform(**resolve_model_data_config(loaded.model), is_training=False)
    image = noise((300, 200))

    assert torch.equal(loaded.transform(image), reference(image))
    assert torch.equal(loaded.transform(image), loaded.transform(image))


def test_overrides_replace_the_models_own_values(checkpoint):
    overrides = TransformOverrides((32, 48), (0.5,), (0.25,), "nearest", 1.0, "squash")

    loaded = load_model(ARCHITECTURE, checkpoint=checkpoint, overrides=overrides)

    assert loaded.transform_config == {
        "input_size": [3, 32, 48],
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "interpolation": "nearest",
        "crop_pct": 1.0,
        "crop_mode": "squash",
    }
    white = loaded.transform(Image.new("RGB", (99, 50), "white"))
    assert white.shape == (3, 32, 48)
    assert torch.equal(white, torch.full((3, 32, 48), 2.0))


@pytest.mark.parametrize(
    "values",
    [
        {"input_size": (0, 4)},
        {"input_size": (3, 4, 5)},
        {"interpolation": "cubic"},
        {"crop_mode": "left"},
        {"crop_pct": 0.0},
        {"crop_pct": 1.5},
        {"mean": (1.0, 2.0)},
        {"std": (0.0,)},
    ],
)
def test_overrides_out_of_range_are_refused(values):
    with pytest.raises(SettingError):
        TransformOverrides(**values)


def test_a_random_interpolation_becomes_a_fixed_one(checkpoint):
    loaded = load_model(ARCHITECTURE, checkpoint=checkpoint)
    vars(loaded.model)["pretrained_cfg"]["interpolation"] = "random"

    assert transform_config(loaded.model, 3)["interpolation"] == "bicubic"


def test_the_transform_is_rebuilt_from_its_description():
    config = {
        "input_size": [3, 16, 16],
        "mean": [0.0] * 3,
        "std": [1.0] * 3,
        "interpolation": "nearest",
        "crop_pct": 1.0,
        "crop_mode": "center",
    }
    image = noise((16, 16))

    tensor = build_transform(json.loads(json.dumps(config)))(image)

    assert np.array_equal((tensor * 255).round().byte().permute(1, 2, 0).numpy(), np.asarray(image))
