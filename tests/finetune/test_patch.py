"""Patches: bit-identical round trips, and refusals."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from finetune.edits import Edit, RowEdit
from finetune.patch import apply_patch, make_patch, read_patch, revert_patch, write_patch
from indexer.errors import ModelError, SettingError

STATE = {
    "conv.weight": torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0)),
    "conv.bias": torch.zeros(4),
    "count": torch.tensor(7),
}


@pytest.fixture
def patch():
    before = STATE["conv.weight"][[1, 3]].clone()
    edit = Edit((RowEdit("conv.weight", torch.tensor([1, 3]), before, before * 1.1 + 1e-7),))
    return make_patch(edit, STATE, {"mode": "m1", "figures": {"fixed": 3}})


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(STATE, path, {"format": "pt"})
    return path


def test_a_patch_file_gives_back_what_was_written(patch, tmp_path):
    path = tmp_path / "new" / "patch.safetensors"
    write_patch(patch, path)
    read = read_patch(path)
    assert (read.base_digest, read.patched_digest) == (patch.base_digest, patch.patched_digest)
    assert read.details == {"mode": "m1", "figures": {"fixed": 3}}
    (row,), (expected,) = read.edit.rows, patch.edit.rows
    assert torch.equal(row.rows, expected.rows)
    assert torch.equal(row.before, expected.before)
    assert torch.equal(row.after, expected.after)


def test_apply_then_revert_is_bit_for_bit_the_original(patch, weights):
    original = weights.read_bytes()
    assert apply_patch(patch, weights) == weights
    changed = load_file(weights)
    assert not torch.equal(changed["conv.weight"], STATE["conv.weight"])
    assert torch.equal(changed["conv.weight"][[0, 2]], STATE["conv.weight"][[0, 2]])
    revert_patch(patch, weights.parent)  # the folder stands for its file
    assert weights.read_bytes() == original


def test_an_output_leaves_the_weights_alone(patch, weights, tmp_path):
    original = weights.read_bytes()
    apply_patch(patch, weights, tmp_path / "patched.safetensors")
    assert weights.read_bytes() == original
    assert (tmp_path / "patched.safetensors").is_file()


def test_a_patch_is_not_overwritten_by_weights(patch, weights, tmp_path):
    path = tmp_path / "patch.safetensors"
    write_patch(patch, path)
    content = path.read_bytes()
    with pytest.raises(SettingError, match="is a patch"):
        apply_patch(patch, weights, path)
    assert path.read_bytes() == content


def test_other_weights_are_refused_and_left_alone(patch, weights):
    other = {**STATE, "conv.bias": torch.ones(4)}
    save_file(other, weights, {"format": "pt"})
    content = weights.read_bytes()
    with pytest.raises(ModelError, match="other weights"):
        apply_patch(patch, weights)
    assert weights.read_bytes() == content


def test_applying_and_reverting_twice_is_said(patch, weights):
    with pytest.raises(ModelError, match="not applied"):
        revert_patch(patch, weights)
    apply_patch(patch, weights)
    with pytest.raises(ModelError, match="applied already"):
        apply_patch(patch, weights)


def test_a_patch_with_altered_rows_is_refused(patch, weights):
    row = patch.edit.rows[0]
    altered = Edit((RowEdit(row.parameter, row.rows, row.before, row.after + 1),))
    forged = type(patch)(altered, patch.base_digest, patch.patched_digest, patch.details)
    with pytest.raises(ModelError, match="does not give the weights"):
        apply_patch(forged, weights)


def test_files_that_are_no_patch_or_no_weights_are_named(patch, weights, tmp_path):
    with pytest.raises(ModelError, match="no failsearch patch: `failsearch repair`"):
        read_patch(weights)
    with pytest.raises(ModelError, match="no such file"):
        read_patch(tmp_path / "absent.safetensors")
    with pytest.raises(ModelError, match="no weights at"):
        apply_patch(patch, tmp_path / "absent")
    shutil.copy(weights, tmp_path / "model.pth")
    with pytest.raises(ModelError, match="convert the checkpoint"):
        apply_patch(patch, tmp_path / "model.pth")
