"""Tables: what a model computes from unit weights and constants, without looking at the images.

Swin V2 makes its position biases by a small network that runs over a grid of coordinates. The
layers of that network see one input for all images, so that no sample has an (x, g) of its own.
But somewhere the table meets the samples, in a sum or as an attention mask. There each sample gets
a copy of it, which is a view and takes no memory; the gradient of that copy is the sample's, and
the graph of the table takes it back to the weights (`derived`).

That a dimension holds the samples is not guessed from its size: in a pass of one image, it must
have been as many times smaller as the batch is larger.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .derived import sources
from .tally import Table, Tally

_WRITING = (
    Tensor.add_, Tensor.__iadd__, Tensor.sub_, Tensor.__isub__,
    Tensor.mul_, Tensor.__imul__, Tensor.div_, Tensor.__itruediv__,
)  # fmt: skip
_ELEMENTWISE = frozenset((
    *_WRITING,
    torch.add, Tensor.add, Tensor.__add__, torch.sub, Tensor.sub, Tensor.__sub__,
    torch.mul, Tensor.mul, Tensor.__mul__, torch.div, Tensor.div, Tensor.__truediv__,
))  # fmt: skip
_SPREADING = (Tensor.expand, Tensor.repeat)


class _Copies(torch.autograd.Function):
    """A table [1, ...] for each of the rows of a batch, [rows, ...]."""

    @staticmethod
    def forward(ctx: Any, anchor, values: Tensor, rows: int, table: Table, tally: Tally):
        ctx.table, ctx.tally = table, tally
        # For autograd to notice where the model writes to the table afterwards.
        ctx.save_for_backward(values)
        return values.expand(rows, *values.shape[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor):
        (values,) = ctx.saved_tensors
        samples = g.reshape(ctx.tally.batch, -1, *values.shape[1:]).sum(1)
        ctx.tally.add_table(ctx.table, samples.view(-1, *ctx.table.values.shape))
        return (None,) * 5


@dataclass
class _Known:
    """What is known of a table.

    Attributes:
        tensor: the table.
        scratch: elements of the largest tensor on the way to it.
        copies: those that were made, by shape.
    """

    tensor: weakref.ref[Tensor]
    scratch: int
    copies: dict[tuple[int, ...], Tensor] = field(default_factory=dict)


class Tables:
    """The tables of one forward pass.

    Args:
        slots: index of each unit weight by `id(parameter)`.
        tally: receives the gradients of the copies; without one, nothing is followed.
        batch: B.
        anchor: a scalar that requires grad, from which the graph of the samples starts.
        from_images: whether some of an operation's arguments come from the images; asked where no
            gradient tells.
        learned: `growth` of a pass of one image; None for that pass itself, in which tables are
            followed but not copied.

    Attributes:
        growth: place in the model, and which visit of it -> leading dimension there / B.
    """

    def __init__(
        self,
        slots: Mapping[int, int],
        tally: Tally | None,
        batch: int,
        anchor: Tensor | None,
        from_images: Callable[[Any], bool],
        learned: Mapping[tuple, float] | None,
    ) -> None:
        self.growth: dict[tuple, float] = {}
        self._slots = slots if tally is not None else {}
        self._tally = tally
        self._batch = batch
        self._anchor = anchor
        self._from_images = from_images
        self._learned = learned or {}
        self._known: dict[int, _Known] = {}
        self._visits: dict[tuple, int] = {}

    def holds(self, tensor: Any) -> bool:
        """Whether a tensor is a table."""
        return bool(self._known) and self._find(tensor) is not None

    def grows(self, place: tuple, rows: int) -> bool:
        """Whether a leading dimension grows with the batch, judging by the pass of one image.

        Args:
            place: what tells this place in the model from others.
            rows: the leading dimension.
        """
        visit = self._visits.get(place, 0)
        self._visits[place] = visit + 1
        factor = self.growth[(*place, visit)] = rows / self._batch
        return self._learned.get((*place, visit)) == factor

    def follow(self, arguments: Any, result: Any) -> None:
        """Take note of an operation's result, which is a table if its arguments are no samples."""
        if not self._slots:
            return
        scratch = None
        for tensor in _tensors(result):
            if not tensor.requires_grad:
                continue
            if scratch is None:
                scratch = self._scratch(arguments)
            if scratch:
                largest = max(scratch, tensor.numel())
                self._known[id(tensor)] = _Known(weakref.ref(tensor), largest)
            else:  # it may have been a table before samples were written to it
                self._known.pop(id(tensor), None)

    def meet(self, func: Callable, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Replace a table that meets samples by copies, one for each sample.

        Args:
            func: an operation that is about to run.
            args: its arguments.
            kwargs: more of them.

        Returns:
            The arguments to run it with: those given, where the operation is not understood.
        """
        if not self._known:
            return args, kwargs
        if func is F.scaled_dot_product_attention and args:
            query, *others = args
            if len(others) > 2:
                others[2] = self._met(func, others[2], query)
                return (query, *others), kwargs
            return args, {**kwargs, "attn_mask": self._met(func, kwargs.get("attn_mask"), query)}
        if func in _ELEMENTWISE and len(args) == 2 and "out" not in kwargs:
            left, right = args
            # An operation that writes to a table is left alone: copies cannot be written to.
            copies = left if func in _WRITING else self._met(func, left, right)
            return (copies, self._met(func, right, left)), kwargs
        return args, kwargs

    def spread(self, func: Callable, args: tuple, result: Any) -> Any:
        """Return copies of a table in place of a result that holds it once for each sample."""
        if func not in _SPREADING or not self.holds(args[0]) or result.dim() == 0:
            return result
        table: Tensor = args[0]
        lengthened = table.dim() == result.dim() and len(table) == 1
        if result.shape[1:] != (table.shape[1:] if lengthened else table.shape):
            return result
        copies = self._copies(func, table, result.dim(), len(result))
        if copies is None:
            return result
        return copies.contiguous() if func is Tensor.repeat else copies

    def _met(self, func: Callable, table: Any, x: Any) -> Any:
        """Return a table's copies for an operation with x; what was given, where it is none."""
        if not self.holds(table) or not isinstance(x, Tensor) or self.holds(x):
            return table
        broadcast = table.dim() < x.dim() or (table.dim() == x.dim() > 0 and len(table) == 1)
        if not broadcast or not (x.requires_grad or self._from_images((x,))):
            return table
        copies = self._copies(func, table, x.dim(), len(x))
        return table if copies is None else copies

    def _copies(self, func: Callable, table: Tensor, dims: int, rows: int) -> Tensor | None:
        """Return a table as [rows, ...] with `dims` dimensions, if the rows hold the samples."""
        known, tally = self._find(table), self._tally
        slots = tuple(sources(table, self._slots) or ())
        if known is None or tally is None or not slots:
            return None
        if not self.grows((func, table.shape, *slots), rows):
            return None
        shape = (rows, *[1] * (dims - 1 - table.dim()), *table.shape[table.dim() == dims :])
        if shape not in known.copies:
            entry = Table(slots, table, known.scratch)
            tally.expect_table(entry)
            values = table.detach().view(1, *shape[1:])
            copies: Any = _Copies.apply(self._anchor, values, rows, entry, tally)
            known.copies[shape] = copies
        return known.copies[shape]

    def _find(self, tensor: Any) -> _Known | None:
        known = self._known.get(id(tensor))
        return known if known is not None and known.tensor() is tensor else None

    def _scratch(self, arguments: Any) -> int:
        """Elements of the largest tensor so far, if all are constants, tables and unit weights."""
        largest = 0
        for tensor in _tensors(arguments):
            if not tensor.requires_grad:
                continue
            known = self._find(tensor)
            if known is None and id(tensor) not in self._slots:
                return 0
            largest = max(largest, tensor.numel() if known is None else known.scratch)
        return 0 if largest and self._from_images(arguments) else largest


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from _tensors(value)
