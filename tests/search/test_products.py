"""Products of stored rows with queries: their error bound, exact sums, pieces, threads."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import column as column_module
from search import products
from search.column import Column
from search.products import TOLERANCE, exact_dots, few_products, half_dots, norms
from search.threads import in_threads


def column_of(rows: np.ndarray, *cuts: int) -> Column:
    """Return rows as a column of several parts."""
    return Column(tuple(np.split(rows, cuts)), rows.shape[1])


@settings(max_examples=60)
@given(
    width=st.sampled_from([1, 3, 511, 512, 513, 1500, 5000, 40_000]),
    queries=st.integers(1, 3),
    half=st.booleans(),
    installed=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_products_keep_their_error_bound(
    width: int, queries: int, half: bool, installed: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    values = np.minimum(random.lognormal(0, 2, (7, width)), np.finfo(np.float16).max)
    rows = values.astype(np.float16 if half else np.float32)
    asked = random.lognormal(random.uniform(-9, 9), 2, (queries, width)).astype(np.float32)
    positions = np.array([0, 1, 4, 5, 6])
    with pytest.MonkeyPatch.context() as patch:
        if not installed:
            for module in (column_module, products):
                patch.setattr(module, "numkong", lambda: None)
        column = column_of(rows, 2, 5)
        found = few_products(column, positions, asked)
        pairs = np.divmod(np.arange(5 * queries), 5)
        exact = exact_dots(column, positions[::-1][pairs[1]], asked, pairs[0])
        lengths = norms(column)
    wide, targets = rows[positions].astype(np.float64), asked.astype(np.float64)
    truth = targets @ wide.T
    scale = np.outer(np.linalg.norm(targets, axis=1), np.linalg.norm(wide, axis=1))
    assert (np.abs(found - truth) <= TOLERANCE * scale).all()
    np.testing.assert_allclose(exact.reshape(-1, 5)[:, ::-1], truth, rtol=1e-12)
    np.testing.assert_allclose(lengths[positions], np.linalg.norm(wide, axis=1), rtol=1e-12)


def test_a_sum_of_like_terms_stays_within_the_bound() -> None:
    """The worst case of a long sum: every addition rounds the same way."""
    rows = np.full((3, 200_000), 1.1, np.float32)
    (found,) = few_products(column_of(rows), np.arange(3), rows[:1])
    truth = float(np.float32(1.1)) ** 2 * 200_000
    assert np.abs(found / truth - 1).max() <= TOLERANCE


def test_half_floats_are_multiplied_as_they_lie() -> None:
    pytest.importorskip("numkong")
    rows = np.random.default_rng(0).random((5, 300)).astype(np.float16)
    queries = np.random.default_rng(1).random((2, 300)).astype(np.float32) * [[1e-6], [1e6]]
    dots = half_dots(queries.astype(np.float32))
    assert dots is not None
    truth = queries.astype(np.float32).astype(np.float64) @ rows.astype(np.float64).T
    np.testing.assert_allclose(dots(rows), truth, rtol=1e-5)
    assert (half_dots(np.zeros((1, 300), np.float32)) or dots)(rows).tolist() == [[0.0] * 5]


@given(
    positions=st.lists(st.integers(0, 29), max_size=60),
    size=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 30), max_size=4).map(sorted),
)
def test_pieces_cover_rows_in_any_order(positions: list[int], size: int, cuts: list[int]) -> None:
    rows = np.arange(60, dtype=np.float32).reshape(30, 2)
    column, wanted = column_of(rows, *cuts), np.array(positions, np.int64)
    found = np.full((len(wanted), 2), np.nan, np.float32)
    for piece in column.pieces(wanted, size):
        read = piece.read(np.empty((size, 2), np.float32))
        assert len(read) <= size
        found[piece.places] = read
    np.testing.assert_array_equal(found, rows[wanted])
    np.testing.assert_array_equal(column.rows(wanted), rows[wanted])


def test_threads_share_tasks_may_nest_and_pass_errors_on() -> None:
    seen: list[int] = []

    def inner(tasks: Iterator[int]) -> None:
        seen.extend(tasks)

    def outer(tasks: Iterator[int]) -> None:
        for task in tasks:
            in_threads(inner, [task * 10, task * 10 + 1])

    in_threads(outer, list(range(8)))
    assert sorted(seen) == sorted([n * 10 for n in range(8)] + [n * 10 + 1 for n in range(8)])

    def broken(tasks: Iterator[int]) -> None:
        for task in tasks:
            raise ValueError(task)

    with pytest.raises(ValueError, match="5"):
        in_threads(broken, [5])
