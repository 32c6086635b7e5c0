"""The ways to per-sample gradients that `benchmarks.engine` compares, and what they run on.

Every way is a function from (images, labels) to raw profiles [B, F], except the plain step, which
returns nothing that is per sample. Ways of other libraries run on a copy of the model in which
only the unit weights are trainable and nothing works in place, as their hooks demand.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import timm
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from indexer.filters import FilterLayout
from indexer.saliency.dispatch import Dispatcher
from indexer.saliency.engine import SaliencyEngine, summed_loss
from indexer.saliency.geometry import Geometry
from indexer.saliency.kernels.finish import NOTHING, Finish
from indexer.saliency.layout import layer_weights, profile_layout
from indexer.saliency.products import convolve, input_gradient
from indexer.saliency.reference import image_profile

Way = Callable[[Tensor, Tensor], object]

PLAIN = ("plain NCHW", "plain channels_last")
PEERS = ("loop", "vmap", "opacus", "backpack")
PEER_IMAGES = {"loop": 4, "vmap": 8, "opacus": 8, "backpack": 8}
"""Images per call: a loop gains nothing by more, the others keep a gradient per image."""
FEW_IMAGES = {("resnet50", name): 2 for name in ("opacus", "backpack")}
"""Where a gradient per image takes most memory."""


@dataclass(frozen=True)
class Subject:
    """A model at an image size, batch size and choice of units."""

    model: str
    size: int
    batch: int
    units: str = "conv"

    @property
    def name(self) -> str:
        """The key in tables and options."""
        return f"{self.model}@{self.size}"

    def build(self) -> nn.Module:
        """Return the model in eval mode with seeded weights and BatchNorm statistics."""
        torch.manual_seed(0)
        model = timm.create_model(self.model, pretrained=False).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                if module.running_mean is not None and module.running_var is not None:
                    nn.init.normal_(module.running_mean, std=0.1)
                    nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
        return model

    def data(self) -> tuple[Tensor, Tensor]:
        """Return seeded images [B, 3, size, size] and labels [B]."""
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(self.batch, 3, self.size, self.size, generator=generator)
        return images, torch.randint(0, 1000, (self.batch,), generator=generator)


SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject("resnet18", 64, 32),
        Subject("resnet18", 224, 16),
        Subject("resnet50", 224, 8),
        Subject("mobilenetv3_small_100", 224, 16),
        Subject("convnext_atto", 224, 16),
        Subject("vit_tiny_patch16_224", 224, 16, "linear"),
    )
}


def plain_step(model: nn.Module, channels_last: bool) -> Way:
    """Return a training step without its optimizer: gradients of all weights, over the batch."""
    order = torch.channels_last if channels_last else torch.contiguous_format
    own = copy.deepcopy(model).to(memory_format=order)
    weights = list(own.parameters())

    def step(images: Tensor, labels: Tensor) -> None:
        logits = own(images.contiguous(memory_format=order))
        torch.autograd.grad(summed_loss(logits, labels), weights, allow_unused=True)

    return step


@dataclass(frozen=True)
class OwnRowSums(Dispatcher):
    """Row sums are ours; forward passes and input gradients as PyTorch chooses."""

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, conv: Geometry) -> Tensor:
        """Run a convolution."""
        return convolve(x, weight, bias, conv)

    def input_gradient(
        self, x: Tensor, g: Tensor, weight: Tensor, conv: Geometry, finish: Finish = NOTHING
    ) -> Tensor:
        """Differentiate a convolution by its input; without kernels there is nothing to finish."""
        return input_gradient(x, g, weight, conv)


STEPS: dict[str, tuple[Dispatcher, bool, bool]] = {
    "torch rows": (OwnRowSums(kernels=False), False, False),
    "torch": (Dispatcher(kernels=False), False, False),
    "torch + fold": (Dispatcher(kernels=False), True, False),
    "torch + parts": (Dispatcher(kernels=False), True, True),
    "kernel rows": (Dispatcher(passes=False), False, False),
    "kernels": (Dispatcher(gates=False), False, False),
    "kernels + gates": (Dispatcher(), False, False),
    "kernels + fold": (Dispatcher(), True, False),
    "kernels + parts": (Dispatcher(), True, True),
}
"""What the engine has learnt, one thing after another: how it computes, whether it folds, and
whether parts of the batch go through one by one."""


def engine_ways(model: nn.Module, units: str) -> dict[str, Way]:
    """Return our engine after each of `STEPS`, for the model as `load_model` gives it."""
    model = copy.deepcopy(model).to(memory_format=torch.channels_last)
    layout = profile_layout(model, units)
    ways: dict[str, Way] = {}
    for name, (dispatcher, fold, parts) in STEPS.items():
        engine = SaliencyEngine(model, layout, fold=fold, parts=parts, dispatcher=dispatcher)
        ways[name] = lambda images, labels, engine=engine: engine(images, labels).profiles
    return ways


def own_ways(model: nn.Module, units: str) -> dict[str, Way]:
    """Return both plain steps and our engine's paths, by name."""
    plain = {name: plain_step(model, name == PLAIN[1]) for name in PLAIN}
    return plain | engine_ways(model, units)


def peer_way(name: str, model: nn.Module, units: str) -> Way:
    """Return one of `PEERS`; raises whatever the library raises that cannot take the model."""
    layout = profile_layout(model, units)
    if name == "loop":
        return _loop(model, layout)
    own = copy.deepcopy(model)
    for module in own.modules():
        if getattr(module, "inplace", False) is True:
            setattr(module, "inplace", False)  # noqa: B010 (the type checker knows no such field)
    weights = layer_weights(own, layout)
    own.requires_grad_(False)
    for weight in weights:
        weight.requires_grad_(True)
    if name == "vmap":
        return _vmap(own, layout)
    return (_opacus if name == "opacus" else _backpack)(own, weights)


def _profiles(gradients: list[Tensor]) -> Tensor:
    """Return mean |gradient| per filter, [B, F], of per-sample gradients [B, O, ...]."""
    return torch.cat([gradient.abs().flatten(2).mean(2) for gradient in gradients], 1)


def _loop(model: nn.Module, layout: FilterLayout) -> Way:
    """One image at a time with a graph of the gradient, as published (Levin et al.)."""

    def way(images: Tensor, labels: Tensor) -> Tensor:
        pairs = zip(images.split(1), labels.split(1), strict=True)
        rows = [image_profile(model, *pair, layout, create_graph=True)[0] for pair in pairs]
        return torch.stack([row.detach() for row in rows])

    return way


def _vmap(model: nn.Module, layout: FilterLayout) -> Way:
    frozen = {name: tensor.detach() for name, tensor in model.named_parameters()}
    names = [layer.parameter for layer in layout.layers]
    weights = {name: frozen[name] for name in names}

    def loss(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, {**frozen, **weights}, (image[None],))
        return F.cross_entropy(logits, label[None])

    gradient = vmap(grad(loss), in_dims=(None, 0, 0))

    def way(images: Tensor, labels: Tensor) -> Tensor:
        gradients = gradient(weights, images, labels)
        return _profiles([gradients[name] for name in names])

    return way


def _opacus(model: nn.Module, weights: list[nn.Parameter]) -> Way:
    from opacus import GradSampleModule

    for module in model.modules():
        # Opacus looks at layers in training mode only; these two compute the same in either.
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.train()
    wrapped = GradSampleModule(model, loss_reduction="sum", strict=False)

    def way(images: Tensor, labels: Tensor) -> Tensor:
        F.cross_entropy(wrapped(images), labels, reduction="sum").backward()
        profiles = _profiles([vars(weight)["grad_sample"] for weight in weights])
        wrapped.zero_grad()
        return profiles

    return way


def _backpack(model: nn.Module, weights: list[nn.Parameter]) -> Way:
    from backpack import backpack, extend
    from backpack.extensions import BatchGrad

    extended = extend(model, use_converter=True).eval()
    criterion = extend(nn.CrossEntropyLoss(reduction="sum"))

    def way(images: Tensor, labels: Tensor) -> Tensor:
        with backpack(BatchGrad()):
            criterion(extended(images), labels).backward()
        profiles = _profiles([vars(weight)["grad_batch"] for weight in weights])
        for weight in weights:
            weight.grad = None
            del vars(weight)["grad_batch"]
        return profiles

    return way
