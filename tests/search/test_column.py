"""The mapped column: parts, gathering, and half floats widened to the bit."""

from pathlib import Path

import numpy as np
import pytest

from search import column as module
from search.column import Column, map_parts, widened
from search.products import blocks, norms


def test_parts_read_as_one(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).random((11, 6)).astype(np.float32)
    (tmp_path / "a").write_bytes(b"1234" + rows[:4].tobytes())
    (tmp_path / "b").write_bytes(rows[4:].tobytes())
    parts = [(tmp_path / "a", 4, 4), (tmp_path / "b", 0, 0), (tmp_path / "b", 0, 7)]
    column = map_parts(parts, 6, np.dtype(np.float32))
    assert len(column) == 11
    chosen = np.array([10, 0, 4, 3, 10])
    np.testing.assert_array_equal(column.rows(chosen), rows[chosen])
    np.testing.assert_array_equal(column.subset(chosen)[1:3], rows[[0, 4]])
    places, found = zip(*blocks(column, np.arange(11)), strict=True)
    assert places == (slice(0, 4), slice(4, 11))
    np.testing.assert_array_equal(np.concatenate(found), rows)
    np.testing.assert_allclose(norms(column), np.linalg.norm(rows, axis=1), rtol=1e-6)
    with pytest.raises(ValueError, match=r"greater than file size|width"):
        map_parts([(tmp_path / "b", 0, 8)], 6, np.dtype(np.float32))


def test_parts_must_have_the_width() -> None:
    with pytest.raises(ValueError, match="width 3"):
        Column((np.zeros((2, 4)),), 3)


@pytest.mark.parametrize("installed", [True, False])
def test_every_half_float_widens_as_in_numpy(
    installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if installed:
        pytest.importorskip("numkong")
    else:
        monkeypatch.setattr(module, "numkong", lambda: None)
    bits = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    half = bits.view(np.float16)
    half.flags.writeable = False
    with np.errstate(invalid="ignore"):  # widening a signalling NaN
        np.testing.assert_array_equal(widened(half), half.astype(np.float32))
        np.testing.assert_array_equal(widened(half[:, ::2]), half[:, ::2].astype(np.float32))
    assert widened(half[:0]).shape == (0, 256)


def test_half_float_columns_search_as_their_widened_rows() -> None:
    half = np.random.default_rng(0).random((40, 8)).astype(np.float16)
    column = Column((half,), 8)
    assert column.rows(np.array([3, 1])).dtype == np.float32
    np.testing.assert_array_equal(column.rows(np.arange(40)), half.astype(np.float32))
