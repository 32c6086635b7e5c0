"""The blocked graph against the plain product in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from indexer.errors import SettingError
from search import topk
from search.graph import NeighbourGraph, knn_graph


def oracle(vectors: np.ndarray) -> np.ndarray:
    """All cosines in float64, NaN on the diagonal and for zero rows."""
    rows = vectors.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, norms, out=np.full_like(rows, np.nan), where=norms > 0)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, np.nan)
    return cosines


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_graph_equals_oracle(block: int, dtype: type) -> None:
    vectors = np.random.default_rng(0).standard_normal((101, 33)).astype(dtype)
    indices, scores = knn_graph(vectors, 5, block=block)
    expected = oracle(vectors)
    order = np.argsort(-np.nan_to_num(expected, nan=-2), axis=1)[:, :5]
    assert indices.dtype == np.int32
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_allclose(scores, np.take_along_axis(expected, order, 1), atol=1e-6)


def test_scores_are_the_same_for_every_block_size_up_to_rounding() -> None:
    vectors = np.abs(np.random.default_rng(1).standard_normal((90, 200))).astype(np.float32)
    _, first = knn_graph(vectors, 4, block=90)
    _, second = knn_graph(vectors, 4, block=11)
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_zero_rows_have_no_neighbours_and_are_none() -> None:
    vectors = np.eye(4, 3, dtype=np.float32)  # the last row is zero
    indices, scores = knn_graph(vectors, 3)
    assert indices[3].tolist() == [-1, -1, -1]
    assert np.isnan(scores[3]).all()
    assert 3 not in indices[:3]
    assert indices[0].tolist() == [1, 2, -1]


def test_duplicates_are_ordered_by_index() -> None:
    vectors = np.ones((6, 4), dtype=np.float32)
    indices, scores = knn_graph(vectors, 5, block=2)
    np.testing.assert_allclose(scores, 1)
    assert indices[2].tolist() == [0, 1, 3, 4, 5]


@pytest.mark.parametrize(("n", "width"), [(0, 0), (1, 0), (2, 1), (3, 2)])
def test_few_rows_reduce_k(n: int, width: int) -> None:
    indices, scores = knn_graph(np.ones((n, 3), np.float32), 10)
    assert indices.shape == scores.shape == (n, width)


def test_progress_counts_every_pair_once() -> None:
    seen: list[tuple[int, int]] = []
    knn_graph(np.ones((5, 2), np.float32), 1, block=2, progress=lambda *at: seen.append(at))
    assert seen[-1] == (15, 15)
    assert seen == sorted(seen)


def test_refuses_settings_out_of_range() -> None:
    with pytest.raises(SettingError, match="k=0"):
        knn_graph(np.ones((2, 2), np.float32), 0)


floats = st.floats(-1, 1, width=32)


@given(hnp.arrays(np.float32, (4, 9), elements=floats), st.integers(1, 9))
@settings(max_examples=50)
def test_packed_keys_sort_like_pairs(scores: np.ndarray, k: int) -> None:
    keys = topk.descending(topk.best(topk.pack(scores, np.arange(9)), k))
    found, indices = topk.unpack(keys)
    for row in range(4):
        expected = sorted(range(9), key=lambda i: (-scores[row, i], i))[:k]
        assert indices[row].tolist() == expected
        assert found[row].tolist() == scores[row, expected].tolist()


def test_keys_carry_infinities_and_absence() -> None:
    scores = np.array([[np.inf, -np.inf, np.nan]], np.float32)
    found, indices = topk.unpack(topk.descending(topk.pack(scores, np.arange(3))))
    assert indices.tolist() == [[0, 1, -1]]
    assert np.isnan(found[0, 2])


def test_graph_checks_itself() -> None:
    good = NeighbourGraph(("a", "b"), np.array([[1], [0]]), np.array([[0.5], [0.5]], np.float32))
    assert good.k == 1
    with pytest.raises(ValueError, match="unique"):
        NeighbourGraph(("a", "a"), good.indices, good.scores)
    with pytest.raises(ValueError, match="own neighbour"):
        NeighbourGraph(("a", "b"), np.array([[0], [1]]), good.scores)
    with pytest.raises(ValueError, match="outside"):
        NeighbourGraph(("a", "b"), np.array([[2], [0]]), good.scores)


def test_sparse_forms() -> None:
    indices = np.array([[1], [2], [1]])
    graph = NeighbourGraph(("a", "b", "c"), indices, np.array([[0.5], [0.9], [0.9]], np.float32))
    assert graph.to_sparse().nnz == 3
    union = graph.to_sparse("union")
    assert union.nnz == 4
    assert (union != union.T).nnz == 0
    assert graph.to_sparse("mutual").nnz == 2


@given(
    n=st.integers(1, 5),
    k=st.integers(1, 6),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
    order=st.sampled_from("CF"),
)
def test_blocks_merge_to_the_best_of_all(
    n: int, k: int, sizes: list[int], seed: int, order: str
) -> None:
    random = np.random.default_rng(seed)
    blocks = [random.integers(-2, 3, (n, size)).astype(np.float32) for size in sizes]  # many ties
    for block in blocks:
        block[random.random(block.shape) < 0.2] = np.nan
    keys, first = np.full((n, k), topk.ABSENT), 0
    for block in blocks:
        indices = np.arange(first, first + block.shape[1])
        topk.merge_into(keys, np.asarray(block, order=order), indices)  # type: ignore[call-overload]
        first += block.shape[1]
    scores, found = topk.unpack(topk.descending(keys))
    for row, values in enumerate(np.concatenate(blocks, axis=1)):
        best = sorted((-v, i) for i, v in enumerate(values) if not np.isnan(v))[:k]
        assert [i for i in found[row] if i >= 0] == [i for _, i in best]
        assert [s for s in scores[row] if not np.isnan(s)] == [-v for v, _ in best]
