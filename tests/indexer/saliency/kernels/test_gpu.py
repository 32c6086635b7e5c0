"""Triton kernels: values under the interpreter everywhere, and on a GPU where there is one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from indexer.saliency.kernels import gpu

from .cases import Case, reference, relative_error
from .interpreted import LAYERS, cases

pytest.importorskip("triton")

TOLERANCE = 2e-6
ROOT = Path(__file__).parents[4]
INPUTS = (*LAYERS, "every choice of blocks", "bfloat16", "bfloat16 depthwise", "linear", "engine")

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
with_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(scope="module")
def errors() -> dict[str, float]:
    """Errors of all interpreted cases, from one process."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.indexer.saliency.kernels.interpreted"],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize("name", INPUTS)
def test_interpreted(name: str, errors: dict[str, float]) -> None:
    assert errors[name] < TOLERANCE


def test_interpreted_empty_batch(errors: dict[str, float]) -> None:
    assert errors["empty batch"] == 0


@without_gpu
def test_says_that_there_is_no_gpu() -> None:
    x = torch.zeros(1, 1, 1, 1)
    assert not gpu.supports(x, x)
    with pytest.raises(ValueError, match="no CUDA device"):
        gpu.conv_rowsum(x, x, 1)


@pytest.mark.parametrize(("programs", "tiles"), [(1, 1), (64, 9), (5, 72), (9000, 72), (600, 10)])
def test_splits_cover_the_tiles_once(programs: int, tiles: int) -> None:
    splits, per_split = gpu.spread(programs, tiles)
    assert (splits - 1) * per_split < tiles <= splits * per_split


def test_runs_on_the_device_of_its_operands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton launches on the current device, whatever the operands are on."""
    entered = []

    class Device:
        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor = tensor

        def __enter__(self) -> None:
            entered.append(self.tensor)

        def __exit__(self, *_: object) -> None:
            entered.append(None)

    def kernel(*_arguments: object, **_options: object) -> None:
        assert entered == [out]

    out = torch.ones(2, 3)
    launch = gpu.Launch("a_kernel", (1,), (), {}, out)
    monkeypatch.setattr(torch.cuda, "device_of", Device)
    monkeypatch.setattr(gpu.Launch, "function", {launch.grid: kernel})
    assert launch.run().tolist() == [2, 2, 2]
    assert entered == [out, None]


@pytest.mark.cuda
@with_gpu
@pytest.mark.parametrize("name", LAYERS)
def test_on_the_gpu(name: str) -> None:
    case = cases()[name]
    device = Case(case.convolution, case.x.cuda(), case.g.cuda())
    rows = gpu.conv_rowsum(*device.arguments)
    assert torch.equal(rows, gpu.conv_rowsum(*device.arguments))
    assert relative_error(rows, reference(case)) < TOLERANCE


@given(
    width=st.integers(1, 1 << 20),
    row=st.integers(0, 1 << 20),
    edge=st.sampled_from([0, -1]),
    ulps=st.integers(-2, 2),
)
def test_rows_of_positions_by_multiplication(width: int, row: int, edge: int, ulps: int) -> None:
    """As the kernels tell k // width, whose GPU divides 1 / width to within two last places."""
    k = min(max(row * width + edge, 0), gpu.MAX_POSITIONS - 1)
    per_row = np.float32(1) / np.float32(width)
    for _ in range(abs(ulps)):
        per_row = np.nextafter(per_row, np.float32(np.sign(ulps) * np.inf))
    assert int((np.float32(k) + np.float32(0.5)) * per_row) == k // width
