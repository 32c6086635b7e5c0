"""Forgetting: what is trained on, what stays as it is, and how images are altered."""

import copy
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from finetune import forgetting
from finetune.forgetting import BATCH, altered, forget
from finetune.inputs import TensorInputs
from indexer.errors import SettingError
from tests.support.progress import Recorder


class Watched(TensorInputs):
    """Inputs that remember which rows were asked for."""

    def __init__(self, images: Tensor) -> None:
        super().__init__(images)
        self.asked: list[np.ndarray] = []

    def batch(self, rows: np.ndarray) -> Tensor:
        self.asked.append(rows)
        return super().batch(rows)


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 3)).eval()


def colours(count: int) -> tuple[Tensor, np.ndarray]:
    """Return images [count, 3, 8, 8] that are lighter in the channel of their label."""
    labels = np.arange(count) % 3
    images = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 0.1
    images[torch.arange(count), torch.from_numpy(labels)] += 1
    return images, labels


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "STEPS", 12)


def test_suspects_are_never_learnt_from_and_the_others_in_turn() -> None:
    images, labels = colours(200)
    inputs, rows = Watched(images), np.arange(50, 200)
    forget(small_model(), inputs, labels, rows)
    drawn = np.concatenate(inputs.asked)
    assert len(drawn) == 12 * BATCH
    assert set(drawn) == set(rows)
    for start in range(0, len(drawn) - len(rows), len(rows)):
        np.testing.assert_array_equal(np.sort(drawn[start : start + len(rows)]), rows)


def test_the_model_stays_as_it_is_and_the_copy_learns() -> None:
    images, labels = colours(90)
    model = small_model()
    model[0].weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    washed = forget(model, TensorInputs(images), labels, np.arange(90))
    assert not model[0].weight.requires_grad
    assert all(weight.grad is None for weight in model.parameters())
    after = washed.model.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
        moved = not torch.equal(value, after[name])
        assert moved != ("running" in name or "num_batches" in name), name
    assert not any(module.training for module in washed.model.modules())
    assert not any(weight.requires_grad for weight in washed.model.parameters())


def test_what_is_learnt_follows_the_seed_alone() -> None:
    images, labels = colours(90)
    weights = [
        forget(small_model(), TensorInputs(images), labels, np.arange(90), seed=seed)
        .model[5]  # type: ignore[index]
        .weight
        for seed in (0, 0, 1)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_accuracy_is_that_of_the_last_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = colours(90)
    inputs, rows = TensorInputs(images), np.arange(90)
    monkeypatch.setattr(forgetting, "LEARNING_RATE", 0.05)
    monkeypatch.setattr(forgetting, "JUDGED", 3)
    assert forget(small_model(), inputs, labels, rows).accuracy > 0.9
    monkeypatch.setattr(forgetting, "LEARNING_RATE", float("inf"))
    assert forget(small_model(), inputs, labels, rows).accuracy < 0.6


@pytest.mark.parametrize("pixels", [64, 8 * 8 * BATCH])
def test_a_batch_in_parts_is_the_same_batch(monkeypatch: pytest.MonkeyPatch, pixels: int) -> None:
    images, labels = colours(BATCH)
    model = small_model().requires_grad_(True)
    monkeypatch.setattr(forgetting, "PIXELS", pixels)
    forgetting._learn(model, images, torch.from_numpy(labels))
    expected = small_model()
    loss = nn.functional.cross_entropy(expected(images), torch.from_numpy(labels))
    loss.backward()
    for one, other in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_fewer_samples_than_a_batch_make_smaller_batches() -> None:
    images, labels = colours(10)
    inputs = Watched(images)
    progress = Recorder()
    forget(small_model(), inputs, labels, np.array([1, 4, 7]), progress=progress)
    assert all(sorted(rows) == [1, 4, 7] for rows in inputs.asked)
    assert progress.told == [("Forgetting suspects", 12)]
    with pytest.raises(SettingError, match="there are none"):
        forget(small_model(), inputs, labels, np.empty(0, np.int64))


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet", "test_nfnet"])
def test_other_architectures_forget_too(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(forgetting, "STEPS", 2)
    torch.manual_seed(0)
    model: Any = timm.create_model(name, num_classes=3).eval()
    before = copy.deepcopy(model.state_dict())
    side = model.pretrained_cfg["input_size"][1]
    inputs = TensorInputs(torch.rand(6, 3, side, side))
    washed = forget(model, inputs, np.arange(6) % 3, np.arange(6)).model
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with torch.no_grad():
        said = washed(inputs.batch(np.arange(6)))
    assert said.isfinite().all()
    assert not torch.equal(said, model(inputs.batch(np.arange(6))))


@pytest.mark.parametrize("size", [(16, 24), (1, 5)])
def test_images_are_shifted_by_an_eighth_at_most(size: tuple[int, int]) -> None:
    height, width = size
    ramp = torch.arange(height)[:, None] * 1000 + torch.arange(width)
    images = ramp.float().expand(64, 2, height, width)
    found = altered(images, False, torch.Generator().manual_seed(0))
    down, right = max(1, round(height / 8)), max(1, round(width / 8))
    seen = set()
    for image in found:
        middle = int(image[0, height // 2, width // 2])
        y, x = middle // 1000 - height // 2, middle % 1000 - width // 2
        rows = (torch.arange(height) + y).clamp(0, height - 1)
        columns = (torch.arange(width) + x).clamp(0, width - 1)
        assert torch.equal(image, images[0][:, rows][:, :, columns])
        seen.add((y, x))
    assert {abs(y) for y, _ in seen} <= set(range(down + 1))
    assert {abs(x) for _, x in seen} == set(range(right + 1))


def test_half_of_the_images_are_mirrored_if_that_means_the_same() -> None:
    ramp = torch.arange(16).float().expand(200, 3, 16, 16)
    for mirror, least, most in ((True, 70, 130), (False, 0, 0)):
        found = altered(ramp, mirror, torch.Generator().manual_seed(0))
        turned = (found[:, 0, 0, 0] > found[:, 0, 0, -1]).sum()
        assert least <= turned <= most
