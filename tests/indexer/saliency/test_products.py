"""Row sums against plain autograd, over kernels, strides, dilations, paddings and groups."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.saliency.dispatch import Dispatcher
from indexer.saliency.geometry import Geometry
from indexer.saliency.products import (
    conv_gradients,
    convolve,
    correlation_rowsum,
    depthwise_rowsum,
    linear_gradients,
    looped_rowsum,
    matmul_rowsum,
    patches_rowsum,
    pointwise_rowsum,
    taps_rowsum,
)

pair = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def convolutions(draw, pointwise=False, depthwise=False):
    """Draw (x, g, weight, geometry) of a convolution with at least one output position."""
    groups = draw(st.integers(1, 3))
    inputs = groups if depthwise else groups * draw(st.integers(1, 3))
    outputs = groups if depthwise else groups * draw(st.integers(1, 3))
    if pointwise:
        conv = Geometry.of((1, 1), draw(pair), groups=groups)
    else:
        padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
        conv = Geometry.of(draw(pair), draw(pair), padding, draw(pair), groups)
    size = [
        draw(st.integers(max(1, d * (k - 1) + 1 - 2 * p), 8))
        for k, d, p in zip(conv.kernel, conv.dilation, conv.padding, strict=True)
    ]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    batch = draw(st.integers(1, 3))
    normal = {"dtype": torch.float64, "generator": generator}
    x = torch.randn(batch, inputs, *size, **normal)
    weight = torch.randn(outputs, inputs // groups, *conv.kernel, **normal)
    g = torch.randn(convolve(x, weight, None, conv).shape, **normal)
    if draw(st.booleans()):
        x, g = (t.to(memory_format=torch.channels_last) for t in (x, g))
    return x, g, weight, conv


def per_sample_gradients(x, g, weight, conv):
    weight = weight.clone().requires_grad_()
    rows = []
    for b in range(len(x)):
        output = convolve(x[b : b + 1], weight, None, conv)
        rows.append(torch.autograd.grad(output, weight, g[b : b + 1])[0])
    return torch.stack(rows)


@settings(max_examples=80)
@given(convolutions())
def test_general_formulas(case):
    x, g, weight, conv = case
    gradients = per_sample_gradients(x, g, weight, conv)
    rows = gradients.abs().flatten(2).sum(2)
    torch.testing.assert_close(conv_gradients(x, g, weight, conv), gradients)
    torch.testing.assert_close(looped_rowsum(x, g, weight, conv), rows)
    torch.testing.assert_close(taps_rowsum(x, g, conv, scratch=4), rows)
    torch.testing.assert_close(patches_rowsum(x, g, conv, scratch=4), rows)
    torch.testing.assert_close(patches_rowsum(x, g, conv), rows)
    torch.testing.assert_close(Dispatcher().conv(x, g, weight, conv).rowsum(x, g), rows)


@settings(max_examples=40)
@given(convolutions(pointwise=True))
def test_pointwise_formula(case):
    x, g, weight, conv = case
    rows = per_sample_gradients(x, g, weight, conv).abs().flatten(2).sum(2)
    torch.testing.assert_close(pointwise_rowsum(x, g, conv, scratch=4), rows)
    torch.testing.assert_close(Dispatcher().conv(x, g, weight, conv).rowsum(x, g), rows)


@settings(max_examples=40)
@given(convolutions(depthwise=True))
def test_depthwise_formula(case):
    x, g, weight, conv = case
    rows = per_sample_gradients(x, g, weight, conv).abs().flatten(2).sum(2)
    torch.testing.assert_close(depthwise_rowsum(x, g, conv), rows)
    torch.testing.assert_close(correlation_rowsum(x, g, conv), rows)


@pytest.mark.parametrize("tokens", [1, 5])
def test_linear_formulas(tokens):
    x, g = torch.randn(3, tokens, 4).double(), torch.randn(3, tokens, 6).double()
    gradients = torch.stack([g[b].T @ x[b] for b in range(3)])
    torch.testing.assert_close(linear_gradients(x, g), gradients)
    torch.testing.assert_close(Dispatcher().linear(x, g).rowsum(x, g), gradients.abs().sum(2))


def test_half_precision_products_sum_in_float32():
    x, g = torch.randn(2, 9, 40), torch.randn(2, 9, 7)
    rows = matmul_rowsum(x.bfloat16(), g.bfloat16())
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, matmul_rowsum(x, g), rtol=2e-2, atol=0)


def test_depthwise_layers_of_many_taps_are_correlations():
    x, g, weight = torch.randn(2, 6, 9, 8), torch.randn(2, 6, 5, 4), torch.randn(6, 1, 5, 5)
    conv = Geometry.of((5, 5), (2, 2), (2, 2), groups=6)
    path = Dispatcher(kernels=False).conv(x, g, weight, conv)
    assert path.name == "correlation"
    rows = per_sample_gradients(x, g, weight, conv).abs().flatten(2).sum(2)
    torch.testing.assert_close(path.rowsum(x, g), rows)
