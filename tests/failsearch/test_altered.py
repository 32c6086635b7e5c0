"""Altered copies: how they are drawn, when mirrored ones count, and the audit with them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import failsearch
from failsearch.altered import PAIRS, SecondLook, copies, mirrored, shifted, trusted
from indexer.images import IndexedImages
from indexer.indexed_model import load_indexed_model
from indexer.schema import ID
from search.audit.copies import ONE_IN
from tests.failsearch.conftest import Place


def test_shifts_move_a_sixteenth_and_repeat_the_edge() -> None:
    images = torch.arange(2 * 32 * 48).reshape(2, 1, 32, 48).float()
    moved = shifted(images, 1, -1)
    assert torch.equal(moved[..., :-2, 3:], images[..., 2:, :-3])
    assert torch.equal(moved[..., :-2, :3], images[..., 2:, :1].expand(-1, -1, -1, 3))
    assert torch.equal(moved[..., -2:, 3:], images[..., -1:, :-3].expand(-1, -1, 2, -1))
    assert torch.equal(shifted(images, 0, 0), images)
    assert torch.equal(mirrored(images)[..., 0], images[..., -1])


def test_copies_go_every_way_and_half_of_them_are_mirrored() -> None:
    image = torch.zeros(1, 1, 32, 32)
    image[..., 20, 10] = 1  # neither in the middle nor on a diagonal
    places = [[copy(image)[0, 0].nonzero()[0].tolist() for copy in pair] for pair in PAIRS]
    assert places == [
        [[18, 8], [22, 31 - 8]],
        [[22, 12], [18, 31 - 12]],
        [[20, 14], [20, 31 - 6]],
        [[24, 10], [16, 31 - 10]],
    ]
    assert len(PAIRS) == len(ONE_IN)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2)])
def test_tiny_images_are_shifted_too(size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size)
    assert shifted(images, 1, 1).shape == images.shape


def test_mirrored_copies_count_where_they_mean_the_same() -> None:
    original = np.eye(5, dtype=np.float32)
    same = np.repeat(original[None], 2, 0)
    assert trusted(same, original) is same
    letters = same.copy()
    letters[1] = np.roll(letters[1], 1, axis=1)
    left = trusted(letters, original)
    np.testing.assert_array_equal(left[0], same[0])
    assert np.isnan(left[1]).all()


def test_copies_are_what_the_model_says_of_them(place: Place) -> None:
    index = failsearch.open(place.db)
    ids = index.store.read([ID], limit=70)[ID].to_pylist()
    logits = SecondLook(index.store).logits(ids, 1)
    loaded = load_indexed_model(index.store.manifest)
    rows = index.store.take([ids[69]], ["source", "ref"])
    tensor = IndexedImages(index.store.manifest, loaded.transform).tensor(rows)
    assert logits.shape == (2, 70, 3)
    np.testing.assert_allclose(logits[:, 69:], copies(loaded.model, tensor, 1), atol=1e-4)


def test_a_deep_audit_says_what_the_model_made_of_copies(place: Place, tmp_path: Path) -> None:
    shutil.copytree(place.db, tmp_path / "db")
    index = failsearch.open(tmp_path / "db")
    suspects = index.audit(kinds=("labels",), deep=True).of("labels")
    assert suspects
    for suspect in suspects:
        assert "altered copies the model takes" in suspect.reason
        assert sum(suspect.evidence["altered_copies"].values()) in range(1, 2 * len(PAIRS) + 1)
