"""Search by id, by several ids, by profile and in batches, against plain float64 cosines."""

# pyright: reportAttributeAccessIssue=false

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from indexer.errors import FilterError, SettingError, UnknownSampleError
from indexer.store import Store
from search import cosine
from search.column import Column
from search.cosine import SearchedProfiles, exact_search
from search.neighbours import (
    SearchSettings,
    find_neighbours,
    search,
    search_many,
    search_profile,
    shared_filters,
)
from search.results import SearchResult

from .conftest import cosines_with, profiles_of


def expected(store: Store, query: np.ndarray, banned: set[str], chosen: np.ndarray) -> list[str]:
    ids, profiles, _ = profiles_of(store)
    scores = cosines_with(profiles, query).astype(np.float32)
    order = sorted(np.flatnonzero(chosen), key=lambda row: (-scores[row], ids[row]))
    return [ids[row] for row in order if ids[row] not in banned]


def found(result: SearchResult) -> list[str]:
    return [neighbour.sample.id for neighbour in result.neighbours]


def test_failures_near_a_sample(store: Store) -> None:
    ids, profiles, correct = profiles_of(store)
    for row in (0, 17, 159):
        result = search(store, ids[row], SearchSettings(k=7))
        assert found(result) == expected(store, profiles[row], {ids[row]}, ~correct)[:7]
        best = result.neighbours[0]
        truth = cosines_with(profiles, profiles[row])[ids.index(best.sample.id)]
        assert best.score == pytest.approx(truth, abs=1e-7)
        assert not best.sample.correct
        assert result.complete


def test_all_samples_and_filters(store: Store) -> None:
    ids, profiles, correct = profiles_of(store)
    settings = SearchSettings(k=200, among="all", filters=("weather!=rain", "speed>=30"))
    result = search(store, "r3", settings)
    rows = np.arange(len(ids))
    chosen = (rows % 3 != 1) & (rows >= 30)
    assert found(result) == expected(store, profiles[3], {"r3"}, chosen)
    assert result.filters == ("weather!=rain", "speed>=30.0")
    both = search(store, "r3", SearchSettings(k=200, filters=("label=it's",)))
    assert {neighbour.sample.label_name for neighbour in both.neighbours} == {"it's"}
    assert not any(neighbour.sample.correct for neighbour in both.neighbours)
    assert len(correct) == len(ids)


def test_several_liked_samples_count_alike(store: Store) -> None:
    ids, profiles, correct = profiles_of(store)
    liked = [profiles[row] / np.linalg.norm(profiles[row]) for row in (4, 9)]
    result = search(store, ["r4", "r9", "r4"])
    assert found(result) == expected(store, np.mean(liked, 0), {"r4", "r9"}, ~correct)[:10]
    assert [sample.id for sample in result.queries] == ["r4", "r9"]
    assert len(ids) == len(profiles)


def test_search_by_profile(store: Store) -> None:
    _, profiles, correct = profiles_of(store)
    query = search(store, "r5").query
    profile = profiles[5].astype(np.float32)
    result = search_profile(store, profile, query)  # type: ignore[arg-type]
    assert found(result) == expected(store, profiles[5], set(), ~correct)[:10]
    with pytest.raises(SettingError, match="400 filters"):
        search_profile(store, profile[:-1], query)  # type: ignore[arg-type]
    empty = search_profile(store, np.zeros(400, np.float32), query)  # type: ignore[arg-type]
    assert found(empty) == []


def test_batch_gives_what_single_searches_give(store: Store) -> None:
    ids = [f"r{row}" for row in range(0, 160, 3)]
    settings = SearchSettings(k=4)
    table = pa.Table.from_batches(search_many(store, ids, settings))
    assert table.column_names[:3] == ["query", "rank", "score"]
    for name in ids:
        rows = table.filter(pc.equal(table["query"], name))
        single = search(store, name, settings)
        assert rows["id"].to_pylist() == found(single)
        assert rows["score"].to_pylist() == [item.score for item in single.neighbours]
        assert rows["rank"].to_pylist() == [1, 2, 3, 4]
    assert len(pa.Table.from_batches(search_many(store, [], settings))) == 0


def test_find_neighbours_of_profiles(store: Store) -> None:
    ids, profiles, _ = profiles_of(store)
    queries = profiles[:20].astype(np.float32)
    exclude = [[name] for name in ids[:20]]
    many = find_neighbours(store, queries, SearchSettings(k=3), exclude)
    for name, (names, scores) in zip(ids, many, strict=False):
        single = search(store, name, SearchSettings(k=3))
        assert names == found(single)
        assert scores.tolist() == [item.score for item in single.neighbours]


@pytest.mark.parametrize("queries", [1, 3, 12])
@pytest.mark.parametrize("subset", [False, True])
def test_ties_are_complete_and_ordered_by_id(queries: int, subset: bool) -> None:
    """More rows tie than the blocked pass keeps; the first by name must still win."""
    random = np.random.default_rng(0)
    rows = np.abs(random.standard_normal((300, 16))).astype(np.float32)
    rows[50:200] = rows[50]
    names = [f"{(row * 7919) % 1000:03d}" for row in range(300)]
    column = Column((rows[:120], rows[120:]), 16)
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    profiles = SearchedProfiles(column, norms, lambda positions: [names[row] for row in positions])
    among = np.arange(0, 300, 2) if subset else None
    many = np.repeat(rows[50][None], queries, 0)
    exclude = [np.array([60])] * queries
    for hits in exact_search(profiles, many, 10, among=among, exclude=exclude):
        allowed = range(50, 200, 2 if subset else 1)
        order = sorted((row for row in allowed if row != 60), key=lambda row: names[row])
        assert hits.positions.tolist() == order[:10]
        assert len(set(hits.scores.tolist())) == 1


def test_zero_rows_are_never_found() -> None:
    rows = np.eye(6, 4, dtype=np.float32)
    profiles = SearchedProfiles(
        Column((rows,), 4), np.linalg.norm(rows, axis=1), lambda p: list(map(str, p))
    )
    (hits,) = exact_search(profiles, np.ones((1, 4), np.float32), 10)
    assert hits.positions.tolist() == [0, 1, 2, 3]
    (none,) = exact_search(profiles, np.zeros((1, 4), np.float32), 10)
    assert none.positions.tolist() == []


def test_blocks_do_not_change_the_answer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = search(store, "r8", SearchSettings(among="all"))
    monkeypatch.setattr("search.column.BLOCK_BYTES", 4 * 400 * 7)
    monkeypatch.setattr(cosine, "_SCORES", 5)
    assert search(store, "r8", SearchSettings(among="all")) == before


def test_shared_filters_add_up(store: Store) -> None:
    _, profiles, _ = profiles_of(store)
    a, b = profiles[0].astype(np.float32), profiles[1].astype(np.float32)
    layout = store.manifest.layout
    shared = shared_filters(a, b, layout, 400)
    assert sum(item.share for item in shared) == pytest.approx(cosines_with(b[None], a)[0])
    parts = [item.share for item in shared]
    assert parts == sorted(parts, reverse=True)
    assert layout.column(str(shared[0])) == int(np.argmax(a * b))
    assert shared_filters(np.zeros_like(a), b, layout) == ()


def test_mistakes_are_named(store: Store) -> None:
    with pytest.raises(UnknownSampleError, match="'nobody'"):
        search(store, "nobody")
    with pytest.raises(UnknownSampleError, match="'nobody'"):
        list(search_many(store, ["r1", "r2", "r3", "r4", "r5", "nobody"]))
    with pytest.raises(FilterError, match="did you mean 'weather'"):
        search(store, "r1", SearchSettings(filters=("wether=sun",)))
    with pytest.raises(SettingError, match="k=0"):
        SearchSettings(k=0)
    with pytest.raises(SettingError, match="at least one sample"):
        search(store, [])


def test_a_warm_search_needs_no_database_library(store: Store) -> None:
    search(store, "r1")
    code = (
        "import sys; from indexer.store import Store; from search.neighbours import search\n"
        f"print(len(search(Store.open({str(store.path)!r}), 'r1')))\n"
        "print(*{'lancedb', 'torch', 'pandas', 'sklearn', 'scipy'} & set(sys.modules))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["10"]
