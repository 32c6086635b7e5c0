"""Compiled activations and finished gradients against PyTorch, on each instruction set."""

import pytest
import torch
import torch.nn.functional as F

from indexer.saliency.kernels import convolution, library
from indexer.saliency.kernels.activations import Curve, activate
from indexer.saliency.kernels.finish import Finish, Gate, finish_

PATHS = library.instruction_sets()
EXACT = {Curve.GELU: F.gelu, Curve.SILU: F.silu, Curve.HARDSWISH: F.hardswish}

pytestmark = [
    pytest.mark.skipif(not PATHS, reason="the CPU kernels are not built"),
    pytest.mark.parametrize("path", PATHS or ("none",)),
]


@pytest.mark.parametrize("curve", Curve)
def test_values_and_derivatives(curve, path) -> None:
    far = [-1e30, -90.0, 90.0, 1e30] if curve is not Curve.SILU else [-90.0, 90.0, 1e30]
    x = torch.cat([torch.linspace(-14, 14, 40_001), torch.tensor([*far, -3.0, 3.0])])
    exact = x.double().requires_grad_()
    expected = EXACT[curve](exact)
    (slope,) = torch.autograd.grad(expected.sum(), exact)
    y, derivative = activate(x, curve, path=path)
    torch.testing.assert_close(y.double(), expected.detach(), rtol=3e-7, atol=3e-7)
    torch.testing.assert_close(derivative.double(), slope, rtol=3e-7, atol=3e-7)


@pytest.mark.parametrize("curve", Curve)
def test_values_overwrite_the_argument(curve, path) -> None:
    x = torch.randn(2, 3, 5, 7).to(memory_format=torch.channels_last)
    expected = activate(x, curve, path=path)
    y, derivative = activate(x, curve, in_place=True, path=path)
    assert y is x
    assert torch.equal(y, expected[0])
    assert torch.equal(derivative, expected[1])


def test_gelu_of_what_is_no_number(path) -> None:
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, -0.0])
    y, derivative = activate(x, Curve.GELU, path=path)
    assert y.isnan().tolist() == [True, False, True, False, False]
    assert y[1] == torch.inf
    assert y[3] == 0
    assert derivative[0].isnan()
    assert derivative[3] == 0.5


@pytest.mark.parametrize("curve", [Curve.SILU, Curve.HARDSWISH])
def test_infinities(curve, path) -> None:
    x = torch.tensor([torch.nan, torch.inf])
    y, derivative = activate(x, curve, path=path)
    assert y[0].isnan()
    assert y[1] == torch.inf
    assert curve is Curve.SILU or derivative[1] == 1


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 40_000])
def test_every_length_is_covered_and_no_more(length, path) -> None:
    x = torch.randn(length)
    y, derivative = activate(x, Curve.GELU, path=path)
    torch.testing.assert_close(y, F.gelu(x))
    room = torch.zeros(length + 32)
    finish_(room[16 : 16 + length], Finish(derivative), path=path)
    assert torch.equal(room[16 : 16 + length], derivative)
    assert not room[:16].any()
    assert not room[16 + length :].any()


def test_a_positive_gate_is_the_backward_of_relu(path) -> None:
    output = torch.randn(1000).relu()
    output[:4] = torch.tensor([torch.nan, torch.inf, 0.0, -0.0])
    g, residual = torch.randn(1000), torch.randn(1000)
    g[5], g[6] = torch.nan, torch.inf
    expected = torch.ops.aten.threshold_backward(g + residual, output, 0)
    found = finish_(g.clone(), Finish(residual, output, Gate.POSITIVE), path=path)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_other_layouts_are_read_as_what_they_are(path) -> None:
    y, other = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    expected = (y + other) * other
    other = other.to(memory_format=torch.channels_last)
    found = finish_(y.clone(), Finish(other, other, Gate.FACTOR), path=path)
    torch.testing.assert_close(found, expected)
    gaps = torch.randn(2, 3, 4, 10)[..., ::2]
    torch.testing.assert_close(finish_(gaps, Finish(other), path=path), gaps + other)


def test_winograd_finishes_its_gradient(path) -> None:
    g = torch.randn(2, 64, 7, 9).to(memory_format=torch.channels_last)
    weight, output = torch.randn(64, 64, 3, 3), torch.randn(2, 64, 7, 9)
    residual = torch.randn(2, 64, 7, 9)
    plain = convolution.input_gradient(g, weight, 1, path=path)
    finish = Finish(residual, output, Gate.POSITIVE)
    found = convolution.input_gradient(g, weight, 1, finish, path=path)
    torch.testing.assert_close(found, (plain + residual) * (output > 0))
