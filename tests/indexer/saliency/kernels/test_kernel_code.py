"""The Triton kernels compile for GPUs that are not here, into code that is worth running."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

ROOT = Path(__file__).parents[4]
COMPILE = """
import json, sys
from benchmarks.kernel_code import LAYERS, compiled, launches
wanted = json.loads(sys.argv[1])
layers = [layer for layer in LAYERS if layer.name in wanted]
for layer, precision, blocks, launch in launches(layers):
    code = compiled(launch, 90)
    loads = [sorted(code.loads), code.registers, code.spilled, code.products]
    print(json.dumps([launch.kernel, precision, code.instruction, *loads]))
"""
LAYERS = ("3x3 of ResNet-50", "stem of ResNet-50", "depthwise 5x5 of MobileNetV3")


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> list[list]:
    """Every choice of blocks for a layer of each kind; in a process that believes in its GPU."""
    run = subprocess.run(
        [sys.executable, "-c", COMPILE, json.dumps(LAYERS)],
        cwd=ROOT,
        env=os.environ | {"TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_nothing_spills(codes: list[list]) -> None:
    assert {kernel for kernel, *_ in codes} == {"taps_kernel", "columns_kernel", "depthwise_kernel"}
    assert [code for code in codes if code[5] > 0] == []


def test_loads_are_16_bytes_wide(codes: list[list]) -> None:
    """Also of 88 channels; not in a stem, nor as wgmma wants tf32."""
    free = [c for c in codes if c[0] != "columns_kernel" and (c[1], c[2]) != ("tf32", "HGMMA")]
    assert len(free) > 5
    assert [code for code in free if code[3] != [16]] == []


def test_most_of_the_loop_multiplies(codes: list[list]) -> None:
    shares = [code[-1] for code in codes if code[:2] == ["taps_kernel", "fp32"]]
    assert min(shares) > 0.75


def test_tensor_cores_multiply_short_operands(codes: list[list]) -> None:
    used = {c[1]: c[2] for c in codes if c[0] == "taps_kernel"}
    assert used["fp32"] == "FFMA"
    assert {used["tf32"], used["bf16"]} <= {"HMMA", "HGMMA"}
