"""Borrowing a model for a pass and giving it back exactly as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from indexer.errors import ModelError


def require_independent_samples(model: nn.Module) -> None:
    """Refuse models whose output for one image depends on the others in the batch.

    Raises:
        ModelError: a module is in training mode, or a BatchNorm keeps no running statistics.
    """
    for module in _modules(model):
        if module.training:
            raise ModelError(
                f"{_label(module, model)} is in training mode, which mixes samples or adds noise: "
                "call model.eval() first"
            )
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise ModelError(
                f"{_label(module, model)} keeps no running statistics and mixes the samples of a "
                "batch: profiles of single images are not defined for it"
            )


def _modules(model: nn.Module) -> list[nn.Module]:
    """Return the model and all modules within it, shared ones perhaps twice.

    Unlike `model.modules()`, which keeps names and sets, this costs nothing beside a batch.
    """
    found = [model]
    for module in found:
        found.extend(child for child in module._modules.values() if child is not None)
    return found


def _label(module: nn.Module, model: nn.Module) -> str:
    names = [name for name, other in model.named_modules() if other is module]
    return f"{type(module).__name__} {names[0]!r}" if names[0] else "the model"


def ordinary(tensor: Tensor) -> Tensor:
    """Return a tensor without a graph that autograd may save, also if made in inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()


@contextmanager
def only_trainable(model: nn.Module, weights: list[nn.Parameter]) -> Iterator[None]:
    """Let exactly `weights` require grad; restore every flag on leaving.

    Gradients are enabled within, whatever the caller's grad mode; `.grad` is never touched by
    passes that use `torch.autograd.grad`.
    """
    parameters = (p for module in _modules(model) for p in module._parameters.values())
    flags = [(p, p.requires_grad) for p in parameters if p is not None]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        for weight in weights:
            weight.requires_grad_(True)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
