"""Compiled products of pixels and tokens against PyTorch in float64, on each instruction set."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.saliency.kernels import library, pixelwise
from indexer.saliency.kernels.finish import Finish, Gate

from .cases import relative_error

TOLERANCE = 2e-6
PATHS = library.instruction_sets()

pytestmark = pytest.mark.skipif(not PATHS, reason="the CPU kernels are not built")


def _maps(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).to(memory_format=torch.channels_last)


def _expected(y: torch.Tensor, finish: Finish) -> torch.Tensor:
    if finish.residual is not None:
        y = y + finish.residual
    if finish.factor is None:
        return y
    return y * finish.factor if finish.gate is Gate.FACTOR else y * (finish.factor > 0)


@st.composite
def finishes(draw, shape):
    """Draw what to do to a result of this shape, in one layout or the other."""
    order = draw(st.sampled_from([torch.contiguous_format, torch.channels_last]))
    residual, factor = (torch.randn(shape).contiguous(memory_format=order) for _ in range(2))
    gate = draw(st.sampled_from(list(Gate)))
    residual = residual if draw(st.booleans()) else None
    return Finish(residual, None if gate is Gate.OPEN else factor, gate)


@settings(max_examples=80)
@given(st.data())
def test_every_shape_and_layout(data) -> None:
    number = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    batch, inputs, outputs = number(0, 3), number(1, 450), number(1, 90)
    size, stride = (number(1, 9), number(1, 9)), number(1, 2)
    torch.manual_seed(number(0, 2**16))
    x = _maps(batch, inputs, *size)[:, :, ::stride, ::stride]
    weight = torch.randn(inputs, outputs).t() if number(0, 1) else torch.randn(outputs, inputs)
    bias = torch.randn(outputs) if number(0, 1) else None
    finish = data.draw(finishes((batch, outputs, *x.shape[2:])))
    exact = F.conv2d(
        x.double(), weight.double()[:, :, None, None], None if bias is None else bias.double()
    )
    expected = _expected(exact, finish)
    path = data.draw(st.sampled_from(PATHS))
    y = pixelwise.multiply(x, weight, bias, finish, path=path)
    assert y.shape == expected.shape
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert relative_error(y, expected) < TOLERANCE


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("shape", [(2, 197), (100,), (3, 5, 7), (0, 4)])
def test_tokens(shape, path) -> None:
    x, weight, bias = torch.randn(*shape, 50), torch.randn(70, 50), torch.randn(70)
    factor = torch.randn(*shape, 70)
    expected = F.linear(x.double(), weight.double(), bias.double()) * factor
    finish = Finish(None, factor, Gate.FACTOR)
    y = pixelwise.multiply_tokens(x, weight, bias, finish, path=path)
    assert not y._is_view()
    assert relative_error(y, expected) < TOLERANCE


@pytest.mark.parametrize("path", PATHS)
def test_writes_nothing_outside_the_pixels_of_a_given_result(path) -> None:
    x, weight, room = _maps(2, 20, 4, 5), torch.randn(23, 20), _maps(2, 23, 8, 10)
    before = room.clone()
    pixelwise.multiply(x, weight, out=room[:, :, ::2, ::2], path=path)
    expected = F.conv2d(x.double(), weight.double()[:, :, None, None])
    assert relative_error(room[:, :, ::2, ::2], expected) < TOLERANCE
    assert torch.equal(room[:, :, 1::2], before[:, :, 1::2])
    assert torch.equal(room[:, :, :, 1::2], before[:, :, :, 1::2])


@pytest.mark.parametrize("path", PATHS)
def test_a_pixel_that_is_not_finite_spoils_no_other(path) -> None:
    x, weight = _maps(1, 40, 5, 7), torch.randn(33, 40)
    x[0, 3, 2, 2] = torch.nan
    x[0, 5, 4, 6] = torch.inf
    y = pixelwise.multiply(x, weight, path=path)
    finite = y.isfinite().all(1)[0]
    assert (~finite).nonzero().tolist() == [[2, 2], [4, 6]]


def test_threads_do_not_change_a_bit() -> None:
    x, weight = _maps(3, 200, 15, 15), torch.randn(70, 200)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = pixelwise.multiply(x, weight)
        torch.set_num_threads(3)
        together = pixelwise.multiply(x, weight)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(alone, together)


def test_says_what_it_does_not_take() -> None:
    weight = torch.zeros(8, 16)
    assert pixelwise.takes(_maps(2, 16, 14, 14), weight)
    assert not pixelwise.takes(_maps(1, 16, 3, 3), weight)
    assert not pixelwise.takes(torch.zeros(2, 16, 14, 14), weight)
    assert not pixelwise.takes(_maps(2, 16, 14, 14).double(), weight)
    assert pixelwise.takes_tokens(torch.zeros(200, 16), weight)
    assert not pixelwise.takes_tokens(torch.zeros(16, 200).t(), weight)


def test_refuses_tensors_that_do_not_belong_together() -> None:
    x = _maps(1, 16, 4, 4)
    with pytest.raises(ValueError, match="do not fit"):
        pixelwise.multiply(x, torch.zeros(8, 15))
    with pytest.raises(ValueError, match="bias"):
        pixelwise.multiply(x, torch.zeros(8, 16), torch.zeros(9))
    with pytest.raises(ValueError, match="not contiguous"):
        pixelwise.multiply(x.contiguous(), torch.zeros(8, 16))
    with pytest.raises(ValueError, match="no room"):
        pixelwise.multiply(x, torch.zeros(8, 16), out=torch.zeros(1, 8, 4, 4))
    with pytest.raises(ValueError, match="for outputs"):
        pixelwise.multiply(x, torch.zeros(8, 16), finish=Finish(torch.zeros(1, 8, 4, 3)))
    with pytest.raises(ValueError, match="not contiguous"):
        pixelwise.multiply_tokens(torch.zeros(16, 9).t(), torch.zeros(8, 16))
    with pytest.raises(ValueError, match="float32"):
        pixelwise.multiply(x.double(), torch.zeros(8, 16))
