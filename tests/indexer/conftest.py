"""A data set for indexing runs that take a blink, and weights of a small model."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from indexer.datasets import ImageDataset
from tests.support.models import ARCHITECTURE
from tests.support.tiny_run import tiny_images


@pytest.fixture
def dataset(tmp_path: Path) -> ImageDataset:
    """Return 80 noisy images, 9 of them broken."""
    return tiny_images(tmp_path / "images", count=80)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Return weights of a small timm model with three classes."""
    torch.manual_seed(0)
    file = tmp_path / "weights.safetensors"
    save_file(timm.create_model(ARCHITECTURE, num_classes=3).state_dict(), file)
    return file
