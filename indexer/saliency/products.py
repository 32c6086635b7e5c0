"""Row sums of per-sample weight gradients, as pure functions of a layer's input and gradient.

For a convolution, weight j = (i, u, v) of an output channel meets x[b, i, p*stride + (u,v)*dilation
- padding] at position p; for a linear layer it meets token p's feature j. All functions return
[B, O] sums over j of |sum_p g[b,o,p] x[b,j,p]| in the dtype of their inputs, accept any strides,
and never hold more than one scratch tensor of per-sample gradients (`scratch` elements, or one
sample's worth where that is more). Sums of half-precision products are float32.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .faults import writes_past_workspace
from .geometry import Geometry

CACHE = 1 << 18
"""Elements of a scratch tensor that stays in the cache of one core: 1 MiB in float32."""


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, conv: Geometry) -> Tensor:
    """Run the convolution itself: [B, O, OH, OW]."""
    return torch.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def outer_rowsum(x: Tensor, g: Tensor, groups: int = 1) -> Tensor:
    """Row sums where the layer has a single position: |g_o| * sum_j |x_j|, no gradient tensor.

    Args:
        x: [B, G * J] input values of the one position, grouped.
        g: [B, O].
        groups: G.
    """
    B = len(g)
    mass = x.reshape(B, groups, -1).abs().sum(2, keepdim=True, dtype=_sum_dtype(x))
    return (g.abs().reshape(B, groups, -1) * mass).view(B, -1)


def matmul_rowsum(x: Tensor, g: Tensor, groups: int = 1, scratch: int = CACHE) -> Tensor:
    """Row sums by batched matrix products over the positions.

    Args:
        x: [B, P, G * J] input values by position and weight.
        g: [B, P, O].
        groups: G.
        scratch: elements of per-sample gradients to hold at a time.
    """
    B, channels = len(g), g.shape[2]
    left, right = (_split_groups(tensor, groups) for tensor in (g, x))
    rows = torch.empty(len(left), left.shape[2], dtype=_sum_dtype(g), device=g.device)
    step = max(1, scratch // (left.shape[2] * right.shape[2]))
    for start in range(0, len(left), step):
        part = slice(start, start + step)
        magnitudes_(torch.bmm(left[part].mT, right[part]), rows[part])
    return rows.view(B, channels)


def pointwise_rowsum(x: Tensor, g: Tensor, conv: Geometry, scratch: int = CACHE) -> Tensor:
    """Row sums of a 1x1 convolution without padding; x [B, I, H, W], g [B, O, OH, OW]."""
    return matmul_rowsum(_positions(conv.met(x)), _positions(g), conv.groups, scratch)


def taps_rowsum(x: Tensor, g: Tensor, conv: Geometry, scratch: int = CACHE) -> Tensor:
    """Row sums of any convolution, one kernel tap at a time.

    A tap is a 1x1 convolution of a shifted view of x, so no patches are written out, and positions
    where the tap lies outside the image are left out: on small maps that is much of the work, and
    taps that meet a single position cost no product at all.
    """
    x, g = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, g))
    rows = torch.zeros(g.shape[:2], dtype=_sum_dtype(g), device=g.device)
    for u in range(conv.kernel[0]):
        inputs_y, outputs_y = _meeting(x.shape[2], g.shape[2], conv, 0, u)
        for v in range(conv.kernel[1]):
            inputs_x, outputs_x = _meeting(x.shape[3], g.shape[3], conv, 1, v)
            met = _positions(x[:, :, inputs_y, inputs_x])
            gradient = _positions(g[:, :, outputs_y, outputs_x])
            if met.shape[1] == 1:
                rows += outer_rowsum(met[:, 0], gradient[:, 0], conv.groups)
            elif met.shape[1] > 1:
                rows += matmul_rowsum(met, gradient, conv.groups, scratch)
    return rows


def patches_rowsum(x: Tensor, g: Tensor, conv: Geometry, scratch: int = CACHE) -> Tensor:
    """Row sums of any convolution, from its patches written out.

    One product takes all taps, where `taps_rowsum` reads x and g once for each. `scratch` bounds
    the patches as well.
    """
    (kh, kw), (sh, sw), (dh, dw) = conv.kernel, conv.stride, conv.dilation
    P = g.shape[2] * g.shape[3]
    rows = torch.empty(g.shape[:2], dtype=_sum_dtype(g), device=g.device)
    step = max(1, scratch // (P * conv.taps * x.shape[1]))
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        padded = _padded(x[part], conv)
        sample, channel, row, pixel = padded.stride()
        windows = padded.as_strided(
            (len(padded), *g.shape[2:], conv.groups, kh, kw, x.shape[1] // conv.groups),
            (sample, sh * row, sw * pixel, channel * (x.shape[1] // conv.groups),
             dh * row, dw * pixel, channel),
        )  # fmt: skip
        patches = windows.reshape(len(padded), P, -1)
        rows[part] = matmul_rowsum(patches, _positions(g[part]), conv.groups, scratch)
    return rows


def depthwise_rowsum(x: Tensor, g: Tensor, conv: Geometry) -> Tensor:
    """Row sums of a depthwise convolution (G = I = O), one tap at a time.

    Each tap multiplies g with a shifted view of x and sums over positions: no patches.
    """
    (kh, kw), (sh, sw), (dh, dw) = conv.kernel, conv.stride, conv.dilation
    OH, OW = g.shape[2:]
    padded = _padded(x, conv)
    rows = torch.zeros(g.shape[:2], dtype=_sum_dtype(g), device=g.device)
    product = torch.empty_like(g)
    for u in range(kh):
        for v in range(kw):
            top, left = u * dh, v * dw
            shifted = padded[
                :, :, top : top + (OH - 1) * sh + 1 : sh, left : left + (OW - 1) * sw + 1 : sw
            ]
            rows += torch.mul(g, shifted, out=product).sum((2, 3), dtype=rows.dtype).abs_()
    return rows


def correlation_rowsum(x: Tensor, g: Tensor, conv: Geometry) -> Tensor:
    """Row sums of a depthwise convolution (G = I = O) by another depthwise convolution.

    The gradient of tap t is sum_p g(p) x(p * stride + t * dilation - padding): output t of a
    convolution of x with g as its kernel, in which stride and dilation have changed places. Every
    channel of every sample is a channel of that convolution.
    """
    B, channels = g.shape[:2]
    gradients = torch.conv2d(
        x.reshape(1, B * channels, *x.shape[2:]),
        g.reshape(B * channels, 1, *g.shape[2:]),
        None, conv.dilation, conv.padding, conv.stride, B * channels,
    )  # fmt: skip
    taps = gradients[:, :, : conv.kernel[0], : conv.kernel[1]]
    return taps.abs().sum((2, 3)).view(B, channels)


def looped_rowsum(x: Tensor, g: Tensor, weight: Tensor, conv: Geometry) -> Tensor:
    """Row sums of any convolution by the library's weight gradient, one sample at a time."""
    rows = torch.empty(g.shape[:2], dtype=_sum_dtype(g), device=g.device)
    for b in range(len(x)):
        gradient = _weight_gradient(x[b : b + 1], g[b : b + 1], weight, conv)
        magnitudes_(gradient.flatten(1), rows[b])
    return rows


def magnitudes_(gradients: Tensor, rows: Tensor) -> None:
    """Write the sums of |gradients| [..., J] to rows [...], and perhaps over the gradients.

    On a GPU, whose memory is the bottleneck, a norm reads once; on a CPU it is ten times slower.
    """
    if gradients.is_cuda:
        torch.linalg.vector_norm(gradients, 1, -1, dtype=rows.dtype, out=rows)
    else:
        torch.sum(gradients.abs_(), -1, dtype=rows.dtype, out=rows)


def conv_gradients(x: Tensor, g: Tensor, weight: Tensor, conv: Geometry) -> Tensor:
    """Per-sample gradients of a convolution's weight, [B, *weight.shape], in full."""
    gradients = x.new_empty(len(x), *weight.shape)
    for b in range(len(x)):
        gradients[b] = _weight_gradient(x[b : b + 1], g[b : b + 1], weight, conv)
    return gradients


def linear_gradients(x: Tensor, g: Tensor) -> Tensor:
    """Per-sample gradients of a linear layer's weight, [B, O, I], from x [B, P, I], g [B, P, O]."""
    return torch.bmm(g.mT, x)


def live_tokens(g: Tensor) -> Tensor | None:
    """Find the tokens whose gradient is not zero in some sample, where they are few.

    After pooling by a class token, the last block's layers receive a gradient for that token alone.
    Zeros contribute nothing to products with finite inputs, so the other tokens can be left out.

    Args:
        g: output gradient of a linear layer, [B, T, O] for a shortcut.

    Returns:
        Their indices in ascending order; None where none or at least half of the tokens are live,
        and on a GPU, which would have to be waited for.
    """
    if g.is_cuda or g.dim() != 3 or g.shape[1] < 2 or len(g) == 0:
        return None
    if bool(g[0, g.shape[1] // 2].any()):  # most often, one token tells
        return None
    live = (g != 0).any(2).any(0).nonzero().flatten()
    return live if 0 < 2 * len(live) < g.shape[1] else None


def _positions(maps: Tensor) -> Tensor:
    """Turn [B, C, H, W] into [B, P, C]; a view of channels_last maps."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2)


def _padded(x: Tensor, conv: Geometry) -> Tensor:
    height, width = conv.padding
    return F.pad(x, (width, width, height, height))


def _split_groups(tensor: Tensor, groups: int) -> Tensor:
    """Turn [B, P, G * c] into [B * G, P, c]."""
    if groups == 1:
        return tensor
    return tensor.unflatten(2, (groups, -1)).transpose(1, 2).flatten(0, 1)


def _meeting(inputs: int, outputs: int, conv: Geometry, axis: int, tap: int) -> tuple[slice, slice]:
    """Return the input and output positions, along an axis, that a tap connects."""
    stride, offset = conv.stride[axis], tap * conv.dilation[axis] - conv.padding[axis]
    first = max(0, -(offset // stride))  # smallest p with p * stride + offset >= 0
    count = min(outputs, (inputs - 1 - offset) // stride + 1) - first
    if count <= 0:
        return slice(0), slice(0)
    start = first * stride + offset
    return slice(start, start + (count - 1) * stride + 1, stride), slice(first, first + count)


def _sum_dtype(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _weight_gradient(x: Tensor, g: Tensor, weight: Tensor, conv: Geometry) -> Tensor:
    if writes_past_workspace(x, conv):
        x, conv = conv.met(x), Geometry.of(1, groups=conv.groups)
    return torch.ops.aten.convolution_backward(
        g, x, weight, None, conv.stride, conv.padding, conv.dilation,
        False, (0, 0), conv.groups, (False, True, False),
    )[1]  # fmt: skip


def input_gradient(x: Tensor, g: Tensor, weight: Tensor, conv: Geometry) -> Tensor:
    """Gradient of a convolution's input, [B, I, H, W]."""
    return torch.ops.aten.convolution_backward(
        g, x, weight, None, conv.stride, conv.padding, conv.dilation,
        False, (0, 0), conv.groups, (True, False, False),
    )[0]  # fmt: skip
