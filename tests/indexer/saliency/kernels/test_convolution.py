"""Compiled 3x3 convolutions against PyTorch in float64, on each instruction set found here."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.saliency.kernels import convolution, library

from .cases import relative_error

TOLERANCE = 2e-6
PATHS = library.instruction_sets()
CHANNELS_LAST = torch.channels_last

pytestmark = pytest.mark.skipif(not PATHS, reason="the CPU kernels are not built")


def _maps(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).to(memory_format=CHANNELS_LAST)


@settings(max_examples=60)
@given(
    batch=st.integers(0, 3),
    inputs=st.sampled_from([64, 128]),
    outputs=st.sampled_from([64, 192]),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    weight_format=st.sampled_from([torch.contiguous_format, CHANNELS_LAST]),
    path=st.sampled_from(PATHS or ("none",)),
)
def test_both_passes(batch, inputs, outputs, size, padding, weight_format, path) -> None:
    size = tuple(max(n, 3 - 2 * p) for n, p in zip(size, padding, strict=True))
    x = _maps(batch, inputs, *size).requires_grad_()
    weight = torch.randn(outputs, inputs, 3, 3).contiguous(memory_format=weight_format)
    bias = torch.randn(outputs)
    expected = F.conv2d(x.double(), weight.double(), bias.double(), padding=padding)
    y = convolution.convolve(x.detach(), weight, bias, padding, path=path)
    assert y.shape == expected.shape
    assert relative_error(y, expected.detach()) < TOLERANCE
    g = torch.randn_like(y)
    (gradient,) = torch.autograd.grad(expected, x, g.double())
    result = convolution.input_gradient(g, weight, padding, path=path)
    assert relative_error(result, gradient.double()) < TOLERANCE


@pytest.mark.parametrize("path", PATHS)
def test_many_tiles(path: str) -> None:
    x, weight, bias = _maps(9, 128, 13, 14), torch.randn(64, 128, 3, 3), torch.randn(64)
    x.requires_grad_()
    expected = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    y = convolution.convolve(x.detach(), weight, bias, 1, path=path)
    assert relative_error(y, expected.detach()) < TOLERANCE
    g = torch.randn_like(y)
    (gradient,) = torch.autograd.grad(expected, x, g.double())
    result = convolution.input_gradient(g, weight, 1, path=path)
    assert relative_error(result, gradient.double()) < TOLERANCE


@pytest.mark.parametrize("batch", [1, 3, 9])
def test_threads_do_not_change_a_bit(batch: int) -> None:
    x, weight = _maps(batch, 64, 15, 15), torch.randn(64, 64, 3, 3)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = convolution.convolve(x, weight, None, 1)
        torch.set_num_threads(3)
        together = convolution.convolve(x, weight, None, 1)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(alone, together)


@pytest.mark.parametrize(
    ("batch", "stride", "groups", "shape", "reason"),
    [
        (9, 1, 1, (64, 64, 3, 3), None),
        (1, 1, 1, (64, 64, 3, 3), "tiles"),
        (9, 2, 1, (64, 64, 3, 3), "stride 1"),
        (9, 1, 2, (64, 32, 3, 3), "stride 1"),
        (9, 1, 1, (64, 64, 5, 5), "3x3"),
        (9, 1, 1, (48, 64, 3, 3), "multiples of 64"),
    ],
)
def test_says_what_it_does_not_take(batch, stride, groups, shape, reason) -> None:
    x, weight = _maps(batch, 64, 14, 14), torch.zeros(shape)
    found = convolution.why_not(x, weight, stride, 1, groups)
    assert found is None if reason is None else reason in str(found)


def test_weights_in_vectors_pay_sooner() -> None:
    x, weight = _maps(1, 64, 14, 14), torch.zeros(64, 64, 3, 3)
    assert convolution.why_not(x, weight, 1, 1, 1) is not None
    weight = weight.contiguous(memory_format=CHANNELS_LAST)
    assert convolution.why_not(x, weight, 1, 1, 1) is None


def test_planar_input_is_not_taken() -> None:
    x, weight = torch.zeros(9, 64, 14, 14), torch.zeros(64, 64, 3, 3)
    assert convolution.why_not(x, weight, 1, 1, 1) == "the input is not channels_last"
    with pytest.raises(ValueError, match="do not fit"):
        convolution.convolve(x, weight)


def test_refuses_shapes_that_do_not_belong_together() -> None:
    with pytest.raises(ValueError, match="no 3x3 layer"):
        convolution.convolve(_maps(1, 64, 5, 5), torch.zeros(64, 128, 3, 3))
    with pytest.raises(ValueError, match="no output"):
        convolution.convolve(_maps(1, 64, 2, 2), torch.zeros(64, 64, 3, 3))
    with pytest.raises(ValueError, match="float32"):
        convolution.convolve(_maps(1, 64, 5, 5).double(), torch.zeros(64, 64, 3, 3))
