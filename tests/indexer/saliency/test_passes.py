"""Forward passes and input gradients by the chosen library calls, against float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.saliency.geometry import Geometry
from indexer.saliency.passes import fast_convolve, fast_input_gradient
from indexer.saliency.products import convolve, input_gradient


@st.composite
def layers(draw):
    """Draw (x, weight, bias, geometry): 1x1 of any stride, depthwise, and others."""
    # Of a single channel, conv2d itself (torch 2.14) mistakes channels_last maps of one column.
    channels, batch = draw(st.integers(2, 40)), draw(st.integers(1, 20))
    kind = draw(st.sampled_from(["pointwise", "depthwise", "grouped"]))
    if kind == "pointwise":
        conv = Geometry.of((1, 1), draw(st.sampled_from([(1, 1), (1, 1), (2, 1)])))
        shape = (draw(st.integers(2, 40)), channels, 1, 1)
    else:
        kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
        padding, dilation, stride = (draw(_pair(low, 2)) for low in (0, 1, 1))
        groups = channels if kind == "depthwise" else 1
        conv = Geometry.of(kernel, stride, padding, dilation, groups)
        shape = (channels if kind == "depthwise" else 7, channels // groups, *kernel)
    size = [
        max(1, d * (k - 1) + 1 - 2 * p) + draw(st.integers(0, 5))
        for k, d, p in zip(conv.kernel, conv.dilation, conv.padding, strict=True)
    ]
    torch.manual_seed(draw(st.integers(0, 2**16)))
    order = draw(st.sampled_from([torch.channels_last, torch.contiguous_format]))
    x = torch.randn(batch, channels, *size).to(memory_format=order)
    bias = torch.randn(shape[0]) if draw(st.booleans()) else None
    return x, torch.randn(shape), bias, conv


def _pair(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@settings(max_examples=150)
@given(layers())
def test_every_route_computes_the_same(case):
    x, weight, bias, conv = case
    exact = None if bias is None else bias.double()
    expected = convolve(x.double(), weight.double(), exact, conv)
    y = fast_convolve(x, weight, bias, conv)
    assert y.shape == expected.shape
    assert not y._is_view()
    torch.testing.assert_close(y, expected.float(), rtol=1e-5, atol=1e-4)
    g = torch.randn_like(y)
    expected = input_gradient(x.double(), g.double(), weight.double(), conv)
    gradient = fast_input_gradient(x, g, weight, conv)
    assert gradient.shape == x.shape
    torch.testing.assert_close(gradient, expected.float(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("onednn", [True, False])
def test_small_batches_of_1x1_layers_with_and_without_onednn(onednn, monkeypatch):
    monkeypatch.setattr("indexer.saliency.passes.onednn", lambda _: onednn)
    x = torch.randn(2, 8, 9, 9).to(memory_format=torch.channels_last)
    weight = torch.randn(12, 8, 1, 1)
    y = fast_convolve(x, weight, None, Geometry.of((1, 1)))
    torch.testing.assert_close(y, torch.conv2d(x, weight))
