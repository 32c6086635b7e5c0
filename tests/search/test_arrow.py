"""Arrow to numpy and back, of columns in any number of pieces."""

from itertools import chain, pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.arrow import dense, marked
from search.cosine import unit_or_nan
from search.modes.representation import unit_or_zero


def lists(values: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@given(cuts=st.lists(st.integers(0, 12), max_size=4))
def test_lists_of_one_length_become_rows(dtype: type, cuts: list[int]) -> None:
    values = np.arange(36, dtype=dtype).reshape(12, 3)
    whole = lists(values)
    ends = [0, *sorted(cuts), 12]
    pieces = [whole.slice(a, b - a) for a, b in pairwise(ends)]
    for column in (whole, pa.chunked_array(pieces)):
        found = dense(column)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(dense(whole.slice(5, 4)), values[5:9])


def test_no_rows_keep_their_length() -> None:
    kind = pa.list_(pa.float32(), 7)
    assert dense(pa.array([], kind)).shape == (0, 7)
    assert dense(pa.chunked_array([], kind)).shape == (0, 7)


@given(st.lists(st.lists(st.booleans(), max_size=20), max_size=3))
def test_marked_are_the_positions_of_what_is_true(pieces: list[list[bool]]) -> None:
    column = pa.chunked_array(pieces, pa.bool_())
    expected = np.flatnonzero(np.array([*chain(*pieces)], bool))
    np.testing.assert_array_equal(marked(column), expected)


def test_rows_of_zeros_have_no_direction_or_stay() -> None:
    vectors = np.array([[3, 4], [0, 0]], np.float32)
    np.testing.assert_allclose(unit_or_nan(vectors), [[0.6, 0.8], [np.nan, np.nan]])
    np.testing.assert_allclose(unit_or_zero(vectors), [[0.6, 0.8], [0, 0]])
