"""Second derivatives: formulas for operations that lack one, and the name of a layer without.

Fused operations often define their gradient but not the gradient of that gradient. Where a plain
formula gives the same values, `TwiceDifferentiable` runs it instead; where none is known, the
error names the layer. A function marked `once_differentiable` cuts the graph of its gradient, and
torch does not always say so: the second derivative would silently lack a part.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from ..errors import UnsupportedLayerError
from .faults import sound

_CUT = "a function that was marked with once_differentiable"
_MISSING = ("is not implemented", "once_differentiable", "double backward")
"""Parts of torch's messages about a missing second derivative."""


class TwiceDifferentiable(TorchFunctionMode):
    """Run plain equivalents of operations that torch differentiates only once."""

    def __enter__(self) -> "TwiceDifferentiable":
        self._attention = sdpa_kernel(SDPBackend.MATH)
        self._attention.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._attention.__exit__(*error)

    def __torch_function__(self, func: Any, types, args=(), kwargs=None) -> Any:
        """Replace hardsigmoid (and what `faults` names); sdpa_kernel takes care of attention."""
        kwargs = kwargs or {}
        if func is F.hardsigmoid:
            return F.relu6((args[0] if args else kwargs["input"]) + 3) / 6
        return sound(func, args, kwargs)


def require_whole_graph(gradients: Iterable[Tensor], known: Iterable[Tensor]) -> None:
    """Check that gradients depend on nothing but known leaves.

    A leaf that no one made is where a function cut the graph.

    Args:
        gradients: computed with `create_graph=True`.
        known: the leaves that require grad: images and weights.

    Raises:
        RuntimeError: the graph was cut; inside `name_culprit` this becomes an error with a name.
    """
    allowed = {id(tensor) for tensor in known}
    todo = [gradient.grad_fn for gradient in gradients if gradient.grad_fn is not None]
    seen = set(todo)
    while todo:
        node = todo.pop()
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in allowed:
            raise RuntimeError(_CUT)
        following = {edge for edge, _ in node.next_functions if edge is not None} - seen
        seen |= following
        todo.extend(following)


@contextmanager
def name_culprit(model: nn.Module, images: Tensor) -> Iterator[None]:
    """Turn a missing second derivative inside the block into an error that names the layer.

    Args:
        model: the model that the block differentiates twice.
        images: a batch of its inputs; the first one is used to find the layer.

    Raises:
        UnsupportedLayerError: in place of torch's error about a missing derivative.
    """
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _MISSING):
            raise
        found = _innermost_failing(model, images[:1].detach())
        where = f"layer {found[0]} ({found[1]})" if found else "a function outside its layers"
        cause = str(error).splitlines()[0].rstrip(".")
        raise UnsupportedLayerError(
            f"the model cannot be differentiated twice: {where} has no second derivative "
            f"({cause}): replace it by an equivalent of plain torch operations"
        ) from error


def _innermost_failing(model: nn.Module, image: Tensor) -> tuple[str, str] | None:
    """Return name and type of the deepest module that fails a double backward on its own."""
    calls: list[tuple[str, nn.Module, tuple[Any, ...]]] = []
    handles = [
        module.register_forward_pre_hook(
            lambda module, args, name=name: calls.append((name, module, _detached(args)))
        )
        for name, module in model.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    # A module around the culprit fails as well: the deepest name is the culprit's own.
    calls.sort(key=lambda call: call[0].count("."), reverse=True)
    for name, module, args in calls:
        if not _twice_differentiable(module, args):
            return name, type(module).__name__
    return None


def _detached(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(arg.detach().clone() if isinstance(arg, Tensor) else arg for arg in args)


def _twice_differentiable(module: nn.Module, args: tuple[Any, ...]) -> bool:
    leaves = [
        arg.requires_grad_() for arg in args if isinstance(arg, Tensor) and arg.is_floating_point()
    ]
    wanted = {id(leaf) for leaf in leaves}
    # In-place layers may not write to a leaf, hence the copies.
    copies = [arg.clone() if id(arg) in wanted else arg for arg in args]
    try:
        with torch.enable_grad(), TwiceDifferentiable():
            output = module(*copies)
            if not (leaves and isinstance(output, Tensor) and output.requires_grad):
                return True
            grads = torch.autograd.grad(
                output.square().sum(), leaves, create_graph=True, allow_unused=True
            )
            grads = [grad for grad in grads if grad is not None and grad.requires_grad]
            require_whole_graph(grads, [*leaves, *module.parameters()])
            if grads:
                total = torch.stack([grad.sum() for grad in grads]).sum()
                torch.autograd.grad(total, leaves, allow_unused=True)
    except RuntimeError:
        return False
    return True
