"""The fast engine: profiles of a whole batch from one forward and one backward pass."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indexer.errors import ModelError, UnsupportedLayerError
from indexer.filters import FilterLayout

from .dispatch import Dispatcher
from .folding import Consumers, FoldingError, Normalization
from .gates import connect
from .interception import Interceptor
from .layout import layer_weights
from .lifecycle import only_trainable, ordinary, require_independent_samples
from .output import EngineOutput
from .parts import in_parts, part_count
from .precision import autocast, pinned, with_precision
from .tally import Tally


@dataclass(frozen=True)
class _Plan:
    """How images of one shape are computed, as a forward pass of one of them showed.

    Attributes:
        folded: BatchNorms that are absorbed, by index of the unit weight before them.
        reuse: how often the pass uses each unit weight, on average.
        growth: leading dimensions where what was computed without the images meets them.
    """

    folded: dict[int, Normalization]
    reuse: float
    growth: dict[tuple, float]


class SaliencyEngine:
    """Computes raw profiles, logits and embeddings of batches; the model is left as it was found.

    Every unit weight is either seen in a convolution or linear call that the engine understands,
    or shown by the autograd graph not to matter; anything else is refused by name. `self_check`
    compares an engine with the reference on real images before one relies on it.

    Args:
        model: in eval mode, with float32 (or, for "fp64", any) weights, which may change between
            calls.
        layout: from `profile_layout(model, ...)`.
        precision: one of `precision.PRECISIONS`. For "fp64" a model that is not float64 is copied.
        fold: absorb BatchNorms where a first batch proves that this is exact.
        kernels: take compiled kernels where they are available.
        parts: on a CPU, let parts of a batch go through the model, on several threads at once if
            there are; not for models that keep something of a forward pass in themselves.
        dispatcher: chooses the formulas, in place of the default for `precision` and `kernels`.

    Raises:
        ModelError: the model mixes samples (training mode), has weights of another type than the
            precision needs, or does not fit the layout.
        SettingError: unknown precision.
    """

    def __init__(
        self,
        model: nn.Module,
        layout: FilterLayout,
        *,
        precision: str = "fp32",
        fold: bool = True,
        kernels: bool = True,
        parts: bool = True,
        dispatcher: Dispatcher | None = None,
    ) -> None:
        require_independent_samples(model)
        self._model = with_precision(model, layout, precision)
        self._precision = precision
        self._dispatcher = dispatcher or Dispatcher(kernels, tf32=precision == "tf32")
        self._fold = fold
        self._parts = parts
        self._plans: dict[torch.Size, _Plan] = {}
        self._layout = layout
        self._weights = layer_weights(self._model, layout)
        self._slots = {id(weight): slot for slot, weight in enumerate(self._weights)}
        self._views: dict[tuple, float] = {}
        self._paths: dict[int, tuple[str, str]] = {}
        self._ran = False

    @property
    def model(self) -> nn.Module:
        """The model that is profiled."""
        return self._model

    @property
    def layout(self) -> FilterLayout:
        """The columns of the profiles."""
        return self._layout

    @property
    def precision(self) -> str:
        """The arithmetic of the passes."""
        return self._precision

    def __call__(self, images: Tensor, labels: Tensor) -> EngineOutput:
        """Profile a batch.

        Args:
            images: [B, I, H, W], any device; B may be 0.
            labels: [B] class indices.

        Raises:
            ModelError: training mode, labels out of range, or a model without [B, C] logits.
            UnsupportedLayerError: a weight is used in a way that per-sample gradients cannot
                follow; names it.
        """
        require_independent_samples(self._model)
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images with {len(labels)} labels")
        if len(images) == 0:
            return self._empty(images)
        weight = self._weights[0]
        with only_trainable(self._model, self._weights), pinned(self._precision):
            images = ordinary(images).to(weight.device, weight.dtype, non_blocking=True)
            images = images.contiguous(memory_format=torch.channels_last)
            labels = ordinary(labels)
            shape = images.shape[1:]
            if shape not in self._plans:
                self._plans[shape] = self._learn(images[:1], labels[:1])
            try:
                return self._run(images, labels, self._plans[shape])
            except FoldingError:
                # The model took another way than when the plan was made, or was changed since.
                self._plans[shape] = replace(self._plans[shape], folded={})
                return self._run(images, labels, self._plans[shape])

    def describe(self) -> list[tuple[str, str, str]]:
        """Return (layer, path, reason) for each layer, as the batches so far took them."""
        rows = []
        for slot, layer in enumerate(self._layout.layers):
            path = self._paths.get(slot)
            if path is not None:
                rows.append((layer.name, *path))
            elif self._ran:
                rows.append((layer.name, "zero", "the loss does not depend on it"))
            else:
                rows.append((layer.name, "open", "no batch seen yet"))
        return rows

    def _learn(self, image: Tensor, label: Tensor) -> _Plan:
        """Make a plan from a forward pass of one image.

        A pass of its own, so that every batch is computed in the same way, in any order.
        """
        tally = Tally(self._layout, self._weights, 1, self._precision, self._dispatcher)
        consumers = Consumers({}, learning=self._fold)
        interceptor, logits = self._forward(image, tally, consumers, None)
        self._require_same_views(image, interceptor.views)
        loss = summed_loss(logits, label)
        weights = sum(weight.numel() for weight in self._weights)
        folded = consumers.learn(loss) if self._fold else {}
        return _Plan(folded, tally.products / weights, interceptor.tables.growth)

    def _run(self, images: Tensor, labels: Tensor, plan: _Plan) -> EngineOutput:
        """Compute a batch, in parts where that is faster."""

        def compute(part: Tensor, part_labels: Tensor) -> EngineOutput:
            return self._pass(part, part_labels, plan)

        count = part_count(images, plan.reuse, self._dispatcher.packs) if self._parts else 1
        return EngineOutput.joined(in_parts(compute, images, labels, count))

    def _forward(
        self,
        images: Tensor,
        tally: Tally,
        consumers: Consumers,
        growth: dict[tuple, float] | None,
    ) -> tuple[Interceptor, Tensor]:
        anchor = torch.zeros((), device=images.device, requires_grad=True)
        interceptor = Interceptor(images, self._slots, tally, anchor, consumers, growth)
        with autocast(self._precision, images.device), interceptor:
            logits = self._model(images)
        return interceptor, logits

    def _pass(self, images: Tensor, labels: Tensor, plan: _Plan) -> EngineOutput:
        """Run forward and backward."""
        size = len(images)
        tally = Tally(self._layout, self._weights, size, self._precision, self._dispatcher)
        consumers = Consumers(plan.folded, learning=False)
        interceptor, logits = self._forward(images, tally, consumers, plan.growth)
        consumers.require_absorbed()
        self._require_same_views(images, interceptor.views)
        loss = summed_loss(logits, labels)
        if loss.requires_grad:
            connect(loss)
            inputs = [interceptor.anchor, *self._weights]
            leaked = torch.autograd.grad(loss, inputs, allow_unused=True)[1:]
            self._require_no_leak(leaked)
            tally.close()
        self._paths.update(tally.paths)
        self._ran = True
        embeddings = interceptor.embeddings(logits)
        dtype = tally.profiles.dtype
        return EngineOutput(
            tally.profiles,
            logits.detach().to(dtype),
            None if embeddings is None else embeddings.to(dtype),
        )

    def _require_no_leak(self, gradients: tuple[Tensor | None, ...]) -> None:
        """A gradient that reached a weight through the graph is one that no call accounted for."""
        for layer, gradient in zip(self._layout.layers, gradients, strict=True):
            if gradient is not None:
                raise UnsupportedLayerError(
                    f"the weight {layer.parameter!r} is used in an operation that keeps no "
                    "per-sample gradient (not a convolution or linear layer over images, or the "
                    "samples do not lead): profile one image at a time, or other units"
                )

    def _require_same_views(self, images: Tensor, views: dict[tuple[int, int], float]) -> None:
        """The leading dimension must grow with the batch, or it does not hold the samples."""
        for (slot, use), factor in views.items():
            known = self._views.setdefault((images.shape[1:], slot, use), factor)
            if known != factor:
                raise UnsupportedLayerError(
                    f"the input of {self._layout.layers[slot].name!r} does not have the samples in "
                    "its leading dimension: profile one image at a time, or other units"
                )

    def _empty(self, images: Tensor) -> EngineOutput:
        """An empty batch: the widths come from one blank image."""
        blank = torch.zeros(1, *images.shape[1:], dtype=images.dtype)
        output = self(blank, torch.zeros(1, dtype=torch.long))
        embeddings = output.embeddings
        return EngineOutput(
            output.profiles[:0],
            output.logits[:0],
            None if embeddings is None else embeddings[:0],
        )


def summed_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy summed over the batch, so that each sample's gradient is its own loss's.

    Raises:
        ModelError: `logits` is not a [B, C] tensor, or a label is not in 0..C-1.
    """
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(labels):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(
            f"expected logits of shape ({len(labels)}, classes), the model gives {found}"
        )
    outside = labels[(labels < 0) | (labels >= logits.shape[1])]
    if len(outside):
        raise ModelError(
            f"label {int(outside[0])} is outside the model's {logits.shape[1]} classes"
        )
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits, labels.to(logits.device).long(), reduction="sum")
