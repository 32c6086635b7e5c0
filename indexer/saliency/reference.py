"""The slow, obvious engine, against which all else is tested: plain autograd, image by image."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from indexer.errors import UnsupportedLayerError
from indexer.filters import FilterLayout

from .engine import SaliencyEngine, summed_loss
from .faults import SoundKernels
from .interception import Interceptor
from .layout import layer_weights
from .lifecycle import only_trainable, ordinary, require_independent_samples
from .output import EngineOutput
from .precision import pinned, with_precision


def image_profile(
    model: nn.Module,
    image: Tensor,
    label: Tensor,
    layout: FilterLayout,
    *,
    create_graph: bool = False,
) -> tuple[Tensor, Tensor]:
    """Profile one image with plain autograd (Levin et al., section 2.1).

    Args:
        model: in eval mode; its flags are restored.
        image: [1, 3, H, W] in the dtype of the model's weights; may require grad.
        label: [1].
        layout: from `profile_layout(model, ...)`.
        create_graph: let the profile be differentiated again, by the image for example. The graph
            stays valid after the call.

    Returns:
        The raw profile [F] and the logits [C], both with a graph only where `create_graph`.
    """
    profile, logits = _differentiate(model, image, label, layout, create_graph)
    return (profile, logits[0]) if create_graph else (profile, logits[0].detach())


def reference_profiles(
    model: nn.Module, images: Tensor, labels: Tensor, layout: FilterLayout
) -> Tensor:
    """Profile images one at a time, in the dtype of the model's weights (float64 for an oracle).

    Args:
        model: in eval mode; left as it was found.
        images: [B, I, H, W].
        labels: [B].
        layout: from `profile_layout(model, ...)`.

    Returns:
        [B, F] raw profiles on the model's device.
    """
    double = layer_weights(model, layout)[0].dtype == torch.float64
    engine = ReferenceEngine(model, layout, precision="fp64" if double else "fp32")
    return engine(images, labels).profiles


class ReferenceEngine:
    """The call of `SaliencyEngine` on top of `image_profile`: for models that the engine refuses.

    Args:
        model: in eval mode.
        layout: from `profile_layout(model, ...)`.
        precision: as in `SaliencyEngine`; "bf16" and "amp" run as "fp32", which is no less exact.
    """

    def __init__(self, model: nn.Module, layout: FilterLayout, *, precision: str = "fp32") -> None:
        require_independent_samples(model)
        self.model = with_precision(model, layout, precision)
        self.layout = layout
        self.precision = precision
        self._weight = layer_weights(self.model, layout)[0]

    def __call__(self, images: Tensor, labels: Tensor) -> EngineOutput:
        """Profile a batch; arguments, result and errors as in `SaliencyEngine.__call__`."""
        require_independent_samples(self.model)
        with torch.inference_mode(False):
            images = ordinary(images).to(self._weight.device, self._weight.dtype)
            labels = ordinary(labels)
        if len(images) == 0:
            blank = self._one(images.new_zeros(1, *images.shape[1:]), labels.new_zeros(1))
            return _stack([blank], 0)
        rows = [self._one(images[b : b + 1], labels[b : b + 1]) for b in range(len(images))]
        return _stack(rows, len(rows))

    def describe(self) -> list[tuple[str, str, str]]:
        """Return (layer, path, reason) for each layer."""
        return [(layer.name, "reference", "one image at a time") for layer in self.layout.layers]

    def _one(self, image: Tensor, label: Tensor) -> EngineOutput:
        with pinned(self.precision), Interceptor(image) as observer:
            profile, logits = _differentiate(self.model, image, label, self.layout)
        return EngineOutput(profile[None], logits.detach(), observer.embeddings(logits))


@dataclass(frozen=True)
class SelfCheck:
    """How an engine compares with the reference.

    Attributes:
        error: largest relative error of a layer's profiles; infinite where the engine refused.
        ok: whether the engine may be relied on.
        message: one line for the user.
    """

    error: float
    ok: bool
    message: str


TOLERANCES = {"fp64": 1e-9, "fp32": 1e-2, "tf32": 5e-2, "bf16": 5e-2, "amp": 0.3}
"""Largest relative error of a layer that rounding explains, by precision. A ReLU gate that flips
at 0 moves single filters, mistaken gradients move whole layers (2 % and more were seen)."""


def self_check(engine: SaliencyEngine, images: Tensor, labels: Tensor) -> SelfCheck:
    """Compare an engine with the reference, layer by layer.

    Args:
        engine: the engine to check.
        images: a few real images, [B, I, H, W]; an odd B like 3 tells most.
        labels: [B].

    Returns:
        The verdict. An engine that refuses the model is a verdict, too; errors of the user's
        (labels out of range, training mode) are raised.
    """
    expected = reference_profiles(engine.model, images, labels, engine.layout)
    try:
        found = engine(images, labels).profiles
    except UnsupportedLayerError as error:
        return SelfCheck(math.inf, False, f"the fast engine refuses this model: {error}")
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # the reference came through: it is the engine's way that fails
        reason = " ".join(str(error).split())[:200]
        return SelfCheck(math.inf, False, f"the fast engine fails on this model: {reason}")
    # A layer whose gradients vanish beside the others' has nothing but rounding in it.
    floor = 1e-4 * expected.square().mean().sqrt().item()
    errors = {}
    for layer in engine.layout.layers:
        columns = slice(layer.start, layer.stop)
        scale = expected[:, columns].square().mean().sqrt().item()
        distance = (found - expected)[:, columns].square().mean().sqrt().item()
        errors[layer.name] = distance / max(scale, floor) if distance else 0.0
    name = max(errors, key=lambda layer: errors[layer])
    error, limit = errors[name], TOLERANCES[engine.precision]
    if error <= limit:
        return SelfCheck(error, True, f"the fast engine agrees with the reference to {error:.1e}")
    return SelfCheck(
        error,
        False,
        f"the fast engine differs from the reference by {error:.1e} (limit {limit:.0e}) "
        f"in layer {name!r}",
    )


def _differentiate(
    model: nn.Module,
    image: Tensor,
    label: Tensor,
    layout: FilterLayout,
    create_graph: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the profile [F] and the logits [1, C] of one image; logits keep their graph."""
    weights = layer_weights(model, layout)
    gradients: tuple[Tensor | None, ...] = (None,) * len(weights)
    with only_trainable(model, weights), SoundKernels():
        logits = model(image)
        loss = summed_loss(logits, label)
        if loss.requires_grad:
            gradients = torch.autograd.grad(
                loss, weights, create_graph=create_graph, allow_unused=True
            )
    columns = [
        loss.new_zeros(layer.filters)
        if gradient is None
        else gradient.abs().reshape(layer.filters, layer.fan).mean(1)
        for layer, gradient in zip(layout.layers, gradients, strict=True)
    ]
    return torch.cat(columns), logits


def _stack(rows: list[EngineOutput], count: int) -> EngineOutput:
    embeddings = [row.embeddings for row in rows if row.embeddings is not None]
    return EngineOutput(
        torch.cat([row.profiles for row in rows])[:count],
        torch.cat([row.logits for row in rows])[:count],
        torch.cat(embeddings)[:count] if len(embeddings) == len(rows) else None,
    )
