"""CPU kernels against float64 autograd, on every instruction set that this machine has."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.saliency.geometry import Geometry
from indexer.saliency.kernels import cpu, library

from .cases import Case, cases, make, reference, relative_error

TOLERANCE = 2e-6
PATHS = cpu.instruction_sets()

built = pytest.mark.skipif(not PATHS, reason="the CPU kernels are not built")
each_path = pytest.mark.parametrize("path", PATHS)

# (kernel, stride, padding, dilation, groups), input channels, output channels, map
LAYERS = {
    "3x3": ((3, 1, 1, 1, 1), 64, 64, (14, 14)),
    "3x3 odd map": ((3, 1, 1, 1, 1), 64, 80, (9, 13)),
    "3x3 unpadded": ((3, 1, 0, 1, 1), 96, 48, (12, 11)),
    "3x3 large map": ((3, 1, 1, 1, 1), 64, 32, (40, 40)),
    "3x3 small map": ((3, 1, 1, 1, 1), 128, 70, (7, 7)),
    "3x3 on 2x2": ((3, 1, 1, 1, 1), 160, 96, (2, 2)),
    "3x3 strided": ((3, 2, 1, 1, 1), 96, 33, (9, 8)),
    "3x3 odd channels": ((3, 1, 1, 1, 1), 37, 29, (11, 13)),
    "5x5 dilated": ((5, 1, 4, 2, 1), 48, 20, (9, 9)),
    "stem 7x7": ((7, 2, 3, 1, 1), 3, 64, (37, 34)),
    "patch stem": ((4, 4, 0, 1, 1), 3, 40, (32, 32)),
    "1x1": ((1, 1, 0, 1, 1), 24, 72, (9, 9)),
    "1x1 strided": ((1, 2, 0, 1, 1), 64, 128, (14, 14)),
    "1x1 deep": ((1, 1, 0, 1, 1), 32, 16, (40, 40)),
    "narrow groups": ((3, 1, 1, 1, 8), 32, 32, (14, 14)),
    "wide groups": ((3, 2, 1, 1, 2), 40, 44, (14, 14)),
    "depthwise": ((3, 1, 1, 1, 40), 40, 40, (14, 14)),
    "depthwise 7x7": ((7, 1, 3, 1, 20), 20, 20, (14, 9)),
    "depthwise 9x9": ((9, 1, 4, 1, 20), 20, 20, (14, 9)),
    "depthwise multiplied": ((5, 2, 2, 1, 48), 48, 96, (15, 16)),
}


def _layer(name: str, layout: str) -> Case:
    geometry, in_channels, out_channels, size = LAYERS[name]
    return make(Geometry.of(*geometry), 3, in_channels, out_channels, size, layout)


@built
@each_path
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, layout: str, path: str) -> None:
    case = _layer(name, layout)
    rows = cpu.conv_rowsum(*case.arguments, path=path)
    assert relative_error(rows, reference(case)) < TOLERANCE


@built
@settings(max_examples=150)
@given(case=cases())
def test_any_convolution(case: Case) -> None:
    expected = reference(case)
    for path in PATHS:
        rows = cpu.conv_rowsum(*case.arguments, path=path)
        assert rows.shape == expected.shape
        assert relative_error(rows, expected) < TOLERANCE


@built
@settings(max_examples=60)
@given(
    inputs=st.sampled_from([32, 64, 96]),
    outputs=st.sampled_from([16, 48, 80]),
    size=st.tuples(st.integers(7, 20), st.integers(7, 20)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    layout=st.sampled_from(["contiguous", "channels_last", "sliced"]),
    path=st.sampled_from(PATHS or ("none",)),
)
def test_any_winograd(inputs, outputs, size, padding, layout, path) -> None:
    case = make(Geometry.of(3, 1, padding, 1, 1), 2, inputs, outputs, size, layout)
    rows = cpu.conv_rowsum(*case.arguments, path=path)
    assert relative_error(rows, reference(case)) < TOLERANCE


@built
def test_linear_tokens() -> None:
    x, g = torch.randn(2, 50, 48), torch.randn(2, 50, 36)
    expected = torch.einsum("bto,bti->boi", g.double(), x.double()).abs().sum(2)
    rows = cpu.conv_rowsum(x.mT.unsqueeze(-1), g.mT.unsqueeze(-1), 1)
    assert relative_error(rows, expected) < TOLERANCE


@built
@pytest.mark.parametrize("name", ["3x3", "depthwise"])
def test_threads_do_not_change_a_bit(name: str) -> None:
    case = _layer(name, "channels_last")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = cpu.conv_rowsum(*case.arguments)
        torch.set_num_threads(3)
        together = cpu.conv_rowsum(*case.arguments)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(alone, together)


@built
def test_says_what_it_cannot_take() -> None:
    case = _layer("1x1", "contiguous")
    assert cpu.supports(case.x, case.g)
    assert "float64" in str(cpu.why_not(case.x.double(), case.g))
    with pytest.raises(ValueError, match="float64"):
        cpu.conv_rowsum(case.x, case.g.double(), 1)
    with pytest.raises(ValueError, match="output is"):
        cpu.conv_rowsum(case.x, case.g, 3)
    with pytest.raises(ValueError, match="no path 'mmx'"):
        cpu.conv_rowsum(case.x, case.g, 1, path="mmx")


def test_without_the_library(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    _forget_library()
    monkeypatch.setattr(library, "LIBRARY", tmp_path / "_rowsum")
    try:
        x = torch.zeros(1, 1, 1, 1)
        assert not cpu.available()
        assert cpu.instruction_set() == "none"
        assert cpu.why_not(x, x) == "the CPU kernels are not built"
        with pytest.raises(ValueError, match="not built"):
            cpu.conv_rowsum(x, x, 1)
    finally:
        _forget_library()


def test_library_of_another_machine(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    _forget_library()
    monkeypatch.setattr(library, "LIBRARY", tmp_path / "_rowsum")
    (tmp_path / f"_rowsum{library.EXTENSION_SUFFIXES[0]}").write_bytes(b"no shared library")
    try:
        assert not cpu.available()
    finally:
        _forget_library()


@built
def test_library_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    _forget_library()
    monkeypatch.setattr(library, "INTERFACE", library.INTERFACE + 1)
    try:
        assert not cpu.available()
    finally:
        _forget_library()


def _forget_library() -> None:
    library.load.cache_clear()
    library.instruction_sets.cache_clear()
