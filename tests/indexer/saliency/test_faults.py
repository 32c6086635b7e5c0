"""Faults of PyTorch's CPU kernels reach neither the profiles nor the process."""

import copy
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indexer.saliency.engine import SaliencyEngine
from indexer.saliency.faults import SoundKernels
from indexer.saliency.layout import profile_layout
from indexer.saliency.reference import ReferenceEngine
from tests.support.saliency import randomize, relative_error, small_batch

LAYOUTS = (torch.contiguous_format, torch.channels_last)


class Tokens(nn.Module):
    """A BatchNorm whose output becomes tokens: a single image's gradient has strides of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.token_norm = nn.LayerNorm(8)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Give logits [B, 10]."""
        tokens = self.norm(self.stem(images)).flatten(2).transpose(1, 2)
        return self.head(self.mix(self.token_norm(tokens)).relu().mean(1))


def strided_stem() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 1, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 10),
    )  # fmt: skip


@pytest.mark.parametrize("memory_format", LAYOUTS)
@pytest.mark.parametrize("engine", [SaliencyEngine, ReferenceEngine])
def test_a_batch_norm_over_one_image_has_the_gradient_of_two(memory_format, engine):
    torch.manual_seed(0)
    model = randomize(Tokens()).eval().double().to(memory_format=memory_format)
    layout = profile_layout(model, "all")
    images, labels = small_batch(1, 6)
    weights = [dict(model.named_parameters())[layer.parameter] for layer in layout.layers]
    # Twice the same image: the fault needs one alone.
    loss = F.cross_entropy(model(images.repeat(2, 1, 1, 1)), labels.repeat(2))
    gradients = torch.autograd.grad(loss, weights)
    expected = torch.cat([gradient.flatten(1).abs().mean(1) for gradient in gradients])
    options = {"fold": False} if engine is SaliencyEngine else {}
    found = engine(model, layout, precision="fp64", **options)(images, labels)
    assert relative_error(found.profiles[0], expected) < 1e-12


def test_training_steps_around_the_batch_norm_as_well():
    torch.manual_seed(0)
    model = randomize(Tokens()).eval().double()
    images, labels = small_batch(1, 6)
    steps = []
    for batch in (images, images.repeat(2, 1, 1, 1)):
        trained = copy.deepcopy(model)
        with SoundKernels():
            logits = trained(batch)
        F.cross_entropy(logits, labels.repeat(len(batch))).backward()
        steps.append(trained.stem.weight.grad)
    assert relative_error(*steps) < 1e-12


def test_a_strided_stem_of_few_channels_does_not_end_the_process():
    program = (
        "import torch; from tests.indexer.saliency import test_faults; "
        "torch.set_num_threads(1); test_faults.profile_strided_stem()"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 1e-4


def profile_strided_stem() -> None:
    """Print how far fast engine and reference are apart, after shapes that oneDNN cannot take."""
    torch.manual_seed(0)
    model = strided_stem().eval().to(memory_format=torch.channels_last)
    layout = profile_layout(model, "all")
    images, labels = small_batch(4, 224, torch.float32)
    images = images.contiguous(memory_format=torch.channels_last)
    for kernels in (True, False):
        found = SaliencyEngine(model, layout, kernels=kernels)(images, labels)
    expected = ReferenceEngine(model, layout)(images, labels)
    print(relative_error(found.profiles, expected.profiles))
