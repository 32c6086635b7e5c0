"""Profiles in bytes: bounds that hold, the same answers as without, files made again."""

from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.store import Store
from search import coarse as module
from search import snapshot as snapshots
from search import topk
from search.coarse import Coarse, best_keys, best_pairs, coarsen
from search.column import Column
from search.cosine import SearchedProfiles, exact_search
from search.neighbours import SearchSettings, search, search_many
from search.snapshot import snapshot
from search.stored_graph import neighbour_graph

pytest.importorskip("numkong")


def coarse_of(rows: np.ndarray, positions: np.ndarray, signed: bool) -> Coarse:
    lengths = np.linalg.norm(rows[positions].astype(np.float64), axis=1)
    return Coarse(positions, *coarsen(rows[positions], lengths, signed))


def profiles_of(rows: np.ndarray, coarse: Coarse | None) -> SearchedProfiles:
    names = [f"{(row * 7919) % 1000:03d}" for row in range(len(rows))]
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    column = Column((rows,), rows.shape[1])
    return SearchedProfiles(column, lengths, lambda found: [names[row] for row in found], coarse)


def bounds_of(keys: np.ndarray, columns: int) -> np.ndarray:
    """Return the upper bounds in keys by row of the column, NaN for those that are not there."""
    uppers, positions = topk.unpack(keys)
    found = np.full((len(keys), columns), np.nan)
    for row, (upper, place) in enumerate(zip(uppers, positions, strict=True)):
        found[row, place[place >= 0]] = upper[place >= 0]
    return found


@settings(max_examples=40)
@given(
    width=st.sampled_from([1, 3, 64, 500, 30_000, 70_000]),
    tail=st.floats(0.1, 3),
    signed=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_cosine_exceeds_its_bound(width: int, tail: float, signed: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.lognormal(random.uniform(-20, 20), tail, (9, width)).astype(np.float32)
    rows *= random.choice([-1, 1], rows.shape) if signed else 1
    rows[4] = 0
    queries = random.lognormal(0, tail, (3, width)).astype(np.float32)
    queries[1] *= -1  # also where the rows have no signs
    coarse = coarse_of(rows, np.arange(9), signed)
    wide, asked = rows.astype(np.float64), queries.astype(np.float64)
    lengths = np.linalg.norm(asked, axis=1)
    with np.errstate(invalid="ignore"):
        unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    found = bounds_of(best_keys(coarse, queries, lengths, 9), 9)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(unit @ asked.T).T)
    truth = (asked / lengths[:, None]) @ unit.T
    assert (np.isnan(found) | (found >= truth)).all()
    pairs = bounds_of(best_pairs(coarse, 9), 9)
    assert np.isnan(np.diag(pairs)).all()
    assert (np.isnan(pairs) | (pairs >= unit @ unit.T)).all()
    assert np.count_nonzero(np.isnan(pairs)) == 8 + 8 + 9, "itself, and all about the row of zeros"
    if width == 500 and tail < 1:
        assert np.nanmax(pairs - unit @ unit.T) < 0.2


@pytest.mark.parametrize("sizes", [(512, 4 * 2**20), (7, 40)])
def test_pairs_meet_once_and_serve_both_sides(
    sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in zip(("_SIDE", "_SCORES"), sizes, strict=True):
        monkeypatch.setattr(module, name, size)
    rows = np.random.default_rng(0).random((53, 20)).astype(np.float32)
    coarse = coarse_of(rows, np.arange(53), signed=False)
    seen: list[tuple[int, int]] = []
    pairs = best_pairs(coarse, 52, lambda *at: seen.append(at))
    everything = bounds_of(best_keys(coarse, rows, np.linalg.norm(rows, axis=1), 53), 53)
    np.fill_diagonal(everything, np.nan)
    np.testing.assert_allclose(bounds_of(pairs, 53), everything, atol=1e-6)
    assert seen[-1] == (53 * 54 // 2,) * 2
    assert seen == sorted(seen)


@pytest.mark.parametrize("kept", [1, module.KEPT])
@pytest.mark.parametrize("queries", [1, 30])
@pytest.mark.parametrize("signed", [False, True])
def test_answers_are_those_without_them(
    kept: int, queries: int, signed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for queries whose candidates are more than are kept, ties and rows of zeros."""
    monkeypatch.setattr("search.cosine.KEPT", kept)
    random = np.random.default_rng(1)
    rows = np.abs(random.standard_normal((400, 24))).astype(np.float32)
    rows *= random.choice([-1, 1], rows.shape) if signed else 1
    rows[100:180] = rows[100]
    rows[7] = 0
    among = np.arange(0, 400, 2)
    bytewise = profiles_of(rows, coarse_of(rows, among, signed))
    asked = np.concatenate([rows[[100, 7, 3]], -rows[[4]], rows[10:36]])[:queries]
    exclude = [np.array([102, 5])] * queries
    found = exact_search(bytewise, asked, 6, among=among, exclude=exclude)
    plain = exact_search(replace(bytewise, coarse=None), asked, 6, among=among, exclude=exclude)
    for mine, theirs in zip(found, plain, strict=True):
        assert mine.positions.tolist() == theirs.positions.tolist()
        assert mine.scores.tolist() == theirs.scores.tolist()


def test_they_are_made_at_the_second_search_and_found_by_other_processes(fresh: Store) -> None:
    settings = SearchSettings(k=7)
    first, version = search(fresh, "r1", settings), snapshot(fresh)
    files = [version.folder / name for name in ("failures.bytes", "failures.npy")]
    assert not any(file.exists() for file in files)
    assert search(fresh, "r1", settings) == first
    assert all(file.exists() for file in files)
    assert files[0].stat().st_size == len(version.failures) * version.column.width
    again = snapshot(Store.open(fresh.path))
    assert again.coarse() is not None
    assert search(again.store, "r1", settings) == first


def test_many_queries_make_them_at_once(fresh: Store) -> None:
    list(search_many(fresh, [f"r{row}" for row in range(9)]))
    assert (snapshot(fresh).folder / "failures.bytes").exists()


@pytest.mark.parametrize("name", ["failures.bytes", "failures.npy"])
def test_damaged_files_are_made_again(fresh: Store, name: str) -> None:
    assert snapshot(fresh).coarse(make=True) is not None
    (snapshot(fresh).folder / name).write_bytes(b"nonsense")
    again = snapshot(Store.open(fresh.path))
    assert again.coarse() is None
    assert again.coarse() is not None


def test_very_many_are_only_made_on_request(fresh: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "COARSE_AT_ONCE", 1)
    version = snapshot(fresh)
    assert [version.coarse() for _ in range(3)] == [None] * 3
    assert version.coarse(make=True) is not None


@pytest.mark.parametrize("trouble", ["little room", "full", "no numkong"])
def test_without_them_answers_are_the_same(
    fresh: Store, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = search(fresh, "r1")
    if trouble == "little room":
        usage = namedtuple("usage", "free")(100)
        monkeypatch.setattr("search.coarse_file.shutil.disk_usage", lambda _: usage)
    elif trouble == "full":

        def full(*_: object) -> bool:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("indexer.durability.sync_path", full)
    else:
        monkeypatch.setattr(snapshots, "numkong", lambda: None)
    version = snapshot(fresh)
    assert version.coarse(make=True) is None
    assert not list(Path(version.folder).glob("failures*"))
    assert search(fresh, "r1") == expected
    graph = neighbour_graph(fresh, k=4)
    assert len(graph) == len(version.failures)


@pytest.mark.parametrize("k", [4, 500])
def test_the_graph_is_that_of_single_searches(
    fresh: Store, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.cosine.QUERY_BYTES", 400 * 4 * 9)  # several blocks of rows
    graph = neighbour_graph(fresh, k=k)
    assert graph.k == min(k, len(graph) - 1)
    for row, name in enumerate(graph.ids):
        single = search(fresh, name, SearchSettings(k=k))
        assert [graph.ids[n] for n in graph.indices[row]] == [
            item.sample.id for item in single.neighbours
        ]
        assert graph.scores[row].tolist() == [item.score for item in single.neighbours]
